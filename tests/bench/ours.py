"""The worker, wired as `ingest.member` wires it, from its assignment to the end of its drain."""

import asyncio
from dataclasses import dataclass
from time import perf_counter, process_time

from ingest.kafka import Connection, Lookup
from ingest.member import Member, World
from ingest.metrics import Metrics
from ingest.ports import Polled
from ingest.postgres import Database
from ingest.postgres.pins import put_settings
from ingest.projection import pinned_names
from tests.bench.ground import Ground


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds on the clock, and of processor time in this process."""

    wall: float
    processor: float


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
    stop = asyncio.Event()
    started = [0.0, 0.0]
    poll = member.source.poll

    def assigned(partitions: int) -> None:
        started[:] = perf_counter(), process_time()

    async def watched(timeout_s: float, limit: int) -> Polled:
        polled = await poll(timeout_s, limit)
        if sum(polled.positions.values()) >= ground.events:
            stop.set()
        return polled

    member.metrics.assigned = assigned  # type: ignore[method-assign]
    member.source.poll = watched  # type: ignore[method-assign]
    await member.start()
    await member.worker.run(stop)
    wall, processor = perf_counter() - started[0], process_time() - started[1]
    stored = sum(s._value.get() for s in metrics.for_projection(ground.case.projection).records.values())
    if stored != ground.events:
        raise RuntimeError(f"{stored:.0f} of {ground.events} records were accounted for")
    return Took(wall, processor)
