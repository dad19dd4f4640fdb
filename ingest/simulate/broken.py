"""Events as they arrive from software with bugs: one way of being wrong for each reason of refusal."""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple, TypeAlias

from msgspec import json

from ingest.record import Reason

EventDict: TypeAlias = dict[str, Any]
TOPICS = ("activity.client", "activity.user", "activity.live")


class Wrong(NamedTuple):
    """What goes wrong, how often beside the others, and what a worker must call it."""

    share: int
    reason: Reason
    spoil: Callable[[Random, str, EventDict], tuple[str, bytes]]


def cut_short(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    whole = json.encode(event)
    return topic, whole[: rng.randrange(1, len(whole))]


def not_utf8(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    return topic, json.encode(event).replace(b'"source":"/', b'"source":"\xff\xfe')


def not_an_object(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    return topic, json.encode([event])


def field_missing(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    gone = rng.choice(("id", "source", "time", "data"))
    return topic, json.encode({name: value for name, value in event.items() if name != gone})


def subject_missing(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    data = {name: v for name, v in event["data"].items() if name not in ("user_id", "client_id")}
    return topic, json.encode(event | {"data": data})


def number_for_text(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    return topic, json.encode(event | {"id": rng.getrandbits(32)})


def no_offset(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    return topic, json.encode(event | {"time": "2026-01-31 08:15:00"})


def unknown_type(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    return topic, json.encode(
        event | {"type": rng.choice(("user.logged_off", "client.heartbeat", "User.Active"))}
    )


def wrong_topic(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    return rng.choice([other for other in TOPICS if other != topic]), json.encode(event)


def far_future(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    return topic, json.encode(event | {"time": f"{rng.randint(2100, 9990)}{event['time'][4:10]}T00:00:00Z"})


def too_old(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    old = event | {"time": rng.choice(("1970-01-01T00:00:00Z", "1999-12-31T23:59:59+00:00"))}
    if "last_activity_date" in event["data"]:  # or it would come after the time, which is another mistake
        old["data"] = event["data"] | {"last_activity_date": "1969-12-01"}
    return topic, json.encode(old)


def bad_zone(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    """Only user events name a zone, so anything else becomes one."""
    zone = rng.choice(("Mars/Olympus_Mons", "+25:00", "localtime", "GMT+5:30"))
    user = event["data"].get("user_id", "user-000001")
    return TOPICS[1], json.encode(
        event | {"type": "user.active", "data": {"user_id": user, "timezone": zone}}
    )


def nul(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    return topic, json.encode(event | {"id": event["id"] + "\0"})


def too_long(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    return topic, json.encode(event | {"id": event["id"] * 8})


def too_large(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    return topic, json.encode(event | {"debug": "x" * 66_000})


WRONGS = (
    Wrong(12, Reason.MALFORMED, cut_short),
    Wrong(3, Reason.MALFORMED, not_utf8),
    Wrong(3, Reason.MALFORMED, not_an_object),
    Wrong(9, Reason.INVALID, field_missing),
    Wrong(9, Reason.INVALID, subject_missing),
    Wrong(5, Reason.INVALID, number_for_text),
    Wrong(6, Reason.INVALID, no_offset),
    Wrong(14, Reason.UNKNOWN_TYPE, unknown_type),
    Wrong(9, Reason.WRONG_TOPIC, wrong_topic),
    Wrong(8, Reason.FUTURE, far_future),
    Wrong(7, Reason.PAST, too_old),
    Wrong(7, Reason.INVALID, bad_zone),
    Wrong(3, Reason.INVALID, nul),
    Wrong(3, Reason.INVALID, too_long),
    Wrong(2, Reason.TOO_LARGE, too_large),
)
SHARES = tuple(wrong.share for wrong in WRONGS)


def spoiled(rng: Random, topic: str, event: EventDict) -> tuple[str, bytes]:
    """The event made wrong in one of the ways above: the topic it is sent to and its bytes."""
    return rng.choices(WRONGS, SHARES)[0].spoil(rng, topic, event)
