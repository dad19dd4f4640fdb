"""The limits: polling alone, and writing the same rows from arrays made beforehand."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from time import monotonic, perf_counter
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition

from ingest.batch import Batch, Caps, Flush
from ingest.kafka import Connection
from ingest.postgres.sink import columns
from ingest.projection import Projection
from ingest.queries import SqlFile
from ingest.record import Partition
from ingest.registry import limits
from ingest.worker import POLL_RECORDS
from tests.bench.cases import now
from tests.bench.ground import Ground

Arguments: TypeAlias = list[list[Any]]
"""For each write statement of a flush, its arrays."""


@asynccontextmanager
async def consumer(ground: Ground) -> AsyncIterator[Any]:
    """aiokafka's consumer at the topic's beginning, in no group, set as the worker's is."""
    kafka = ground.settings.kafka
    reading = AIOKafkaConsumer(
        **Connection(kafka).arguments,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_min_bytes=kafka.fetch_min_bytes,
        fetch_max_wait_ms=round(kafka.fetch_max_wait * 1000),
        fetch_max_bytes=16 * 1024 * 1024,
        max_partition_fetch_bytes=kafka.max_partition_fetch_bytes,
    )
    await reading.start()
    try:
        reading.assign([TopicPartition(*partition) for partition in ground.partitions])
        await reading.seek_to_beginning()
        yield reading
    finally:
        await reading.stop()


async def raw_poll(ground: Ground) -> float:
    """Seconds for reading the topic where nothing is done with the records."""
    async with consumer(ground) as reading:
        count, started = 0, perf_counter()
        while count < ground.events:
            taken = await reading.getmany(timeout_ms=200)
            count += sum(map(len, taken.values()))
        return perf_counter() - started


async def flushes(ground: Ground) -> list[Flush]:
    """What the worker would write, had it no time limit."""
    settings = ground.settings.projection(ground.case.projection)
    caps = Caps(settings.worker.max_rows, settings.worker.max_records, settings.worker.max_bytes)
    decoder = ground.registry.decoder(ground.projection, limits(ground.settings.contract))
    done: list[Flush] = []
    batch = Batch(ground.projection, settings.options, decoder, 0)
    count = 0
    async with consumer(ground) as reading:
        while count < ground.events:
            for here, records in (await reading.getmany(timeout_ms=200, max_records=POLL_RECORDS)).items():
                count += len(records)
                batch.add(Partition(*here), records, now(), monotonic())
            if batch.full(caps):
                done.append(batch.close("full"))
                batch = Batch(ground.projection, settings.options, decoder, 0)
    return [*done, batch.close("end")]


def arrays_of(projection: Projection, sql: SqlFile, done: Iterable[Flush]) -> list[Arguments]:
    """For each flush, what its statements are given."""
    getters = [[attrgetter(name) for name in table.columns] for table in projection.tables]
    prepared = []
    for flush in done:
        parts = [columns(rows, get) for rows, get in zip(flush.rows, getters, strict=True)]
        prepared.append([[c for n in w.tables for c in parts[projection.table(n)]] for w in sql.writes])
    return prepared


async def raw_write(ground: Ground, prepared: Sequence[Arguments], connections: int) -> float:
    """Seconds that Postgres takes for all of them, over so many connections."""
    texts = [statement.text for statement in ground.registry.sql[ground.case.projection].writes]
    opened = [await ground.connect() for _ in range(connections)]
    try:
        waiting = iter(prepared)
        started = perf_counter()
        await asyncio.gather(*(write(connection, texts, waiting) for connection in opened))
        return perf_counter() - started
    finally:
        for connection in opened:
            await connection.close()


async def write(connection: Any, texts: Sequence[str], flushes: Iterable[Arguments]) -> None:
    """Each flush in a transaction, as the worker writes it."""
    for arguments in flushes:
        async with connection.transaction():
            for text, given in zip(texts, arguments, strict=True):
                await connection.execute(text, *given)
