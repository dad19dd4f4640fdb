"""A member of a consumer group: polls, commits, and begins anew when its client dies."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from aiokafka.errors import OffsetOutOfRangeError

from ingest.errors import Unavailable
from ingest.kafka.assignment import Listener, Watch
from ingest.kafka.client import Connection
from ingest.kafka.consumer import Consumer, member
from ingest.kafka.faults import KafkaError, fault
from ingest.kafka.lookup import Lookup
from ingest.kafka.membership import Membership
from ingest.kafka.placer import Placer
from ingest.kafka.reader import read_again
from ingest.ports import Polled
from ingest.record import Offsets, Partition, Record

log = structlog.get_logger()

SILENCE = 10.0  # seconds, as all below
PATIENCE = 3.0
BETWEEN_BEGINNINGS = 5.0
SINGLY = 10.0
GRACE = 0.1


class KafkaSource:
    """The records of `topics` for one member of `group`. `poll` from one task; `commit` from any.

    `trouble` says why the last poll could read nothing: no broker answers, or it is not known yet
    where to start.
    """

    def __init__(
        self, connection: Connection, group: str, topics: Sequence[str], listener: Listener | None = None
    ) -> None:
        settings = connection.settings
        self.group, self.topics = group, tuple(topics)
        self.trouble: Unavailable | None = None
        self._connection = connection
        self._lookup = Lookup(connection, min(PATIENCE, settings.request_timeout))
        self._placer = Placer(connection, self._lookup, group)
        self._member = Membership(group, listener or Listener(), self._placer)
        self._watch = Watch(SILENCE, 2 * settings.rebalance_timeout + settings.request_timeout)
        self._fetching: asyncio.Task[Polled] | None = None
        self._broken = False
        self._opened_at = self._singly_until = 0.0
        self._turns = 0

    @property
    def generation(self) -> int:
        """Rises with each assignment; 0 before the first."""
        return self._member.assignment.generation

    @property
    def assigned(self) -> tuple[Partition, ...]:
        return self._member.assignment.partitions if self.joined else ()

    @property
    def joined(self) -> bool:
        """Whether the group has given us an assignment, of any number of partitions, that still holds."""
        return not self._member.assignment.ended

    @property
    def placed(self) -> bool:
        """Whether it is known where to read in every partition of the present assignment."""
        return self._member.placed

    @property
    def fenced_commits(self) -> int:
        """Commits refused because the partitions were no longer ours."""
        return self._member.commits.fenced

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
        self._member.assignment.ended = True
        await self._close(timeout_s)
        await self._lookup.stop()

    async def poll(self, timeout_s: float, limit: int) -> Polled:
        """See the Source port. Returns in little more than `timeout_s` seconds even in a rebalance.

        While no broker answers it raises Unavailable, a few seconds later.
        """
        try:
            polled = await self._poll(timeout_s, limit)
        except Unavailable as error:
            self.trouble = error
            raise
        self.trouble = self._member.waiting
        return polled

    async def commit(self, offsets: Offsets, generation: int) -> None:
        """See the Source port: what is no longer ours is dropped, and nothing goes backwards."""
        member = self._member
        if member.consumer is not None:
            await member.commits.commit(member.consumer, member.assignment, offsets, generation)

    async def read_again(self, starts: Offsets, ends: Offsets) -> list[Record]:
        """See the Source port. Raises LostOffsets where the log no longer has them."""
        return await read_again(self._connection, starts, ends)

    def begin_anew(self) -> None:
        """See the Source port."""
        self._broken = True

    def pause(self) -> None:
        """Fetch nothing until `resume`; what was fetched ahead is dropped and fetched again."""
        self._member.pause()

    def resume(self) -> None:
        self._member.resume()

    async def partition_count(self, topic: str) -> int:
        """Raises Misconfigured where the topic does not exist, or Unavailable."""
        return len(await self._lookup.partitions(topic))

    async def ends(self) -> Offsets:
        """The last stable offset of every partition of the topics, assigned to us or not."""
        return await self._lookup.stable_ends(await self._lookup.partitions(*self.topics))

    def highwaters(self) -> Offsets:
        """High watermarks of our partitions, as last told by a fetch; asks nobody."""
        consumer = self._member.consumer
        if consumer is None or not self.placed:
            return {}
        ends = {partition: consumer.end(partition) for partition in self.assigned}
        return {partition: end for partition, end in ends.items() if end is not None}

    def lags(self) -> Offsets:
        """Records between where we stand and the high watermark, as last told by a fetch."""
        standing = self._member.assignment.next
        return {partition: max(0, end - standing[partition]) for partition, end in self.highwaters().items()}

    async def _poll(self, timeout_s: float, limit: int) -> Polled:
        await asyncio.sleep(0)  # whoever polls without end must let the fetcher and the heartbeat run
        self._member.raise_kept()
        consumer = await self._mended()
        await self._member.place()
        polled = await self._next(consumer, timeout_s, limit)
        if polled.records or not self._watch.silent(self._now()):
            return polled
        await self._ping()
        return self._nothing()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _nothing(self) -> Polled:
        assignment = self._member.assignment
        positions = dict(assignment.next) if self._member.holds else {}
        return Polled({}, positions, -1 if assignment.ended else assignment.generation, {})

    async def _next(self, consumer: Consumer, timeout_s: float, limit: int) -> Polled:
        if self._fetching is None:
            turn = self._turn()
            if self.placed and (ready := await self._ready(consumer, limit, turn)):
                return ready
            self._fetching = asyncio.create_task(self._fetch(consumer, timeout_s, limit, turn))
        # A task of its own, because a fetch that is cancelled would never work properly again.
        await asyncio.wait({self._fetching}, timeout=timeout_s + GRACE)
        if not self._fetching.done():
            return self._nothing()
        fetching, self._fetching = self._fetching, None
        polled = fetching.result()
        return polled if self._member.current(polled.generation) else self._nothing()

    def _turn(self) -> Sequence[Partition]:
        """For a while after a failure one partition at a time, so that a bad one holds up no other.

        Empty: all of them, also those assigned while the fetch goes on.
        """
        partitions = self._member.assignment.partitions
        if self._now() >= self._singly_until or not partitions:
            return ()
        self._turns += 1
        return (partitions[self._turns % len(partitions)],)

    async def _ready(self, consumer: Consumer, limit: int, turn: Sequence[Partition]) -> Polled | None:
        try:
            records = consumer.take_ready(limit, turn)
        except Exception as error:
            return await self._failed(consumer, error, turn)
        return self._polled(consumer, records) if records else None

    async def _fetch(
        self, consumer: Consumer, timeout_s: float, limit: int, turn: Sequence[Partition]
    ) -> Polled:
        try:
            records = await consumer.take(timeout_s, limit, turn)
        except Exception as error:
            return await self._failed(consumer, error, turn)
        return self._polled(consumer, records)

    async def _failed(self, consumer: Consumer, error: Exception, turn: Sequence[Partition]) -> Polled:
        """Go on where offset_reset says, if that is what was wrong; raises otherwise."""
        if self._member.holds:
            # The fetch lost records that it had drained from other partitions, their positions moved on.
            standing = self._member.assignment.next
            for partition in turn or standing:
                if partition in standing:
                    consumer.seek(partition, standing[partition])
        # An error of no particular kind is how the client says that its background work died.
        self._broken = self._broken or type(error) is KafkaError
        self._singly_until = self._now() + SINGLY
        if not isinstance(error, OffsetOutOfRangeError) or not self._placer.resets:
            raise fault(error, f"reading {', '.join(self.topics)}") from error
        await self._member.replace(error.args[0])
        return self._nothing()

    def _polled(self, consumer: Consumer, records: Mapping[Partition, Sequence[Record]]) -> Polled:
        """All of one moment: nothing is awaited from the fetch to here, nor from here to the caller."""
        assignment, now = self._member.assignment, self._now()
        if not self._member.fetches:
            self._watch.fetched(now)
        if not self.placed:
            return self._nothing()
        to_end = {}
        for partition in assignment.partitions:
            assignment.next[partition] = consumer.position(partition)
            if assignment.note_fetch(partition, consumer.fetched_at(partition)):
                self._watch.heard(now)
                self._watch.fetched(now)
            # Up to the high watermark: behind an open transaction records lie that nobody may read yet.
            if at := assignment.read_to_end(partition, consumer.end(partition)):
                to_end[partition] = at
        return Polled(records, dict(assignment.next), assignment.generation, to_end)

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
        broken = self._broken and self._now() - self._opened_at > BETWEEN_BEGINNINGS
        if self._member.consumer is not None and (broken or stalled):
            log.warning("beginning anew with Kafka", group=self.group, stalled=stalled)
            await self._member.on_partitions_revoked()
            await self._close(1.0)
        return self._member.consumer or await self._open()

    async def _open(self) -> Consumer:
        consumer = member(self._connection, self.group)
        await consumer.open()
        self._member.consumer, self._broken = consumer, False
        self._opened_at = self._now()
        self._watch.heard(self._opened_at)
        self._watch.fetched(self._opened_at)
        consumer.join(self.topics, self._member)
        return consumer

    async def _close(self, timeout_s: float) -> None:
        consumer, self._member.consumer = self._member.consumer, None
        fetching, self._fetching = self._fetching, None
        if consumer is not None and not await consumer.close(timeout_s):
            log.warning("left Kafka without a goodbye", group=self.group)
        if fetching is not None:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
