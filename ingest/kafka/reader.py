"""Reading outside any group: a range again, or a whole topic up to noted ends."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from ingest.errors import LostOffsets, Unavailable
from ingest.kafka.client import Connection
from ingest.kafka.consumer import Consumer, loner
from ingest.kafka.faults import LOST, KafkaError, fault
from ingest.kafka.lookup import Lookup
from ingest.record import Offsets, Partition, Record

CHUNK = 10_000  # records
PATIENCE = 1.0  # seconds
STALL = 30.0  # seconds


class LogReader:
    """The records of [start, end) of each partition, in chunks; those of one partition in order.

    An end is reached by position, not by its last record: aborted transactions and compaction leave
    holes. `stall`: seconds without progress after which Unavailable is raised.
    """

    def __init__(
        self, connection: Connection, starts: Offsets, ends: Offsets, *, stall: float = STALL
    ) -> None:
        self._connection, self._stall = connection, stall
        self._ends = {p: end for p, end in ends.items() if starts.get(p, 0) < end}
        self._starts = {p: starts.get(p, 0) for p in self._ends}

    async def chunks(self, limit: int = CHUNK) -> AsyncGenerator[tuple[Partition, Sequence[Record]], None]:
        """At most `limit` records at a time.

        Raises LostOffsets where the log begins after a start, Unavailable, or Misconfigured.
        """
        if not self._ends:
            return
        await self._check()
        consumer = loner(self._connection)
        await consumer.open()
        try:
            consumer.assign(self._starts)
            async with aclosing(self._read(consumer, limit)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            await consumer.close(PATIENCE)

    async def _check(self) -> None:
        async with Lookup(self._connection) as lookup:
            begins = await lookup.beginnings(list(self._starts))
        for partition, start in self._starts.items():
            if start < begins[partition]:
                where = f"{partition.topic}:{partition.number}"
                raise LostOffsets(f"{where} begins at {begins[partition]}, but {start} was asked for", LOST)

    async def _read(
        self, consumer: Consumer, limit: int
    ) -> AsyncGenerator[tuple[Partition, Sequence[Record]], None]:
        positions, clock = dict(self._starts), asyncio.get_running_loop().time
        moved_at = clock()
        while unfinished := [p for p, end in self._ends.items() if positions[p] < end]:
            taken = await self._take(consumer, positions, limit)
            now = {partition: consumer.position(partition) for partition in unfinished}
            if any(now[partition] > positions[partition] for partition in unfinished):
                moved_at = clock()
            elif clock() - moved_at > self._stall:
                raise Unavailable(
                    f"no progress in {unfinished[0].topic} for {self._stall:g} s", "kafka_timeout"
                )
            positions |= now
            consumer.pause(p for p in unfinished if positions[p] >= self._ends[p])
            for partition, records in self._inside(taken).items():
                yield partition, records

    async def _take(
        self, consumer: Consumer, positions: Offsets, limit: int
    ) -> Mapping[Partition, Sequence[Record]]:
        taking = asyncio.create_task(consumer.take(PATIENCE, limit))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            await asyncio.wait({taking}, timeout=PATIENCE)
            raise
        except KafkaError as error:
            found = fault(error, "reading the log")
            if not isinstance(found, Unavailable):
                raise found from error
            for partition, offset in positions.items():
                consumer.seek(partition, offset)
            return {}

    def _inside(self, taken: Mapping[Partition, Sequence[Record]]) -> Mapping[Partition, Sequence[Record]]:
        inside = {}
        for partition, records in taken.items():
            end = self._ends[partition]
            kept = records if records[-1].offset < end else [r for r in records if r.offset < end]
            if kept:
                inside[partition] = kept
        return inside


async def read_again(connection: Connection, starts: Offsets, ends: Offsets) -> list[Record]:
    """All records of [start, end) of each partition, in memory. Raises as LogReader does."""
    found: list[Record] = []
    async with aclosing(LogReader(connection, starts, ends).chunks()) as chunks:
        async for _, records in chunks:
            found += records
    return found
