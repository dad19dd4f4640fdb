"""What happens in the demo: traffic, a worker stopped in mid-stream, a second one, the proof."""

import asyncio
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest import stack
from ingest.demo.figures import Outcome, View, percentile, quantile
from ingest.demo.probe import CLIENT, Probe
from ingest.demo.worker import WorkerProcess
from ingest.inspect import show
from ingest.kafka import Connection, LogReader, Lookup
from ingest.kafka.deadletters import ORIGIN, REASON
from ingest.kafka.publisher import Publisher
from ingest.migrate import migrate
from ingest.postgres import Database
from ingest.postgres.pins import put_settings
from ingest.projection import pinned_names
from ingest.publish import Failures, Outbox
from ingest.registry import Registry
from ingest.settings import Settings, load
from ingest.simulate import Simulation, simulate
from ingest.status import group_of
from ingest.topics import create
from ingest.verify import Subject, verify

LOOK_S = 0.25
SAMPLES = ("client", "user")
FOLDED = ("applied", "coalesced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of what. `seconds`: how long the traffic takes; `keep`: leave everything running."""

    folder: Path
    events: int = 50_000
    users: int = 2_000
    clients: int = 400
    seconds: float = 20.0
    seed: int = 1
    keep: bool = False


def play(plan: Plan, registry: Registry, on_view: Callable[[View], None]) -> Outcome:
    """Play it and tell what was seen. To be called from the main thread, which the servers die with.

    Raises Misconfigured or Unavailable where it cannot be played to its end.
    """
    with _servers(plan) as servers:
        options = [(p.name, p.options) for p in registry.projections.values()]
        settings = load(options, overrides=servers.env(), env_file=None)
        scene = _Scene(plan, registry, settings, servers.env(), on_view)
        return asyncio.run(scene.play())


@contextmanager
def _servers(plan: Plan) -> Iterator[stack.Stack]:
    """Servers of the demo's own, new each time: the proof wants tables that hold this log and no other."""
    if plan.folder.exists():
        stack.down(plan.folder)
        shutil.rmtree(plan.folder)
    plan.folder.mkdir(parents=True)
    if plan.keep:
        yield stack.up(plan.folder)
        return
    try:
        with stack.running(plan.folder) as servers:
            yield servers
    finally:
        shutil.rmtree(plan.folder, ignore_errors=True)


@dataclass(slots=True)
class _Scene:
    plan: Plan
    registry: Registry
    settings: Settings
    variables: Mapping[str, str]
    on_view: Callable[[View], None]
    outcome: Outcome = field(default_factory=Outcome)
    act: str = "starting"
    sent: int = 0
    distinct: set[int] = field(default_factory=set)

    async def play(self) -> Outcome:
        async with AsyncExitStack() as exits:
            connection = Connection(self.settings.kafka)
            database = Database(self.settings.postgres, self.registry.engine)
            exits.push_async_callback(database.close)
            await self._set_up(connection, database)
            lookup = await exits.enter_async_context(Lookup(connection))
            failures = Failures()
            topics = {topic: topic for topic in self.registry.topics}
            publisher = await exits.enter_async_context(
                Publisher(connection, list(topics), on_failed=failures.add)
            )
            worker = WorkerProcess(self.plan.folder, self.variables, self.plan.keep)
            outbox = Outbox(publisher, topics, failures, self.plan.events / self.plan.seconds)
            probe = Probe(outbox, database, self.registry.sql["client_activity"].shows["client"])
            viewing = asyncio.create_task(self._keep_viewing(worker))
            try:
                await self._traffic(worker, outbox, probe, lookup)
                await self._measure(worker, probe)
                await self._prove(connection, database, lookup)
            finally:
                viewing.cancel()
                if not self.plan.keep:
                    self.act = "leaving"
                    await worker.stop()
        if self.plan.keep:
            self.outcome.addresses = self._addresses(worker)
        return self.outcome

    async def _set_up(self, connection: Connection, database: Database) -> None:
        await migrate(self.settings.postgres, self.registry.files)
        for name, projection in self.registry.projections.items():
            options = self.settings.projection(name).options
            await put_settings(database, name, options.model_dump(), pinned_names(projection.options))
        await create(connection, self.registry, None, None)

    async def _traffic(self, worker: WorkerProcess, outbox: Outbox, probe: Probe, lookup: Lookup) -> None:
        worker.start()
        self.act = "a worker joins"
        await worker.until_ready()
        started = time.monotonic()
        probing = asyncio.create_task(probe.run(self._note))
        self.act = "publishing"
        restart: asyncio.Task[None] | None = None
        for message in simulate(self._simulation()):
            await outbox.send(message.topic, message.key, message.value)
            self._note(message.value)
            worker.check()
            if restart is None and self.sent >= self.plan.events // 2:
                restart = asyncio.create_task(self._restart(worker))
        if restart is not None:
            await restart
        probing.cancel()
        with suppress(asyncio.CancelledError):
            await probing
        await outbox.finish()
        self.act = "draining"
        await self._drained(worker, lookup)
        self.outcome.seconds = time.monotonic() - started

    def _simulation(self) -> Simulation:
        plan, now = self.plan, datetime.now(UTC)
        return Simulation(end=now, users=plan.users, clients=plan.clients, events=plan.events, seed=plan.seed)

    def _note(self, value: bytes) -> None:
        self.sent += 1
        self.distinct.add(hash(value))

    async def _restart(self, worker: WorkerProcess) -> None:
        """SIGTERM while events keep coming; then a new process takes over where this one committed."""
        self.act = "SIGTERM to the worker"
        begun = time.monotonic()
        await worker.stop()
        self.act = "a new worker joins"
        worker.start()
        await worker.until_ready()
        self.outcome.restart = time.monotonic() - begun
        self.act = "publishing"

    async def _drained(self, worker: WorkerProcess, lookup: Lookup) -> None:
        for projection in self.registry.projections.values():
            ends = await lookup.stable_ends(await lookup.partitions(projection.topic))
            while True:
                worker.check()
                committed = await lookup.committed(group_of(projection.name), list(ends))
                if all(committed.get(p, 0) >= end for p, end in ends.items()):
                    break
                await asyncio.sleep(LOOK_S)

    async def _measure(self, worker: WorkerProcess, probe: Probe) -> None:
        await asyncio.sleep(2 * LOOK_S)  # one more look at the metrics
        flushes = worker.buckets("flush_duration_seconds")
        outcome = self.outcome
        outcome.published, outcome.distinct = self.sent, len(self.distinct)
        outcome.statements = int(worker.total("statements_total"))
        outcome.rows_written = int(worker.total("rows_written_total"))
        outcome.rows_suppressed = int(worker.total("rows_suppressed_total"))
        outcome.flushes = int(max(flushes.values(), default=0))
        outcome.flush_p50, outcome.flush_p99 = quantile(flushes, 0.5), quantile(flushes, 0.99)
        outcome.freshness_p50 = percentile(probe.delays, 0.5)
        outcome.freshness_p99 = percentile(probe.delays, 0.99)
        outcome.probes = len(probe.delays)

    async def _prove(self, connection: Connection, database: Database, lookup: Lookup) -> None:
        reports = []
        for projection in self.registry.projections.values():
            self.act = f"proving {projection.name}"
            subject = Subject.of(projection, self.registry, self.settings)
            reports.append(
                await verify(subject, lookup, lambda a, b: LogReader(connection, a, b).chunks(), database)
            )
        self.outcome.reports = reports
        self.outcome.rejected = await self._rejected(connection, lookup)
        self.outcome.samples = await self._samples(database)

    async def _rejected(self, connection: Connection, lookup: Lookup) -> dict[str, int]:
        """By reason; a record that two projections refused counts once."""
        partitions = await lookup.partitions(self.settings.kafka.dead_letter_topic)
        starts, ends = await lookup.beginnings(partitions), await lookup.stable_ends(partitions)
        reasons: dict[bytes, str] = {}
        async for _, records in LogReader(connection, starts, ends).chunks():
            for record in records:
                headers = dict(record.headers)
                reasons[headers[ORIGIN] or b""] = (headers[REASON] or b"").decode()
        return dict(Counter(reasons.values()).most_common())

    async def _samples(self, database: Database) -> dict[str, Sequence[Mapping[str, Any]]]:
        """All that is known of the probe's client and of the user with the longest streak."""
        found: dict[str, Sequence[Mapping[str, Any]]] = {}
        best = await database.fetch(self.registry.sql["streaks"].queries["longest"], 1)
        for kind, id in zip(SAMPLES, (CLIENT, best[0]["user_id"] if best else ""), strict=True):
            for answer in await show(database, self.registry, kind, id):
                if answer.rows:
                    found[f"{kind} {id} · {answer.projection} {answer.section}"] = answer.rows[:3]
        return found

    async def _keep_viewing(self, worker: WorkerProcess) -> None:
        while True:
            flushes = worker.buckets("flush_duration_seconds")
            self.on_view(
                View(
                    act=self.act,
                    published=self.sent,
                    expected=self.plan.events,
                    applied=int(sum(worker.total("records_total", outcome=o) for o in FOLDED)),
                    lag=int(worker.total("consumer_lag")) if worker.pid else None,
                    buffer=int(worker.total("buffer_rows")),
                    flush=quantile(flushes, 0.5),
                    dead_letters=int(worker.total("dead_letters_total")),
                )
            )
            await asyncio.sleep(LOOK_S)

    def _addresses(self, worker: WorkerProcess) -> dict[str, str]:
        return {
            "metrics": f"{worker.address}/metrics",
            "health": f"{worker.address}/readyz",
            "worker": f"pid {worker.pid}, log {worker.log}",
            "variables": f'cd {os.path.relpath(self.plan.folder)} && eval "$(activity-ingest stack env)"',
        }
