"""The wire contract: from the bytes of a record to an event, or to a Reject that says which field and why.

Reasons are looked for in this order, and the first that applies is the one given: too_large;
malformed; `type` missing or not text (invalid); unknown_type; wrong_topic; then a known type of this
topic that is not folded here is skipped, its fields unread; invalid; future; past.

`time` is RFC 3339 with an offset; what msgspec reads beyond it is accepted too: a space for the `T`
and an offset without its colon. Digits beyond microseconds are cut off, and a leap second is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ingest.cloudevents import event_text
from ingest.decoding import Limits, SingleDecoder, cut_time
from ingest.events import (
    KNOWN_EVENTS,
    ClientSeen,
    Count,
    CourseViewed,
    Data,
    Event,
    LessonCompleted,
    LessonViewed,
    LiveEnded,
    LiveHeartbeat,
    ProblemSolved,
    ProblemViewed,
    SessionRefreshed,
    StreakImported,
    Text128,
    Text255,
    UserActive,
    UserLoggedIn,
    ZoneName,
    encode,
)
from ingest.jsontext import MOST_LEVELS, has_long_fraction, has_treacherous_escape, is_utf8, too_deep
from ingest.record import LOG_APPEND_TIME, Record, Reject
from ingest.timezones import local_date, zone

__all__ = [
    "KNOWN_EVENTS",
    "ClientSeen",
    "Count",
    "CourseViewed",
    "Data",
    "Decoded",
    "Decoder",
    "Event",
    "LessonCompleted",
    "LessonViewed",
    "Limits",
    "LiveEnded",
    "LiveHeartbeat",
    "ProblemSolved",
    "ProblemViewed",
    "SessionRefreshed",
    "StreakImported",
    "Text128",
    "Text255",
    "UserActive",
    "UserLoggedIn",
    "ZoneName",
    "encode",
    "local_date",
    "zone",
]

CHUNK = 256
"""Records checked together: few enough that their values, joined, stay in the processor's cache."""


@dataclass(slots=True)
class Decoded:
    """What became of some records: events and rejects in the records' order, and how many were skipped."""

    events: list[Any] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    skipped: int = 0


class Decoder(SingleDecoder):
    """Decodes one topic's records for a projection that folds `folds`.

    `topic` and the values of `catalogue` (every known type's name -> its topic) are default topic
    names, whatever the topics are called at the broker.
    """

    def decode_all(self, records: Sequence[Record], now: datetime) -> Decoded:
        """The same as `decode` of each in turn, only faster. `now` is the worker's clock, aware."""
        done = Decoded()
        for start in range(0, len(records), CHUNK):
            part = records[start : start + CHUNK]
            found, doubtful = self._together(part, now)
            if not doubtful and not self._skips:
                done.events += found
                continue
            for place in sorted(doubtful):
                found[place] = self.decode(part[place], now)
            events = [one for one in found if type(one) in self._kinds]
            rejects = [one for one in found if type(one) is Reject]
            done.events += events
            done.rejects += rejects
            done.skipped += len(found) - len(events) - len(rejects)
        return done

    def _together(self, records: Sequence[Record], now: datetime) -> tuple[list[Any], set[int]]:
        """What `records` decode to, and the places of those that need `decode`.

        Each check is made for all of them at once, and only where that fails for each.
        """
        values, found, doubtful = self._read(records)
        text = b"\n".join(values)
        if not self._plain(text, values):
            doubtful |= {place for place, value in enumerate(values) if not self._plain(value, (value,))}
        if has_long_fraction(text):
            doubtful |= {place for place, value in enumerate(values) if not self._cut(found[place], value)}
        latest = self._latest_of_all(records, now)
        clean = not doubtful and not self._skips
        if not self._timely(found if clean else [one for one in found if type(one) in self._kinds], latest):
            for place, one in enumerate(found):
                if type(one) in self._kinds and not self._timely((one,), latest):
                    doubtful.add(place)
        return found, doubtful

    def _read(self, records: Sequence[Record]) -> tuple[list[Any], list[Any], set[int]]:
        """Values, what they decode to, and the places where there is no such thing."""
        most = self._limits.max_event_bytes
        try:
            values: list[Any] = [event_text(r, most) if r.headers else r.value for r in records]
            return values, list(map(self._decode, values)), set()
        except Exception:  # whatever it is, `decode` meets it again
            return self._read_each(records)

    def _read_each(self, records: Sequence[Record]) -> tuple[list[Any], list[Any], set[int]]:
        values, found, doubtful = [b""] * len(records), [None] * len(records), set()
        for place, record in enumerate(records):
            try:
                value = event_text(record, self._limits.max_event_bytes)
                found[place], values[place] = self._decode(value), value
            except Exception:  # as above
                doubtful.add(place)
        return values, found, doubtful

    def _plain(self, text: bytes, values: Sequence[bytes]) -> bool:
        """Whether none of `values`, joined in `text`, holds what msgspec would let through or get wrong."""
        longest = max(map(len, values))
        if longest > self._limits.max_event_bytes:
            return False
        if longest > 2 * MOST_LEVELS and any(map(too_deep, values)):
            return False
        return is_utf8(text) and not has_treacherous_escape(text)

    def _cut(self, event: Any, value: bytes) -> bool:
        """Cuts the time, if it is an event; whether that went well."""
        try:
            if type(event) in self._kinds:
                cut_time(event, value)
            return True
        except Exception:  # as above
            return False

    def _timely(self, events: Sequence[Event], latest: datetime) -> bool:
        """Turns times to UTC; whether none is too early or after `latest`."""
        earliest = self._earliest
        for event in events:
            time = event.time
            if time.tzinfo is not UTC:
                try:
                    time = event.time = time.astimezone(UTC)
                except OverflowError:
                    return False
            if not earliest <= time <= latest:
                return False
        return True

    def _latest_of_all(self, records: Sequence[Record], now: datetime) -> datetime:
        """A time that is too late for none of `records`."""
        latest = now.astimezone(UTC) + self._limits.max_clock_skew
        stamps = [r.timestamp for r in records if r.timestamp_type == LOG_APPEND_TIME]
        return min(latest, self._latest(min(stamps))) if stamps else latest
