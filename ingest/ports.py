"""What a worker needs of the world: a source of records, a sink for rows, a place for rejects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from ingest.batch import Flush
from ingest.record import Offsets, Partition, Record, Reject


@dataclass(frozen=True, slots=True)
class Polled:
    """One poll, its records and positions taken at one moment.

    `positions` tells where the consumer stands in every assigned partition, past holes left by
    aborted transactions and compaction. `generation` rises with each assignment. `read_to_end` holds
    the partitions with nothing more to read, and the time of the fetch that said so.
    """

    records: Mapping[Partition, Sequence[Record]]
    positions: Offsets
    generation: int
    read_to_end: Mapping[Partition, datetime]


class Source(Protocol):
    """A member of a consumer group; it keeps its membership only while it is polled."""

    async def poll(self, timeout_s: float, limit: int) -> Polled:
        """At most `limit` records; waits up to `timeout_s` seconds, longer during a rebalance.

        Raises Unavailable, Misconfigured or LostOffsets; positions are then those before the call.
        """
        ...

    async def commit(self, offsets: Offsets, generation: int) -> None:
        """Commit what is still ours of `generation`; a fenced commit returns. Raises Unavailable."""
        ...

    async def read_again(self, starts: Offsets, ends: Offsets) -> Sequence[Record]:
        """Records of [start, end) of each partition, outside the group. Raises Unavailable."""
        ...

    def begin_anew(self) -> None:
        """Give the assignment up and join again; the next one starts where the database says."""
        ...

    def pause(self) -> None:
        """Fetch nothing until `resume`, for partitions assigned in between as well."""
        ...

    def resume(self) -> None: ...


class Progress(NamedTuple):
    """A row of ingest_progress. `read_up_to` None keeps what is stored.

    `stored` is the next offset that Postgres is known to hold: if it has less by now, it went back.
    """

    partition: Partition
    next_offset: int
    read_up_to: datetime | None
    stored: int | None = None


class Written(NamedTuple):
    """What one transaction did."""

    rows: int
    suppressed: int
    statements: int


class Sink(Protocol):
    async def write(self, flush: Flush, progress: Sequence[Progress]) -> Written:
        """Rows and progress in one transaction.

        Raises Unstorable (the rows are at fault), Unavailable, TimedOut, WentBack (what `progress`
        calls stored is not there any more) or Misconfigured; nothing is written then, or, where the
        reply to COMMIT was lost, all of it.
        """
        ...


class DeadLetters(Protocol):
    async def publish(self, rejects: Sequence[Reject], projection: str) -> None:
        """Returns when every reject is acknowledged; raises Unavailable or Misconfigured."""
        ...
