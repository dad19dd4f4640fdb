"""Which events the rows must hold, which they may hold, and which records were lost on the way.

A record is in the rows or among the dead letters. Whether it was rejected is a matter of fact where
it depended on something that cannot be asked again: the worker's clock (`future`), the server's
limits (`unstorable`), an operator (`skipped`). Such events may be in the rows or not.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ingest.contract import Decoder
from ingest.kafka.deadletters import ORIGIN
from ingest.record import LOG_APPEND_TIME, Partition, Reason, Record, Reject
from ingest.verify.letters import Letters, origin

OPTIONAL = frozenset({Reason.FUTURE, Reason.UNSTORABLE, Reason.SKIPPED})
FAR_FUTURE = datetime(9999, 1, 1, tzinfo=UTC)
LOST_SHOWN = 20


class Unstamped(NamedTuple):
    """A record as if no broker had stamped it, so that it is judged by the clock it is shown."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp_type: int = 0

    @classmethod
    def of(cls, record: Record) -> "Unstamped":
        return cls(*(getattr(record, name) for name in cls._fields[:-1]))


@dataclass(slots=True)
class Judge:
    """Decodes the log once. `may` collects the optional events; what must be is returned at once.

    `now` is the clock that judges `future` where the broker stamped nothing; `skew` the setting
    max_clock_skew in seconds.
    """

    decoder: Decoder
    letters: Letters
    now: datetime
    skew: float
    may: list[Any] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    lost_origins: list[str] = field(default_factory=list)
    valid_letters: int = 0

    def must(self, partition: Partition, records: Sequence[Record]) -> list[Any]:
        """The events of these records that the rows must hold."""
        known = self.letters.offsets(partition)
        special = [
            r for r in records if r.offset in known or (r.headers and _replayed(r)) or self._doubtful(r)
        ]
        apart = {r.offset for r in special}
        plain = [r for r in records if r.offset not in apart] if special else records
        decoded = self.decoder.decode_all(plain, self.now)
        events = list(decoded.events)
        for reject in decoded.rejects:
            events += self._rejected(reject)
        for record in special:
            events += self._one(record)
        return events

    def tail(self, records: Sequence[Record]) -> None:
        """Records that may have been read already or not: nothing is asked of them."""
        unstamped = [Unstamped.of(record) for record in records]
        self.may += self.decoder.decode_all(unstamped, FAR_FUTURE).events

    def _doubtful(self, record: Record) -> bool:
        """Whether the record's verdict hung on a clock and no letter is left to tell."""
        return not self.letters.whole and record.timestamp_type != LOG_APPEND_TIME

    def _one(self, record: Record) -> list[Any]:
        found = self.decoder.decode(record, self.now)
        if found is None:
            return []
        if isinstance(found, Reject):
            return self._rejected(found)
        reason = self.letters.reason(origin(record))
        if reason in OPTIONAL or (reason is None and self._doubtful(record) and self._ahead(found, record)):
            self.may.append(found)
            return []
        self.valid_letters += reason is not None
        return [found]

    def _ahead(self, event: Any, record: Record) -> bool:
        return bool(event.time.timestamp() > record.timestamp / 1000 + self.skew)

    def _rejected(self, reject: Reject) -> list[Any]:
        """A rejected record is among the dead letters, or it was lost.

        Where only a clock rejects it, and no letter says that a worker's clock did, a worker took it.
        """
        record, known = reject.record, self.letters.reason(origin(reject.record)) is not None
        event = (
            self.decoder.decode(Unstamped.of(record), FAR_FUTURE) if reject.reason is Reason.FUTURE else None
        )
        readable = event is not None and not isinstance(event, Reject)
        if readable and (known or not self.letters.whole):
            self.may.append(event)
        elif readable and record.timestamp_type != LOG_APPEND_TIME:
            return [event]
        elif not known and self.letters.whole:
            self._lose(reject)
        return []

    def _lose(self, reject: Reject) -> None:
        self.lost[str(reject.reason)] += 1
        if len(self.lost_origins) < LOST_SHOWN:
            partition, offset = origin(reject.record)
            self.lost_origins.append(f"{partition.topic}:{partition.number}:{offset} ({reject.reason})")


def _replayed(record: Record) -> bool:
    return any(name == ORIGIN for name, _ in record.headers)
