"""One record at a time: to an event, a skip, or the precise refusal. `contract` adds the fast way."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

import msgspec

from ingest import explain
from ingest.cloudevents import event_text
from ingest.events import Event
from ingest.jsontext import (
    Refused,
    check_object,
    check_text,
    has_long_fraction,
    has_treacherous_escape,
    invalid,
    text_member,
    without_lone_surrogates,
)
from ingest.record import LOG_APPEND_TIME, Reason, Record, Reject

LONGEST_DETAIL = 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large an event may be and when it may have happened; both ends of the time are included."""

    max_event_bytes: int = 64 * 1024
    max_clock_skew: timedelta = timedelta(minutes=5)
    earliest_time: datetime = datetime(2000, 1, 1, tzinfo=UTC)


class _Nothing(msgspec.Struct, tag_field="type", tag="\0"):
    """No event has this type. It makes every decoder one of several types: one of a single type would
    accept an event that says no type at all.
    """

    def __post_init__(self) -> None:
        raise ValueError("type: unknown")


class SingleDecoder:
    """Decodes records one at a time; its subclass in `contract` is the one to use."""

    def __init__(
        self, folds: Sequence[type[Event]], topic: str, catalogue: Mapping[str, str], limits: Limits
    ) -> None:
        self._topic, self._catalogue, self._limits = topic, catalogue, limits
        self._folds = {event.type_name(): event for event in folds}
        skips = [name for name, home in catalogue.items() if home == topic and name not in self._folds]
        self._skips = {msgspec.defstruct("Skipped", (), tag_field="type", tag=n, gc=False) for n in skips}
        self._kinds = frozenset(folds)
        union = reduce(or_, (*folds, *self._skips, _Nothing))
        self._decode: Callable[[Any], Any] = msgspec.json.Decoder(union).decode
        self._earliest = limits.earliest_time.astimezone(UTC)

    def decode(self, record: Record, now: datetime) -> Event | Reject | None:
        """What one record is; None where its type belongs to this topic but is not folded here.

        `now` is the worker's clock, aware; it judges `future` where the broker did not stamp the record.
        """
        try:
            event = self._event(event_text(record, self._limits.max_event_bytes))
            if event is not None:
                self._check_time(event.time, record, now)
            return event
        except Refused as refused:
            return Reject(record, refused.reason, refused.detail[:LONGEST_DETAIL])

    def _event(self, value: bytes) -> Event | None:
        check_text(value)
        try:
            event = self._decode(value)
            if type(event) in self._skips:
                return None
            _settle(event, value)
            return event  # type: ignore[no-any-return]
        except (MemoryError, Refused):
            raise
        except Exception as error:  # a type brought by a projection may raise anything
            return self._recovered(value, error)

    def _recovered(self, value: bytes, error: Exception) -> Event | None:
        """The event or the skip that `value` is in spite of `error`; else raises the precise refusal."""
        paired = without_lone_surrogates(value)
        if paired != value:
            return self._event(paired)
        check_object(value)
        name = text_member(value, "type")
        home = self._catalogue.get(name)
        if home is None:
            raise Refused(Reason.UNKNOWN_TYPE, f"type: {name[:100]!a} is not known")
        if home != self._topic:
            raise Refused(Reason.WRONG_TOPIC, f"type: {name} belongs to {home}, not to {self._topic}")
        if name not in self._folds:
            return None
        raise explain.explained(error, value, self._folds[name]) from None

    def _check_time(self, time: datetime, record: Record, now: datetime) -> None:
        stamped = record.timestamp_type == LOG_APPEND_TIME and record.timestamp >= 0
        latest = self._latest(record.timestamp) if stamped else now + self._limits.max_clock_skew
        if time > latest:
            clock = "the broker's timestamp" if stamped else "the clock"
            seconds = (time - latest + self._limits.max_clock_skew).total_seconds()
            raise Refused(Reason.FUTURE, f"time: {seconds:.3f} s ahead of {clock}")
        if time < self._earliest:
            raise Refused(Reason.PAST, f"time: before {self._earliest.isoformat()}")

    def _latest(self, milliseconds: int) -> datetime:
        try:
            return EPOCH + milliseconds * MILLISECOND + self._limits.max_clock_skew
        except OverflowError:
            return datetime.max.replace(tzinfo=UTC)


class _Time(msgspec.Struct):
    time: str


_time_of = msgspec.json.Decoder(_Time).decode


def _settle(event: Event, value: bytes) -> None:
    """Brings the time into its final form, and refuses text that cannot be stored."""
    if has_treacherous_escape(value) and (place := _find_nul("", event)):
        raise invalid(place, "holds U+0000 or half a surrogate pair, which cannot be stored")
    if b"\\" in value or has_long_fraction(value):
        cut_time(event, value)
    if event.time.tzinfo is not UTC:
        event.time = event.time.astimezone(UTC)


def cut_time(event: Event, value: bytes) -> None:
    """Cuts off, in an event decoded from `value`, what its time tells beyond microseconds.

    Raises what the event's own check raises where it holds no more.
    """
    time = explain.cut(_time_of(value).time)
    if time != event.time:
        event.time = time
        if check := getattr(event, "__post_init__", None):
            check()


def _find_nul(path: str, value: object) -> str | None:
    """Path of the first text in `value` that holds U+0000, written as msgspec writes paths."""
    if isinstance(value, str):
        return path if "\0" in value else None
    parts: Iterable[tuple[str, object]] = ()
    if isinstance(value, msgspec.Struct):
        names = [f"{path}.{name}".lstrip(".") for name in value.__struct_encode_fields__]
        parts = zip(names, msgspec.structs.astuple(value), strict=True)
    elif isinstance(value, Mapping):
        parts = [(f"{path}[...]", text) for text in (*value, *value.values())]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = [(f"{path}[{place}]", part) for place, part in enumerate(value)]
    return next(filter(None, (_find_nul(name, part) for name, part in parts)), None)
