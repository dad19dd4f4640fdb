"""The worker, wired as `ingest.member` wires it, from its assignment to the end of its drain."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace
from time import perf_counter, process_time

from ingest.kafka import Connection, Lookup
from ingest.member import Member, World
from ingest.metrics import Metrics
from ingest.postgres import Database
from ingest.postgres.pins import put_settings
from ingest.projection import pinned_names
from ingest.record import Partition
from tests.bench.ground import Ground

LOOK = 0.01  # seconds between two looks whether all is read


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds on the clock and of processor time in this process; rows written, flushes."""

    wall: float
    cpu: float
    rows: float
    flushes: float


async def work(ground: Ground) -> Took:
    """Fold the whole topic into empty tables."""
    metrics = Metrics("bench")
    database = Database(ground.settings.postgres, ground.registry.engine)
    connection = Connection(ground.settings.kafka)
    options = ground.settings.projection(ground.case.projection).options
    await put_settings(database, ground.case.projection, options.model_dump(), pinned_names(type(options)))
    async with Lookup(connection) as lookup:
        world = World(
            ground.registry, ground.settings, connection, database, metrics, lookup, "bench", "bench"
        )
        member = Member(ground.projection, world)
        try:
            return await _timed(ground, member, metrics)
        finally:
            await member.stop()
            await database.close()


async def _timed(ground: Ground, member: Member, metrics: Metrics) -> Took:
    begun = asyncio.Event()
    started = [0.0, 0.0]

    async def assigned(partitions: Collection[Partition], generation: int) -> None:
        started[:] = perf_counter(), process_time()
        begun.set()

    member.source.listener = replace(member.source.listener, on_assigned=assigned)
    stop = asyncio.Event()
    await member.start()
    running = asyncio.create_task(member.worker.run(stop))
    await begun.wait()
    while sum(member.worker.positions.values()) < ground.events and not running.done():
        await asyncio.sleep(LOOK)
    stop.set()
    await running
    wall, cpu = perf_counter() - started[0], process_time() - started[1]
    measured = metrics.for_projection(ground.case.projection)
    flushes = sum(series._value.get() for series in measured.flushes.values())
    stored = sum(series._value.get() for series in measured.records.values())
    if stored != ground.events:
        raise RuntimeError(f"{stored:.0f} of {ground.events} records were accounted for")
    return Took(wall, cpu, measured.rows_written._value.get(), flushes)
