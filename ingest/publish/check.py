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

    def check(self, lines: Sequence[Line], now: datetime) -> tuple[list[Line], list[Reject]]:
        """The good lines, with topic (by default name) and key, and what is wrong with the others."""
        addressed, rejects = self._addressed(lines, now)
        for topic, decoder in self._decoders.items():
            if ours := [line for line in addressed if line.topic == topic]:
                rejects += decoder.decode_all(ours, now).rejects
        bad = {reject.record.offset for reject in rejects}
        good = [line for line in addressed if line.number not in bad] if bad else addressed
        return good, sorted(map(self._explained, rejects), key=lambda reject: reject.record.offset)

    def _addressed(self, lines: Sequence[Line], now: datetime) -> tuple[list[Line], list[Reject]]:
        addressed: list[Line] = []
        rejects: list[Reject] = []
        for line in lines:
            try:
                head = self._head(line.value)
            except Exception:  # the decoders are cleverer, and say what is wrong where they are not
                found = self._sought(line, now)
                (rejects if isinstance(found, Reject) else addressed).append(found)  # type: ignore[arg-type]
            else:
                addressed.append(self._placed(line, self._topics.get(head.type, self._any_topic), head.data))
        return addressed, rejects

    def _sought(self, line: Line, now: datetime) -> Line | Reject:
        """The line with the topic of the one decoder that does not take it for another topic's."""
        found: Any = None
        for topic, decoder in self._decoders.items():
            found = decoder.decode(line, now)
            if not isinstance(found, Reject):
                return self._placed(line, topic, found.data)
            if found.reason is not Reason.WRONG_TOPIC:
                break
        assert isinstance(found, Reject)
        return found

    def _placed(self, line: Line, topic: str, data: Any) -> Line:
        subject = getattr(data, "client_id", None) or getattr(data, "user_id", None)
        key = subject.encode("utf-8", "replace") if isinstance(subject, str) else None
        return line._replace(topic=topic, key=key)

    def _explained(self, reject: Reject) -> Reject:
        """What only a reader of files knows: byte order marks, and lines cut off while they were read."""
        value = reject.record.value or b""
        if reject.record.offset == 1 and value.startswith(UTF8_MARK):
            mark = "the file begins with a byte order mark (EF BB BF): save it without"
            return Reject(reject.record, Reason.MALFORMED, mark)
        if reject.reason is Reason.TOO_LARGE:
            return Reject(
                reject.record, reject.reason, f"over the {self._limits.max_event_bytes} bytes allowed"
            )
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
