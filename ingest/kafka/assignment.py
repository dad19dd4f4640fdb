"""What a member of a group knows of the partitions it has: pure state, one object per assignment."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from ingest.errors import Unavailable
from ingest.record import Offsets, Partition

Partitions: TypeAlias = Collection[Partition]


async def _none_known(partitions: Partitions) -> Mapping[Partition, int | None]:
    return {}


async def _nothing(partitions: Partitions, generation: int) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What a worker does about its assignments. All run in the event loop, none may block it.

    `starts` tells next offsets from Postgres, None or absent where it has none; raising Unavailable
    makes it be asked again later. `on_revoked` may still commit; it must bound its own time.
    """

    starts: Callable[[Partitions], Awaitable[Mapping[Partition, int | None]]] = _none_known
    on_assigned: Callable[[Partitions, int], Awaitable[None]] = _nothing
    on_revoked: Callable[[Partitions, int], Awaitable[None]] = _nothing
    on_rewound: Callable[[Partition, int, int], None] = lambda partition, committed, start: None
    """Reading starts below what the group had committed: Postgres was restored or emptied."""
    on_lost: Callable[[Partition, int, int], None] = lambda partition, lost, start: None
    """The log no longer had `lost`; as offset_reset says, reading goes on at `start`."""
    on_waiting: Callable[[Unavailable], None] = lambda error: None
    """Where to start could not be found out yet; nothing is read meanwhile."""


@dataclass(slots=True, eq=False)
class Assignment:
    """Partitions held under one generation. `next` stays empty until it is known where to start.

    `committed` is what this generation knows to be committed, below which it commits nothing.
    """

    generation: int
    partitions: tuple[Partition, ...] = ()
    next: dict[Partition, int] = field(default_factory=dict)
    committed: dict[Partition, int] = field(default_factory=dict)
    placed: bool = False
    ended: bool = False
    _fetched: dict[Partition, tuple[int | None, int]] = field(default_factory=dict)

    def due(self, offsets: Offsets, generation: int) -> dict[Partition, int]:
        """What of `offsets`, read under `generation`, may be committed now."""
        if self.ended or generation != self.generation:
            return {}
        return {
            partition: offset
            for partition, offset in offsets.items()
            if partition in self.next and offset > self.committed.get(partition, -1)
        }

    def note_fetch(self, partition: Partition, at: int | None) -> bool:
        """A fetch response for `partition` was handled at `at`, epoch milliseconds. Whether it is new."""
        earlier = self._fetched.get(partition)
        if at is None or (earlier is not None and earlier[1] == at):
            return False
        self._fetched[partition] = (earlier[1] if earlier else None, at)
        return True

    def read_to_end(self, partition: Partition, end: int | None) -> datetime | None:
        """The moment up to which everything was read; None where there is more, or nothing is known.

        It is when the response *before* the one that told `end` was handled: the request came after
        that, so the answer is no older, even if this process then stood still for a while.
        """
        before, _ = self._fetched.get(partition, (None, 0))
        if before is None or end is None or end < 0 or self.next[partition] < end:
            return None
        return datetime.fromtimestamp(before / 1000, UTC)


@dataclass(slots=True)
class Watch:
    """When to ask whether the brokers still live, and when to give a consumer up. Seconds; pure.

    `silence`: without a word from the brokers for so long, they are asked. `stall`: without a fetch
    response for so long, though they answer, the consumer's background work must have died.
    """

    silence: float
    stall: float
    heard_at: float = 0.0
    fetched_at: float = 0.0

    def heard(self, now: float) -> None:
        self.heard_at = now

    def fetched(self, now: float) -> None:
        """A fetch was answered, or none was to be expected."""
        self.fetched_at = now

    def silent(self, now: float) -> bool:
        return now - self.heard_at > self.silence

    def stalled(self, now: float) -> bool:
        return now - self.fetched_at > self.stall
