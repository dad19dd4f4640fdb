"""Which lines are events of the contract, and where each one goes. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from ingest.contract import Decoder, Event, Limits
from ingest.publish.ndjson import UTF8_MARK, Line
from ingest.record import Reason, Reject

SHOWN_PER_REASON = 20


class _Subject(Struct):
    client_id: Any = None
    user_id: Any = None


class _Head(Struct):
    type: str
    data: _Subject


class _TypeAlone(Struct):
    type: str


class Checker:
    """Holds lines against every event type there is, as the workers will."""

    def __init__(self, events: Iterable[type[Event]], limits: Limits) -> None:
        known = tuple(events)
        self._topics = {event.type_name(): event.topic for event in known}
        self._limits = limits
        self._decoders = {
            topic: Decoder(tuple(e for e in known if e.topic == topic), topic, self._topics, limits)
            for topic in dict.fromkeys(self._topics.values())
        }
        # Any decoder can say what is wrong with a line whose type is not known.
        self._any_topic = next(iter(self._decoders))
        self._head = msgspec.json.Decoder(_Head).decode
        self._type = msgspec.json.Decoder(_TypeAlone).decode

    def check(self, lines: Sequence[Line], now: datetime) -> tuple[list[Line], list[Reject]]:
        """The good lines, each with its topic (by default name) and key, and what is wrong with the others."""
        addressed = [self._addressed(line) for line in lines]
        rejects: list[Reject] = []
        for topic, decoder in self._decoders.items():
            if ours := [line for line in addressed if line.topic == topic]:
                rejects += decoder.decode_all(ours, now).rejects
        bad = {reject.record.offset for reject in rejects}
        good = [line for line in addressed if line.number not in bad] if bad else addressed
        return good, sorted(map(self._explained, rejects), key=lambda reject: reject.record.offset)

    def _addressed(self, line: Line) -> Line:
        try:
            head = self._head(line.value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return line._replace(topic=self._topics.get(self._type_of(line.value), self._any_topic))
        subject = head.data.user_id if head.data.client_id is None else head.data.client_id
        return line._replace(
            topic=self._topics.get(head.type, self._any_topic),
            key=subject.encode("utf-8", "replace") if isinstance(subject, str) else None,
        )

    def _type_of(self, value: bytes) -> str:
        try:
            return self._type(value).type
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""

    def _explained(self, reject: Reject) -> Reject:
        """What only a reader of files knows: byte order marks, and lines cut off while they were read."""
        value = reject.record.value or b""
        if reject.record.offset == 1 and value.startswith(UTF8_MARK):
            mark = "the file begins with a byte order mark (EF BB BF): save it without"
            return Reject(reject.record, Reason.MALFORMED, mark)
        if reject.reason is Reason.TOO_LARGE:
            return Reject(reject.record, reject.reason, f"over the {self._limits.max_event_bytes} bytes allowed")
        return reject


class Complaints:
    """Says of each bad line where it is and what is wrong with it; of many alike, of the first ones."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self._say = say

    def add(self, where: str, reason: str, detail: str) -> None:
        self.counts[reason] += 1
        if self.counts[reason] <= SHOWN_PER_REASON:
            self._say(f"{where}: {reason}: {detail}")

    def finish(self) -> None:
        """Say how many were not shown."""
        for reason, count in self.counts.items():
            if count > SHOWN_PER_REASON:
                self._say(f"… and {count - SHOWN_PER_REASON:,} more: {reason}")

    @property
    def by_reason(self) -> Mapping[str, int]:
        return dict(self.counts)
