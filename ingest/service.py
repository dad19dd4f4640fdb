"""The composition root of `run`: builds everything, supervises it, and stops it in order."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.metadata import version
from uuid import uuid4

import structlog

from ingest.errors import Unavailable
from ingest.http import Activity, Condition, HttpServer, Verdict
from ingest.kafka import Connection, Lookup, thin_out
from ingest.member import Member, World
from ingest.metrics import Metrics
from ingest.migrate import require_fit
from ingest.postgres import Database
from ingest.postgres.pins import put_settings
from ingest.postgres.progress import start_offsets
from ingest.projection import Projection, pinned_names
from ingest.record import Offsets, Partition
from ingest.registry import Registry
from ingest.settings import Settings
from ingest.status import group_of

log = structlog.get_logger()

OBSERVE_EVERY = 1.0  # seconds
CAUGHT_UP_EVERY = 0.3  # seconds


class Health:
    """Answers the probes from what the members know already."""

    def __init__(self, metrics: Metrics) -> None:
        self.members: Sequence[Member] = ()
        self._metrics = metrics

    def live(self) -> Verdict:
        return Verdict([member.live() for member in self.members])

    def ready(self) -> Verdict:
        starting = [] if self.members else [Condition("start", False, "connecting")]
        verdict = Verdict([*starting, *(member.ready() for member in self.members)])
        self._metrics.ready.set(verdict.ok)
        return verdict

    def health(self) -> dict[str, Activity]:
        return {member.projection.name: member.health() for member in self.members}


async def run(
    registry: Registry,
    settings: Settings,
    projections: Sequence[Projection],
    *,
    until_caught_up: bool = False,
) -> None:
    """Fold the topics of `projections` into their tables until a signal, or until caught up.

    The first SIGTERM or SIGINT drains: write, commit, leave. A second ends the process at once, which
    is safe because nothing is committed before it is durable. Raises Misconfigured or Unavailable.
    """
    stop = asyncio.Event()
    _obey_signals(stop)
    metrics = Metrics(version("activity-ingest"))
    health = Health(metrics)
    thin_out(on_line=lambda logger, passed: None if passed else metrics.client_log_suppressed[logger].inc())
    async with AsyncExitStack() as exits:
        if settings.http.enabled:
            await exits.enter_async_context(
                HttpServer(settings.http.host, settings.http.port, metrics, health)
            )
        world = await exits.enter_async_context(_world(registry, settings, metrics, projections))
        await _prepare(world, projections)
        members = [Member(projection, world) for projection in projections]
        for member in members:
            exits.push_async_callback(member.stop)
            await member.start()
        health.members = members
        log.info("started", projections=[p.name for p in projections], version=world.version)
        ends = {m.projection.name: await m.source.ends() for m in members} if until_caught_up else None
        await _supervise(world, members, health, stop, ends)
    log.info("stopped")


@asynccontextmanager
async def _world(
    registry: Registry, settings: Settings, metrics: Metrics, projections: Sequence[Projection]
) -> AsyncIterator[World]:
    connection = Connection(settings.kafka)
    connections = settings.postgres.pool_size * len(projections)
    database = Database(settings.postgres.model_copy(update={"pool_size": connections}), registry.engine)
    lookup = Lookup(connection)
    holder = f"{os.uname().nodename}/{os.getpid()}/{uuid4().hex[:8]}"
    async with AsyncExitStack() as exits:
        exits.push_async_callback(database.close)
        await lookup.start()
        exits.push_async_callback(lookup.stop)
        yield World(
            registry, settings, connection, database, metrics, lookup, version("activity-ingest"), holder
        )


async def _prepare(world: World, projections: Sequence[Projection]) -> None:
    """Refuse a schema that does not fit, and settings that the stored rows were not made with."""
    await require_fit(
        world.database, [world.registry.engine, *(world.registry.sql[p.name] for p in projections)]
    )
    for projection in projections:
        options = world.settings.projection(projection.name).options
        pinned = pinned_names(projection.options)
        await put_settings(world.database, projection.name, options.model_dump(), pinned)


async def _supervise(
    world: World,
    members: Sequence[Member],
    health: Health,
    stop: asyncio.Event,
    ends: dict[str, Offsets] | None,
) -> None:
    """Runs until `stop`; the first failure stops the others, which drain, and is raised then."""
    tasks = [asyncio.create_task(member.worker.run(stop)) for member in members]
    tasks += [asyncio.create_task(member.sweeper.run(stop)) for member in members]
    tasks.append(asyncio.create_task(_observe(members, health, stop)))
    if ends is not None:
        tasks.append(asyncio.create_task(_stop_when_caught_up(world, ends, stop)))
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    stop.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if error := task.exception():
            raise error


async def _observe(members: Sequence[Member], health: Health, stop: asyncio.Event) -> None:
    while not stop.is_set():
        for member in members:
            member.observe()
        health.ready()
        with suppress(TimeoutError):
            async with asyncio.timeout(OBSERVE_EVERY):
                await stop.wait()


async def _stop_when_caught_up(world: World, ends: dict[str, Offsets], stop: asyncio.Event) -> None:
    """Sets `stop` once everything below the ends noted at the start is committed and durable."""
    waiting = {name: {p: end for p, end in noted.items() if end > 0} for name, noted in ends.items()}
    while not stop.is_set() and any(waiting.values()):
        await asyncio.sleep(CAUGHT_UP_EVERY)
        for name, noted in waiting.items():
            try:
                done = await _done(world, name, list(noted))
            except Unavailable as error:
                log.warning("cannot ask how far it is", projection=name, error=error.message)
                continue
            waiting[name] = {p: end for p, end in noted.items() if done.get(p, -1) < end}
    log.info("caught up")
    stop.set()


async def _done(world: World, projection: str, partitions: Sequence[Partition]) -> Offsets:
    """The lower of the group's commit and what Postgres has, which may have been restored."""
    if not partitions:
        return {}
    committed = await world.lookup.committed(group_of(projection), partitions)
    stored = await start_offsets(world.database, projection, partitions)
    return {p: min(offset, stored.get(p, -1)) for p, offset in committed.items()}


def _obey_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def obey(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        log.info(
            "stopping: writing what is held, then leaving; a second signal ends it at once",
            signal=number.name,
        )
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, obey, number)
