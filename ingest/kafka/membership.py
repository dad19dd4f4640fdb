"""Membership of a consumer group: what is assigned, where to start in it, what may be committed.

aiokafka calls a rebalance listener from a task of its own and swallows what it raises. So the
listener only notes the assignment and pauses it; finding the starting places, which needs Postgres
and the brokers, is done by `place`, where errors reach the worker and heartbeats go on meanwhile.
"""

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka.abc import ConsumerRebalanceListener

from ingest.errors import Unavailable
from ingest.kafka.assignment import Assignment, Listener
from ingest.kafka.commits import Commits
from ingest.kafka.consumer import Consumer
from ingest.kafka.placer import Found, Placer
from ingest.record import Offsets, Partition

log = structlog.get_logger()

BETWEEN_PLACINGS = 1.0  # seconds


class Membership:
    """Of one group, through however many consumers; `consumer` is the present one.

    `waiting` says why it is not known yet where to start.
    """

    def __init__(self, group: str, listener: Listener, placer: Placer) -> None:
        self.assignment = Assignment(0, ended=True)
        self.commits = Commits(group)
        self.consumer: Consumer | None = None
        self.waiting: Unavailable | None = None
        self._group, self._listener, self._placer = group, listener, placer
        self._revoking = self._paused = False
        self._kept: BaseException | None = None
        self._place_at = 0.0

    @property
    def holds(self) -> bool:
        """Whether there is an assignment that is not being taken away."""
        return not (self._revoking or self.assignment.ended)

    @property
    def placed(self) -> bool:
        """Whether it is known where to read, in an assignment that holds."""
        return self.holds and self.assignment.placed

    @property
    def fetches(self) -> bool:
        """Whether answers to fetches are to be expected."""
        return self.placed and bool(self.assignment.partitions) and not self._paused

    def current(self, generation: int) -> bool:
        return self.holds and generation == self.assignment.generation

    def raise_kept(self) -> None:
        """Raises, once, what the worker raised in a rebalance."""
        kept, self._kept = self._kept, None
        if kept is not None:
            raise kept

    def pause(self) -> None:
        self._paused = True
        if self.consumer is not None:
            self.consumer.pause(self.assignment.partitions)

    def resume(self) -> None:
        self._paused = False
        if self.consumer is not None and self.placed:
            self.consumer.resume(self.assignment.partitions)

    async def on_partitions_revoked(self, revoked: Iterable[object] = ()) -> None:
        """A rebalance begins, or the consumer is given up."""
        assignment = self.assignment
        self._revoking = True
        try:
            if not assignment.ended:
                await self._listener.on_revoked(assignment.partitions, assignment.generation)
        except Exception as error:
            self._kept = error
        finally:
            assignment.ended = True
            self.commits.cancel()

    async def on_partitions_assigned(self, assigned: Iterable[tuple[str, int]]) -> None:
        """A rebalance is over."""
        if self.consumer is None:
            return
        partitions = tuple(sorted(Partition(*partition) for partition in assigned))
        self.consumer.pause(partitions)
        for partition in partitions:
            # Any valid position keeps the client from choosing one of its own.
            self.consumer.seek(partition, 0)
        generation = self.assignment.generation + 1
        self.assignment = Assignment(generation, partitions, placed=not partitions)
        self._revoking, self._place_at, self.waiting = False, 0.0, None
        log.info("assigned", group=self._group, partitions=len(partitions), generation=generation)
        try:
            await self._listener.on_assigned(partitions, generation)
        except Exception as error:
            self._kept = error

    async def place(self) -> None:
        """Find where to start in a new assignment; while that cannot be known, nothing is read.

        Raises Misconfigured, or LostOffsets; Unavailable is told to the listener and tried again.
        """
        assignment, loop = self.assignment, asyncio.get_running_loop()
        if assignment.placed or not self.holds or loop.time() < self._place_at:
            return
        try:
            found = await self._placer.find(assignment.partitions, self._listener.starts)
        except Unavailable as error:
            self._place_at = loop.time() + BETWEEN_PLACINGS
            self.waiting = error
            self._listener.on_waiting(error)
            return
        self.waiting = None
        if self.consumer is not None and self.current(assignment.generation):
            rewound = self._take(self.consumer, found)
            # What was committed above is not durable any more; whoever asks the group must not believe it.
            await self.commits.commit(self.consumer, assignment, rewound, assignment.generation)

    async def replace(self, lost: Iterable[tuple[str, int]]) -> None:
        """The log no longer has our positions here: go on where offset_reset says."""
        assignment = self.assignment
        starts = await self._placer.beyond([Partition(*partition) for partition in lost])
        if self.consumer is not None and self.current(assignment.generation):
            for partition, start in starts.items():
                self._listener.on_lost(partition, assignment.next[partition], start)
                self._start(self.consumer, partition, start)

    def _take(self, consumer: Consumer, found: Found) -> Offsets:
        """Start there; returns where that is below what the group had committed."""
        assignment, rewound = self.assignment, {}
        for partition, (start, lost) in found.places.items():
            self._start(consumer, partition, start)
            if lost is not None:
                self._listener.on_lost(partition, lost, start)
            committed = found.committed.get(partition)
            if committed is not None and start < committed:
                rewound[partition] = start
                self._listener.on_rewound(partition, committed, start)
            elif committed is not None:
                assignment.committed[partition] = committed
        assignment.placed = True
        if not self._paused:
            consumer.resume(assignment.partitions)
        return rewound

    def _start(self, consumer: Consumer, partition: Partition, offset: int) -> None:
        consumer.seek(partition, offset)
        self.assignment.next[partition] = offset


ConsumerRebalanceListener.register(Membership)
