"""Records and decoders for the tests of the contract."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from ingest.contract import KNOWN_EVENTS, Decoder, Event, Limits
from ingest.record import Reason, Reject

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CATALOGUE = {event.type_name(): event.topic for event in KNOWN_EVENTS}
TYPES = {event.type_name(): event for event in KNOWN_EVENTS}

DATA: Mapping[str, Mapping[str, Any]] = {
    "client.seen": {"client_id": "c"},
    "user.active": {"user_id": "u"},
    "user.logged_in": {"user_id": "u"},
    "user.session_refreshed": {"user_id": "u"},
    "learning.lesson_viewed": {"user_id": "u", "lesson_id": "l"},
    "learning.lesson_completed": {"user_id": "u", "lesson_id": "l"},
    "learning.problem_viewed": {"user_id": "u", "problem_id": "p"},
    "learning.problem_solved": {"user_id": "u", "problem_id": "p"},
    "learning.course_viewed": {"user_id": "u", "course_id": "k"},
    "streak.imported": {
        "user_id": "u",
        "current_streak": 3,
        "max_streak": 9,
        "last_activity_date": "2026-11-20",
    },
    "live.heartbeat": {"user_id": "u", "session_id": "s", "activity_type": "watching"},
    "live.ended": {"user_id": "u", "session_id": "s"},
}
"""The least that each type must carry."""


@dataclass(frozen=True)
class Raw:
    """A record as a consumer hands it over."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp: int = 0
    timestamp_type: int = 0
    topic: str = "activity.client"
    partition: int = 0
    offset: int = 0
    key: bytes | None = b"k"


def event(type: str = "client.seen", data: Any = None, **more: Any) -> dict[str, Any]:
    """A valid event of `type`, with members changed or added by `data` and `more`."""
    return {
        "specversion": "1.0",
        "id": "i",
        "source": "/s",
        "type": type,
        "time": "2026-11-21T10:00:00.123Z",
        "data": {**DATA.get(type, {}), **(data or {})},
        **more,
    }


def text(*args: Any, **more: Any) -> bytes:
    """The same as JSON."""
    return msgspec.json.encode(event(*args, **more))


def decoder(topic: str, *folds: type[Event], limits: Limits | None = None) -> Decoder:
    """For `folds`, or where none are named for all types of `topic`."""
    types = folds or tuple(e for e in KNOWN_EVENTS if e.topic == topic)
    return Decoder(types, topic, CATALOGUE, limits or Limits())


def decode(value: bytes | None, topic: str | None = None, **more: Any) -> Event | Reject | None:
    """What a record with this value is to a decoder of all types of its topic."""
    if topic is None:
        topic = next(
            (home for name, home in CATALOGUE.items() if name.encode() in (value or b"")), "activity.client"
        )
    return decoder(topic).decode(Raw(value, **more), NOW)


def accepted(value: bytes, **more: Any) -> Any:
    found = decode(value, **more)
    assert isinstance(found, Event), found
    return found


def rejected(value: bytes | None, **more: Any) -> tuple[Reason, str]:
    found = decode(value, **more)
    assert isinstance(found, Reject), found
    assert len(found.detail) <= 500
    return found.reason, found.detail


def why_invalid(value: bytes, **more: Any) -> str:
    reason, detail = rejected(value, **more)
    assert reason == "invalid", detail
    return detail
