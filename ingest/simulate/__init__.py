"""Realistic traffic out of a seed: who comes when, what they do, and how it reaches Kafka.

`people` says who there is, `visits` what they do, `network` how it arrives, `broken` how it goes
wrong; this file spreads the visits over the days. No clock is read: the
simulated days end at `Simulation.end`, and the same simulation always makes the same bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from math import exp
from random import Random

from ingest.simulate.network import Message, Network
from ingest.simulate.people import (
    DAY_S,
    HOUR_S,
    HOURLY_CUMULATIVE,
    Crowd,
    User,
    make_clients,
    make_crowds,
    make_users,
    zipf,
)
from ingest.simulate.visits import LONG_VISITS, Draft, Visit, glance, subject

RUSH = 60.0  # how much busier the last moment is than a usual one
RUSH_S = 8 * HOUR_S
CLIENT_SHARE = 0.3
VISIT = 16  # events in a long visit, about
EVERY_DAY_SHARE = 0.4  # of the events, for the short visits that make the days active


__all__ = ["Message", "Simulation", "simulate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What to simulate. `duplicates`, `disorder` and `invalid` are shares between 0 and 1.

    `events` is about how many messages there are, duplicates and invalid ones among them. With
    `user_id`, the one user has this id and comes nearly every day. The traffic of `days` days ends
    at `end`, and most of it lies shortly before.
    """

    end: datetime
    users: int = 2_000
    clients: int = 400
    user_id: str | None = None
    days: int = 14
    events: int = 50_000
    duplicates: float = 0.02
    disorder: float = 0.05
    invalid: float = 0.01
    seed: int = 1


def simulate(simulation: Simulation) -> Iterator[Message]:
    """Make the messages in the order of publishing; memory is bounded by what is under way."""
    if not simulation.clients and not simulation.users:
        return
    traffic = _Traffic(simulation)
    for hour in traffic.hours:
        yield from traffic.network.due(traffic.start + hour * HOUR_S)
        traffic.fill(hour)
    yield from traffic.network.due(float("inf"))


class _Traffic:
    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.rng = Random(simulation.seed)
        self.end = simulation.end.timestamp()
        self.start = self.end - simulation.days * DAY_S
        s = simulation
        self.hours = range(s.days * 24)
        self.network = Network(self.rng, s.duplicates, s.disorder, s.invalid, self.end)
        self.users = self._users()
        self.crowds = make_crowds(self.rng, self.users)
        self.clients = make_clients(self.rng, simulation.clients, self.start, self.end)
        self.client_weights = tuple(accumulate(zipf(simulation.clients)))
        self.planned = self._every_day()
        middles = [self.start + (hour + 0.5) * HOUR_S for hour in self.hours]
        self.mass = [[crowd.mass(middle) for crowd in self.crowds] for middle in middles]
        self.weights = self._weights()
        self.weight_left = sum(self.weights)
        self._import_streaks()

    def _users(self) -> list[User]:
        s = self.simulation
        if s.user_id is None:
            return make_users(self.rng, s.users, self.start, self.end)
        user = make_users(self.rng, 1, self.start, self.end)[0]
        return [user._replace(id=s.user_id, habit=0.95, since=self.start, until=self.end)]

    def _every_day(self) -> list[list[tuple[float, User]]]:
        """For each hour, the short visits that users make out of habit."""
        s, rng = self.simulation, self.rng
        planned: list[list[tuple[float, User]]] = [[] for _ in self.hours]
        wanted = sum(user.habit * (user.until - user.since) / DAY_S for user in self.users)
        scale = min(1.0, EVERY_DAY_SHARE * s.events / (1.3 * wanted)) if wanted else 0.0
        for day in range(s.days):
            midnight = self.start + day * DAY_S
            for user in self.users:
                if rng.random() < user.habit * scale:
                    time = midnight + _hour_of_day(rng, user, midnight) * HOUR_S
                    if user.since <= time <= user.until:
                        planned[int((time - self.start) // HOUR_S)].append((time, user))
        return planned

    def _weights(self) -> list[float]:
        """How busy each hour is: people's days and nights, and a rush towards the end."""
        rush = RUSH if self.simulation.user_id is None else 0.0
        sums = [sum(mass) for mass in self.mass]
        usual = sum(sums) / len(sums) or 1.0
        last = len(sums) - 0.5
        return [
            (0.05 + about / usual) * (1.0 + rush * exp((hour - last) * HOUR_S / RUSH_S))
            for hour, about in enumerate(sums)
        ]

    def _import_streaks(self) -> None:
        """A few users bring a streak from the system before this one."""
        last_day = datetime.fromtimestamp(self.start, UTC).date() - timedelta(days=1)
        known = [user for user in self.users if user.since == self.start]
        for user in known[:: max(1, len(known) // 20)]:
            current = self.rng.randint(1, 60)
            data = subject(self.rng, user) | {
                "current_streak": current,
                "max_streak": current + self.rng.randint(0, 40),
                "last_activity_date": last_day.isoformat(),
            }
            self.network.send(user.id, "/import/streaks", UTC, Draft(self.start, "streak.imported", data))

    def fill(self, hour: int) -> None:
        """Send this hour's share of what is left of the events to make."""
        left = self.simulation.events - self.network.sent
        goal = self.network.sent + left * self.weights[hour] / self.weight_left
        self.weight_left -= self.weights[hour]
        for time, user in self.planned[hour]:
            self._visit(glance, user, time)
        idle = 0
        while (gap := goal - self.network.sent) > 0 and idle < 1_000:
            sent = self.network.sent
            time = self.start + (hour + self.rng.random()) * HOUR_S
            if self._client_is_next():
                self._client(time)
            # A gap shorter than a visit is filled by chance, or the quiet hours would get too much.
            elif gap < VISIT * self.rng.random():
                break
            else:
                self._somebody(self.rng.choices(self.crowds, self.mass[hour])[0], time)
            idle = 0 if self.network.sent > sent else idle + 1

    def _client_is_next(self) -> bool:
        """Whether the next to come is a client; the odds make up for the length of a visit."""
        odds = VISIT * CLIENT_SHARE / (1 - CLIENT_SHARE)
        return not self.crowds or (bool(self.clients) and self.rng.random() < odds / (1 + odds))

    def _client(self, time: float) -> None:
        client = self.rng.choices(self.clients, cum_weights=self.client_weights)[0]
        if client.since <= time <= client.until:
            draft = Draft(time, "client.seen", {"client_id": client.id})
            self.network.send(client.id, "/edge/gateway", UTC, draft)

    def _somebody(self, crowd: Crowd, time: float) -> None:
        user = crowd.draw(self.rng)
        if user.since <= time <= user.until:
            self._visit(self.rng.choice(LONG_VISITS), user, time)

    def _visit(self, visit: Visit, user: User, time: float) -> None:
        for draft in visit(self.rng, user, time):
            if draft.time <= self.end:
                self.network.send(user.id, user.source, user.zone, draft)


def _hour_of_day(rng: Random, user: User, midnight: float) -> float:
    """An hour, with fraction, after this moment at which the user is likely to be about."""
    offset = datetime.fromtimestamp(midnight + DAY_S / 2, user.zone).utcoffset() or timedelta()
    local = rng.choices(range(24), cum_weights=HOURLY_CUMULATIVE)[0] + rng.random()
    return (local - (midnight + offset.total_seconds()) / HOUR_S) % 24
