"""From records to a flush: decode, fold, and decide when it is due. Pure: time is an argument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from ingest.contract import Decoder
from ingest.projection import Projection
from ingest.record import Offsets, Partition, Record, Reject

SAMPLES_PER_CHUNK = 16


@dataclass(frozen=True, slots=True)
class Caps:
    """What closes a batch, whichever comes first. `interval` in seconds after its first record."""

    max_rows: int = 5_000
    max_records: int = 50_000
    max_bytes: int = 16 * 1024 * 1024
    interval: float = 1.0


@dataclass(frozen=True, slots=True)
class Flush:
    """Rows, rejects and the offsets they reach: all durable together, or none.

    `rows` holds per table of the projection its rows, unique and sorted by key. The records came
    from [starts, offsets) of each partition and can be read again. `reached` tells per partition up
    to which moment the log is in here.
    """

    projection: str
    rows: tuple[Sequence[Struct], ...]
    rejects: Sequence[Reject] = ()
    offsets: Offsets = field(default_factory=dict)
    starts: Offsets = field(default_factory=dict)
    reached: Mapping[Partition, datetime] = field(default_factory=dict)
    generation: int = 0
    trigger: str = ""
    records: int = 0
    events: int = 0
    skipped: int = 0
    event_times: Sequence[datetime] = ()
    """A sample of the events' times, evenly spread, for the freshness histogram."""

    @property
    def row_count(self) -> int:
        return sum(map(len, self.rows))


class Batch:
    """Records of one assignment folded as they arrive; originals are kept of rejects only."""

    __slots__ = (
        "_decoder", "_event_times", "_offsets", "_options", "_projection", "_reached", "_rejects",
        "_rows", "_starts", "events", "generation", "opened_at", "records", "size", "skipped",
    )  # fmt: skip

    def __init__(self, projection: Projection, options: Any, decoder: Decoder, generation: int) -> None:
        self._projection, self._options, self._decoder = projection, options, decoder
        self.generation = generation
        self._rows: tuple[dict[Any, Any], ...] = tuple({} for _ in projection.tables)
        self._rejects: list[Reject] = []
        self._offsets: dict[Partition, int] = {}
        self._starts: dict[Partition, int] = {}
        self._reached: dict[Partition, datetime] = {}
        self._event_times: list[datetime] = []
        self.records = self.events = self.skipped = self.size = 0
        self.opened_at: float | None = None

    @property
    def rows(self) -> int:
        """Distinct rows so far."""
        return sum(map(len, self._rows))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write and no offset to move."""
        return not self._offsets

    def add(self, partition: Partition, records: Sequence[Record], now: datetime, monotonic: float) -> None:
        """Fold the records of one partition that follow those added before.

        `now` is the worker's clock, for brokers that do not stamp records; `monotonic` is in seconds.
        """
        decoded = self._decoder.decode_all(records, now)
        events = decoded.events
        for table, rows in zip(self._projection.tables, self._rows, strict=True):
            table.fold(rows, events, self._options)
        self._rejects += decoded.rejects
        self._event_times += [e.time for e in events[:: max(1, len(events) // SAMPLES_PER_CHUNK)]]
        self.records += len(records)
        self.events += len(events)
        self.skipped += decoded.skipped
        self.size += _size(records)
        self._starts.setdefault(partition, records[0].offset)
        last = records[-1]
        # A producer's clock may run ahead; nobody has read further than now.
        stamp = min(max(last.timestamp, 0) / 1000, now.timestamp())
        self._reached[partition] = datetime.fromtimestamp(stamp, UTC)
        self.moved(partition, last.offset + 1, monotonic)

    def moved(self, partition: Partition, position: int, monotonic: float) -> None:
        """The consumer stands at `position`: past holes that no record fills."""
        self._starts.setdefault(partition, position)
        if position > self._offsets.get(partition, -1):
            self._offsets[partition] = position
        if self.opened_at is None:
            self.opened_at = monotonic

    def full(self, caps: Caps) -> str | None:
        """The limit that this batch has reached, or None."""
        if self.rows >= caps.max_rows:
            return "rows"
        if self.records >= caps.max_records:
            return "records"
        return "bytes" if self.size >= caps.max_bytes else None

    def due(self, caps: Caps, monotonic: float) -> str | None:
        """Why this batch should be closed now, or None. `monotonic` in seconds."""
        if reason := self.full(caps):
            return reason
        late = self.opened_at is not None and monotonic - self.opened_at >= caps.interval
        return "interval" if late else None

    def close(self, trigger: str) -> Flush:
        """The finished flush. The batch must not be used any more."""
        return Flush(
            projection=self._projection.name,
            rows=tuple(sorted_rows(rows) for rows in self._rows),
            rejects=self._rejects,
            offsets=self._offsets,
            starts=self._starts,
            reached={p: t for p, t in self._reached.items() if p in self._offsets},
            generation=self.generation,
            trigger=trigger,
            records=self.records,
            events=self.events,
            skipped=self.skipped,
            event_times=self._event_times,
        )


def sorted_rows(rows: Mapping[Any, Any]) -> list[Any]:
    """Rows in key order: every writer locks in the same order, so none waits in a circle."""
    return [rows[key] for key in sorted(rows)]


def _size(records: Sequence[Record]) -> int:
    size = sum([len(r.value or b"") + len(r.key or b"") for r in records])
    return size + sum(
        len(name) + len(value or b"") for r in records if r.headers for name, value in r.headers
    )
