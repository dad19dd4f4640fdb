"""One projection at work in this process: its place in the consumer group, its worker, its sweeper."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from time import monotonic

import structlog

from ingest.batch import Caps
from ingest.errors import Unavailable
from ingest.http import Activity, Condition
from ingest.kafka import Connection, KafkaDeadLetters, KafkaSource, Listener, Lookup
from ingest.metrics import Metrics
from ingest.pace import Pace
from ingest.postgres import Database, PostgresSink
from ingest.postgres.progress import start_offsets
from ingest.projection import Projection
from ingest.record import Partition
from ingest.registry import Registry, limits
from ingest.retry import Backoff
from ingest.settings import Settings
from ingest.status import group_of
from ingest.sweep import Sweeper
from ingest.worker import Worker
from ingest.writer import Writer

log = structlog.get_logger()


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class World:
    """What all members of a process share. `holder` is unique to it."""

    registry: Registry
    settings: Settings
    connection: Connection
    database: Database
    metrics: Metrics
    lookup: Lookup
    version: str
    holder: str


class Member:
    """Built from the settings; nothing connects before `start`."""

    def __init__(self, projection: Projection, world: World) -> None:
        settings = world.settings.projection(projection.name)
        pace = _pace(world.settings, projection.name)
        self.projection = projection
        self.topic = world.settings.kafka.topic(projection.topic)
        self.metrics = world.metrics.for_projection(projection.name)
        self.source = KafkaSource(world.connection, group_of(projection.name), [self.topic], self._listener())
        self.dead_letters = KafkaDeadLetters(
            world.connection, world.settings.kafka.dead_letter_topic, world.version
        )
        decoder = world.registry.decoder(projection, limits(world.settings.contract))
        sql = world.registry.sql[projection.name]
        random: Callable[[], float] = Random().random
        writer = Writer(
            projection=projection,
            options=settings.options,
            decoder=decoder,
            source=self.source,
            sink=PostgresSink(world.database, projection, sql),
            dead_letters=self.dead_letters,
            metrics=self.metrics,
            backoff=Backoff(settings.worker.backoff_base, settings.worker.backoff_cap),
            now=utc_now,
            random=random,
        )
        self.worker = Worker(
            projection, settings.options, decoder, self.source, writer, pace, self.metrics,
            now=utc_now, monotonic=monotonic, random=random,
        )  # fmt: skip
        self.sweeper = Sweeper(
            projection.name, self.topic, sql, world.database, world.metrics, world.holder,
            self._partitions, utc_now, settings.worker.sweep_interval, settings.worker.gauge_interval,
        )  # fmt: skip
        self._database, self._lookup = world.database, world.lookup
        self._interval, self._max_rows = settings.worker.flush_interval, settings.worker.max_rows
        self._patience = world.settings.kafka.rebalance_timeout + world.settings.kafka.request_timeout
        self._counted = {"fenced": 0, "truncated": 0}

    async def start(self) -> None:
        """Connect. Raises Misconfigured or Unavailable."""
        await self.dead_letters.start()
        await self.source.start()

    async def stop(self) -> None:
        """Leave the group; what is durable has been committed by the worker."""
        await self.source.stop()
        await self.dead_letters.stop()

    def observe(self) -> None:
        """Bring the gauges up to date; asks nobody."""
        self.metrics.lags(self.source.lags())
        for name, total, counter in (
            ("fenced", self.source.fenced_commits, self.metrics.commits["fenced"]),
            ("truncated", self.dead_letters.truncated, self.metrics.truncated),
        ):
            counter.inc(total - self._counted[name])
            self._counted[name] = total

    def live(self) -> Condition:
        """Whether the loop still turns."""
        silent = monotonic() - self.worker.last_turn
        return Condition(self.projection.name, silent <= self._patience, f"last turned {silent:.1f} s ago")

    def ready(self) -> Condition:
        """Whether events of this projection become rows now."""
        name = self.projection.name
        if causes := sorted(set(self.worker.writer.troubles.values())):
            servers = dict.fromkeys("Kafka" if c.startswith("kafka") else "Postgres" for c in causes)
            return Condition(name, False, f"waiting for {' and '.join(servers)}: {', '.join(causes)}")
        if self.sweeper.trouble:
            return Condition(name, False, f"Postgres: {self.sweeper.trouble}")
        if self.source.trouble:
            return Condition(name, False, f"Kafka: {self.source.trouble}")
        if not self.source.placed:
            return Condition(name, False, "the consumer group has not assigned its partitions yet")
        return Condition(name, True, f"reads {len(self.source.assigned)} partitions")

    def health(self) -> Activity:
        lags = self.source.lags()
        return Activity(
            buffer_size=self.worker.buffered_rows,
            max_buffer_size=self._max_rows,
            flush_interval=self._interval,
            last_flush=self.worker.last_flush,
            lag=sum(lags.values()) if self.source.placed else None,
        )

    async def _partitions(self) -> int:
        return len(await self._lookup.partitions(self.topic))

    def _listener(self) -> Listener:
        return Listener(
            starts=self._starts,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            on_rewound=self._rewound,
            on_lost=self._lost,
            on_waiting=self._waiting,
        )

    async def _starts(self, partitions: Collection[Partition]) -> Mapping[Partition, int | None]:
        found = await start_offsets(self._database, self.projection.name, partitions)
        self.worker.found(found)
        return found

    async def _assigned(self, partitions: Collection[Partition], generation: int) -> None:
        self.metrics.assigned(len(partitions))

    async def _revoked(self, partitions: Collection[Partition], generation: int) -> None:
        await self.worker.revoke()

    def _rewound(self, partition: Partition, committed: int, start: int) -> None:
        self.metrics.restored_rewinds.inc()
        log.warning(
            "Postgres knows less than Kafka's commit: reading again",
            projection=self.projection.name, partition=partition.number, committed=committed, start=start,
        )  # fmt: skip

    def _lost(self, partition: Partition, lost: int, start: int) -> None:
        self.metrics.lost_offsets.inc()
        log.error(
            "the log no longer has an offset that was to be read: going on as offset_reset says",
            projection=self.projection.name, partition=partition.number, lost=lost, start=start,
        )  # fmt: skip

    def _waiting(self, error: Unavailable) -> None:
        self.metrics.retry(error.cause)
        log.warning("where to start is not known yet", projection=self.projection.name, error=error.message)


def _pace(settings: Settings, projection: str) -> Pace:
    worker = settings.projection(projection).worker
    return Pace(
        caps=Caps(worker.max_rows, worker.max_records, worker.max_bytes, worker.flush_interval),
        jitter=worker.flush_jitter,
        max_in_flight=worker.max_in_flight,
        revoke_timeout=settings.kafka.rebalance_timeout / 2,
        drain_timeout=worker.drain_timeout,
        idle_refresh=worker.idle_refresh,
    )
