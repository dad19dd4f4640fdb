"""What is measured: for each case a projection, a topic of its own, and the events in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeAlias

from ingest.contract import encode

Message: TypeAlias = tuple[bytes, bytes]
"""Key and value."""

SOURCE = "/web/api"
ZONES = (None, None, None, "UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Sydney")
USER_TYPES = (
    *("user.active",) * 8, "user.logged_in", "user.session_refreshed", "user.session_refreshed",
    *("learning.lesson_viewed",) * 3, "learning.lesson_completed",
    "learning.problem_viewed", "learning.problem_solved", "learning.problem_solved", "learning.course_viewed",
)  # fmt: skip
DAYS = 7


@dataclass(frozen=True, slots=True)
class Case:
    """`share` is the part of --events that it publishes; `keys` how many clients, users or sessions."""

    name: str
    projection: str
    keys: int
    share: float
    make: Callable[["Case", int, datetime], Iterator[Message]]

    def messages(self, events: int, end: datetime) -> Iterator[Message]:
        """Always the same ones but for their times, the last of which is `end`."""
        return self.make(self, round(events * self.share), end)


def _id(random: Random) -> str:
    return f"01JD{random.getrandbits(110):022X}"[:26]


def _clients(case: Case, events: int, end: datetime) -> Iterator[Message]:
    """Random clients, 1 ms apart."""
    random = Random(1)
    for number in range(events):
        yield _seen(random, random.randrange(case.keys), end - timedelta(milliseconds=events - number))


def _new_clients(case: Case, events: int, end: datetime) -> Iterator[Message]:
    """Every client once, as far as the events go."""
    random = Random(1)
    order = list(range(case.keys))
    random.shuffle(order)
    for number in range(events):
        yield _seen(random, order[number % case.keys], end - timedelta(milliseconds=events - number))


def _seen(random: Random, number: int, time: datetime) -> Message:
    client = f"client-{number:07}"
    return client.encode(), encode("client.seen", _id(random), SOURCE, time, {"client_id": client})


def _users(case: Case, events: int, end: datetime) -> Iterator[Message]:
    """A week of random users who learn now and then, some of them in time zones of their own."""
    random = Random(2)
    step = timedelta(days=DAYS) / events
    for number in range(events):
        user = f"user-{random.randrange(case.keys):07}"
        kind = random.choice(USER_TYPES)
        data: dict[str, Any] = {"user_id": user}
        if zone := ZONES[hash_of(user) % len(ZONES)]:
            data["timezone"] = zone
        if kind.startswith("learning."):
            thing = kind.removeprefix("learning.").partition("_")[0]
            data[f"{thing}_id"] = f"{thing}-{random.randrange(2_000):04}"
        yield user.encode(), encode(kind, _id(random), SOURCE, end - step * (events - number), data)


def hash_of(name: str) -> int:
    """A number that is the same in every run, unlike `hash`."""
    return int(name.rpartition("-")[2]) * 2_654_435_761 >> 7


def _sessions(case: Case, events: int, end: datetime) -> Iterator[Message]:
    """Heartbeats of all sessions in turn, 5 s between two of one session; a few end."""
    random = Random(3)
    order = list(range(case.keys))
    random.shuffle(order)
    step = timedelta(seconds=5) / case.keys
    for number in range(events):
        session = order[number % case.keys]
        user = f"user-{session * 9 // 10:07}"
        data: dict[str, Any] = {"user_id": user, "session_id": f"session-{session:07}"}
        kind = "live.ended" if random.random() < 0.002 else "live.heartbeat"
        if kind == "live.heartbeat":
            data |= {
                "activity_type": "watching", "content_id": f"title-{session % 5000:04}",
                "content_title": f"The {session % 5000}th story", "content_type": "episode",
                "season_number": 1 + session % 5, "episode_number": 1 + session % 12,
                "current_position": number // case.keys * 5, "duration": 2_640,
                "quality": "1080p", "device_type": "tv", "country": "FR",
            }  # fmt: skip
        yield user.encode(), encode(kind, _id(random), SOURCE, end - step * (events - number), data)


CASES = (
    Case("client hot", "client_activity", 5_000, 1.0, _clients),
    Case("client warm", "client_activity", 100_000, 0.5, _clients),
    Case("client cold", "client_activity", 1_000_000, 1.0, _new_clients),
    Case("user", "user_activity", 100_000, 0.5, _users),
    Case("streaks", "streaks", 100_000, 0.3, _users),
    Case("live", "live_activity", 100_000, 0.3, _sessions),
)


def now() -> datetime:
    return datetime.now(UTC)
