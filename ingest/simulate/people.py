"""Who there is in a simulation: users with habits, time zones and devices, and clients."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import accumulate
from random import Random
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY_S = 86_400.0
HOUR_S = 3_600.0

# How likely people are to be about at each hour of their own day.
HOURLY = (4, 2, 1, 1, 1, 2, 6, 12, 18, 20, 20, 19, 22, 20, 18, 18, 20, 24, 30, 38, 42, 36, 22, 10)
HOURLY_CUMULATIVE = tuple(accumulate(HOURLY))


class Place(NamedTuple):
    zone: str
    country: str
    share: int


# Zones with and without summer time, north and south, and fixed offsets down to a quarter of an hour.
PLACES = (
    Place("America/New_York", "US", 18),
    Place("America/Los_Angeles", "US", 10),
    Place("America/Sao_Paulo", "BR", 9),
    Place("America/St_Johns", "CA", 2),
    Place("Europe/London", "GB", 10),
    Place("Europe/Berlin", "DE", 12),
    Place("Europe/Istanbul", "TR", 5),
    Place("Africa/Lagos", "NG", 5),
    Place("Asia/Kolkata", "IN", 9),
    Place("+05:30", "IN", 6),
    Place("Asia/Kathmandu", "NP", 2),
    Place("Asia/Tokyo", "JP", 7),
    Place("Australia/Sydney", "AU", 3),
    Place("Pacific/Auckland", "NZ", 1),
    Place("-09:30", "PF", 1),
)
DEVICES = ("web", "ios", "android", "smart_tv", "tablet")
SOURCES = ("/web/api", "/mobile/ios", "/mobile/android")


def zone_of(name: str) -> tzinfo:
    """The zone of an IANA name or of a fixed offset such as `-09:30`."""
    if name[0] not in "+-":
        return ZoneInfo(name)
    offset = timedelta(hours=int(name[1:3]), minutes=int(name[4:6]))
    return timezone(-offset if name[0] == "-" else offset)


class User(NamedTuple):
    id: str
    place: Place
    zone: tzinfo
    names_zone: bool  # whether this user's software puts the time zone into events
    source: str
    devices: tuple[str, ...]
    courses: tuple[int, ...]
    habit: float  # chance of at least one visit a day
    since: float  # epoch seconds between which the user comes at all
    until: float


class Client(NamedTuple):
    id: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Crowd:
    """Some users who share a zone, drawn by Zipf-like weight."""

    zone: tzinfo
    users: tuple[User, ...]
    weights: tuple[float, ...]  # cumulative

    def mass(self, epoch_s: float) -> float:
        """How much of the traffic at this moment is theirs."""
        local = datetime.fromtimestamp(epoch_s, self.zone)
        return self.weights[-1] * HOURLY[local.hour]

    def draw(self, rng: Random) -> User:
        return rng.choices(self.users, cum_weights=self.weights)[0]


def zipf(count: int, exponent: float = 0.8) -> list[float]:
    return [1.0 / rank**exponent for rank in range(1, count + 1)]


def life(rng: Random, start: float, end: float) -> tuple[float, float, float]:
    """(chance of coming on a day, since, until) of somebody streaky, regular, lapsed or new."""
    kind = rng.random()
    if kind < 0.20:
        return 0.97, start, end
    if kind < 0.70:
        return 0.05 + 0.5 * rng.random(), start, end
    moment = start + (end - start) * rng.random()
    if kind < 0.86:
        return 0.6, start, max(start, moment - DAY_S)
    return 0.6, moment, end


def make_users(rng: Random, count: int, start: float, end: float) -> list[User]:
    shares = [place.share for place in PLACES]
    zones = {place: zone_of(place.zone) for place in PLACES}
    users = []
    for number in range(1, count + 1):
        place = rng.choices(PLACES, shares)[0]
        users.append(
            User(
                id=f"user-{number:06d}",
                place=place,
                zone=zones[place],
                names_zone=rng.random() < 0.85,
                source=rng.choice(SOURCES),
                devices=tuple(rng.sample(DEVICES, rng.choice((1, 1, 2, 3)))),
                courses=tuple(rng.sample(range(40), rng.randint(1, 3))),
                **dict(zip(("habit", "since", "until"), life(rng, start, end), strict=True)),
            )
        )
    return users


def make_clients(rng: Random, count: int, start: float, end: float) -> list[Client]:
    clients = []
    for number in range(1, count + 1):
        name = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=8))
        _, since, until = life(rng, start, end)
        clients.append(Client(f"{name[:4]}_{name[4:]}_{number:04d}", since, until))
    return clients


def make_crowds(rng: Random, users: list[User]) -> list[Crowd]:
    weights = zipf(len(users))
    rng.shuffle(weights)
    by_zone: dict[Place, list[tuple[User, float]]] = {}
    for user, weight in zip(users, weights, strict=True):
        by_zone.setdefault(user.place, []).append((user, weight))
    return [
        Crowd(members[0][0].zone, tuple(u for u, _ in members), tuple(accumulate(w for _, w in members)))
        for members in by_zone.values()
    ]
