"""A member of a consumer group: polls, commits, and finds where to start in what it is assigned.

aiokafka calls a rebalance listener from a task of its own and swallows what it raises. So the
listener only notes the assignment and pauses it; finding the starting places, which needs Postgres
and the brokers, is done by `poll`, where errors reach the worker and heartbeats go on meanwhile.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import structlog
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import OffsetOutOfRangeError

from ingest.errors import Unavailable
from ingest.kafka.assignment import Assignment, Listener, Watch
from ingest.kafka.client import Connection
from ingest.kafka.commits import Commits
from ingest.kafka.consumer import Consumer, member
from ingest.kafka.faults import KafkaError, fault
from ingest.kafka.lookup import Lookup
from ingest.kafka.placer import Found, Placer
from ingest.kafka.reader import read_again
from ingest.ports import Polled
from ingest.record import Offsets, Partition, Record

log = structlog.get_logger()

SILENCE = 10.0  # seconds, as all below
PATIENCE = 3.0
BETWEEN_PLACINGS = 1.0
GRACE = 0.1


class KafkaSource:
    """The records of `topics` for one member of `group`. `poll` from one task; `commit` from any."""

    def __init__(
        self, connection: Connection, group: str, topics: Sequence[str], listener: Listener | None = None
    ) -> None:
        settings = connection.settings
        self.group, self.topics = group, tuple(topics)
        self.listener = listener or Listener()
        self._connection = connection
        self._lookup = Lookup(connection, min(PATIENCE, settings.request_timeout))
        self._watch = Watch(SILENCE, settings.rebalance_timeout + settings.request_timeout)
        self._consumer: Consumer | None = None
        self._commits = Commits(group)
        self._placer = Placer(connection, self._lookup, group)
        self._assignment = Assignment(0, ended=True)
        self._revoking = self._paused = self._broken = False
        self._kept: BaseException | None = None
        self._place_at = 0.0
        self._fetching: asyncio.Task[Polled] | None = None

    @property
    def generation(self) -> int:
        """Rises with each assignment; 0 before the first."""
        return self._assignment.generation

    @property
    def assigned(self) -> tuple[Partition, ...]:
        return () if self._assignment.ended else self._assignment.partitions

    @property
    def joined(self) -> bool:
        """Whether the group has given us an assignment, of any number of partitions, that still holds."""
        return not self._assignment.ended

    @property
    def placed(self) -> bool:
        """Whether it is known where to read in every partition of the present assignment."""
        return self.joined and self._assignment.placed

    @property
    def fenced_commits(self) -> int:
        """Commits refused because the partitions were no longer ours."""
        return self._commits.fenced

    async def start(self) -> None:
        """Connect and begin to join the group.

        Raises Misconfigured where a topic does not exist or the brokers refuse us, else Unavailable.
        """
        await self._lookup.start()
        try:
            await self._lookup.partitions(*self.topics)
            await self._open()
        except BaseException:
            await self._lookup.stop()
            raise

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Leave the group, unless membership is static. Commit before: the listener is not called."""
        self._assignment.ended = True
        await self._close(timeout_s)
        await self._lookup.stop()

    async def poll(self, timeout_s: float, limit: int) -> Polled:
        """See the Source port. Returns in little more than `timeout_s` seconds even in a rebalance."""
        await asyncio.sleep(0)  # whoever polls without end must let the fetcher and the heartbeat run
        if self._kept is not None:
            kept, self._kept = self._kept, None
            raise kept
        consumer = await self._mended()
        await self._place(consumer)
        polled = await self._next(consumer, timeout_s, limit)
        if polled.records or not self._watch.silent(self._now()):
            return polled
        await self._ping()
        return self._nothing()

    async def commit(self, offsets: Offsets, generation: int) -> None:
        """See the Source port: what is no longer ours is dropped, and nothing goes backwards."""
        if self._consumer is not None:
            await self._commits.commit(self._consumer, self._assignment, offsets, generation)

    async def read_again(self, starts: Offsets, ends: Offsets) -> list[Record]:
        """See the Source port. Raises LostOffsets where the log no longer has them."""
        return await read_again(self._connection, starts, ends)

    def pause(self) -> None:
        """Fetch nothing until `resume`; what was fetched ahead is dropped and fetched again."""
        self._paused = True
        if self._consumer is not None:
            self._consumer.pause(self.assigned)

    def resume(self) -> None:
        self._paused = False
        if self._consumer is not None and self.placed:
            self._consumer.resume(self.assigned)

    async def ends(self) -> Offsets:
        """The last stable offset of every partition of the topics, assigned to us or not."""
        return await self._lookup.stable_ends(await self._lookup.partitions(*self.topics))

    def highwaters(self) -> Offsets:
        """High watermarks of our partitions, as last told by a fetch; asks nobody."""
        if self._consumer is None or not self.placed or self._revoking:
            return {}
        ends = {partition: self._consumer.end(partition) for partition in self.assigned}
        return {partition: end for partition, end in ends.items() if end is not None}

    def lags(self) -> Offsets:
        """Records between where we stand and the high watermark, as last told by a fetch."""
        return {p: max(0, end - self._assignment.next[p]) for p, end in self.highwaters().items()}

    async def on_partitions_revoked(self, revoked: Iterable[object]) -> None:
        """For aiokafka only: a rebalance begins."""
        assignment = self._assignment
        self._revoking = True
        try:
            if not assignment.ended:
                await self.listener.on_revoked(assignment.partitions, assignment.generation)
        except Exception as error:
            self._kept = error
        finally:
            assignment.ended = True
            self._commits.cancel()

    async def on_partitions_assigned(self, assigned: Iterable[tuple[str, int]]) -> None:
        """For aiokafka only: a rebalance is over."""
        if self._consumer is None:
            return
        partitions = tuple(sorted(Partition(*partition) for partition in assigned))
        self._consumer.pause(partitions)
        for partition in partitions:
            # Any valid position keeps the client from choosing one of its own.
            self._consumer.seek(partition, 0)
        self._assignment = Assignment(self.generation + 1, partitions, placed=not partitions)
        self._revoking, self._place_at = False, 0.0
        self._watch.fetched(self._now())
        log.info("assigned", group=self.group, partitions=len(partitions), generation=self.generation)
        try:
            await self.listener.on_assigned(partitions, self.generation)
        except Exception as error:
            self._kept = error

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _current(self, generation: int) -> bool:
        return generation == self.generation and not self._revoking and not self._assignment.ended

    def _nothing(self) -> Polled:
        assignment = self._assignment
        positions = dict(assignment.next) if self._current(assignment.generation) else {}
        return Polled({}, positions, -1 if assignment.ended else assignment.generation, {})

    async def _next(self, consumer: Consumer, timeout_s: float, limit: int) -> Polled:
        if self._fetching is None:
            if self.placed and not self._revoking and (ready := await self._ready(consumer, limit)):
                return ready
            self._fetching = asyncio.create_task(self._fetch(consumer, timeout_s, limit))
        # A task of its own, because a fetch that is cancelled would never work properly again.
        await asyncio.wait({self._fetching}, timeout=timeout_s + GRACE)
        if not self._fetching.done():
            return self._nothing()
        fetching, self._fetching = self._fetching, None
        polled = fetching.result()
        return polled if self._current(polled.generation) else self._nothing()

    async def _ready(self, consumer: Consumer, limit: int) -> Polled | None:
        try:
            records = consumer.take_ready(limit)
        except Exception as error:
            return await self._failed(consumer, error)
        return self._polled(consumer, records) if records else None

    async def _fetch(self, consumer: Consumer, timeout_s: float, limit: int) -> Polled:
        try:
            records = await consumer.take(timeout_s, limit)
        except Exception as error:
            return await self._failed(consumer, error)
        return self._polled(consumer, records)

    async def _failed(self, consumer: Consumer, error: Exception) -> Polled:
        """Go on where offset_reset says, if that is what was wrong; raises otherwise."""
        assignment = self._assignment
        if self._current(assignment.generation):
            # The fetch lost records that it had drained from other partitions, their positions moved on.
            for partition, offset in assignment.next.items():
                consumer.seek(partition, offset)
        # An error of no particular kind is how the client says that its background work died.
        self._broken = type(error) is KafkaError
        if not isinstance(error, OffsetOutOfRangeError) or not self._placer.resets:
            raise fault(error, f"reading {', '.join(self.topics)}") from error
        starts = await self._placer.beyond([Partition(*partition) for partition in error.args[0]])
        if self._current(assignment.generation):
            for partition, start in starts.items():
                self.listener.on_lost(partition, assignment.next[partition], start)
                assignment.next[partition] = start
                consumer.seek(partition, start)
        return self._nothing()

    def _polled(self, consumer: Consumer, records: Mapping[Partition, Sequence[Record]]) -> Polled:
        """All of one moment: nothing is awaited from the fetch to here, nor from here to the caller."""
        assignment, now = self._assignment, self._now()
        if not assignment.partitions or not assignment.placed or self._paused:
            self._watch.fetched(now)
        if not assignment.placed or not self._current(assignment.generation):
            return self._nothing()
        to_end = {}
        for partition in assignment.partitions:
            assignment.next[partition] = consumer.position(partition)
            if assignment.note_fetch(partition, consumer.fetched_at(partition)):
                self._watch.heard(now)
                self._watch.fetched(now)
            if at := assignment.read_to_end(partition, consumer.stable_end(partition)):
                to_end[partition] = at
        return Polled(records, dict(assignment.next), assignment.generation, to_end)

    async def _place(self, consumer: Consumer) -> None:
        """Find where to start in a new assignment; while that cannot be known, nothing is read."""
        assignment = self._assignment
        if assignment.placed or not self._current(assignment.generation) or self._now() < self._place_at:
            return
        try:
            found = await self._placer.find(assignment.partitions, self.listener.starts)
        except Unavailable as error:
            self._place_at = self._now() + BETWEEN_PLACINGS
            self.listener.on_waiting(error)
            return
        if self._current(assignment.generation):
            rewound = self._take(consumer, found)
            # What was committed above is not durable any more; whoever asks the group must not believe it.
            await self._commits.commit(consumer, assignment, rewound, assignment.generation)

    def _take(self, consumer: Consumer, found: Found) -> Offsets:
        """Start there; returns where that is below what the group had committed."""
        assignment, rewound = self._assignment, {}
        for partition, (start, lost) in found.places.items():
            consumer.seek(partition, start)
            assignment.next[partition] = start
            if lost is not None:
                self.listener.on_lost(partition, lost, start)
            committed = found.committed.get(partition)
            if committed is not None and start < committed:
                rewound[partition] = start
                self.listener.on_rewound(partition, committed, start)
            elif committed is not None:
                assignment.committed[partition] = committed
        assignment.placed = True
        if not self._paused:
            consumer.resume(assignment.partitions)
        return rewound

    async def _ping(self) -> None:
        try:
            await self._lookup.ping()
        except BaseException:
            self._watch.fetched(self._now())
            raise
        self._watch.heard(self._now())

    async def _mended(self) -> Consumer:
        """The consumer; a new one where its background work died without a word."""
        stalled = self._watch.stalled(self._now())
        if self._consumer is not None and (self._broken or stalled):
            log.warning("beginning anew with Kafka", group=self.group, stalled=stalled)
            await self.on_partitions_revoked(())
            await self._close(1.0)
        return self._consumer or await self._open()

    async def _open(self) -> Consumer:
        consumer = member(self._connection, self.group)
        await consumer.open()
        self._consumer, self._broken = consumer, False
        self._watch.heard(self._now())
        self._watch.fetched(self._now())
        consumer.join(self.topics, self)
        return consumer

    async def _close(self, timeout_s: float) -> None:
        consumer, self._consumer = self._consumer, None
        fetching, self._fetching = self._fetching, None
        if consumer is not None and not await consumer.close(timeout_s):
            log.warning("left Kafka without a goodbye", group=self.group)
        if fetching is not None:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)


ConsumerRebalanceListener.register(KafkaSource)
