"""The ground that everything is measured on: the embedded stack, settings, topics, tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from ingest import registry, stack
from ingest.errors import IngestError
from ingest.kafka import Connection, Publisher, Topic, create_topics
from ingest.migrate import migrate
from ingest.postgres.access import access
from ingest.projection import Projection
from ingest.record import Partition
from ingest.registry import Registry
from ingest.settings import Settings, load
from tests.bench.cases import Case, now

ROOT = Path(__file__).parents[2]
PARTITIONS = 8


@dataclass(frozen=True, slots=True)
class Ground:
    """A case made ready: its topic is full, and `settings` name it."""

    case: Case
    registry: Registry
    settings: Settings
    events: int

    @property
    def projection(self) -> Projection:
        return self.registry.projections[self.case.projection]

    @property
    def topic(self) -> str:
        return self.settings.kafka.topic(self.projection.topic)

    @property
    def partitions(self) -> list[Partition]:
        return [Partition(self.topic, number) for number in range(PARTITIONS)]

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection as the worker's are."""
        return await asyncpg.connect(**access(self.settings.postgres).arguments)

    async def empty(self) -> None:
        """Empty tables, as every pass begins; what earlier ones left to be written is written now."""
        connection = await self.connect()
        try:
            tables = await connection.fetch(
                "select format('%I', relname) as name from pg_class "
                "where relnamespace = 'public'::regnamespace and relkind = 'r' "
                "and relname not in ('ingest_migration', 'ingest_setting')"
            )
            await connection.execute("truncate " + ", ".join(row["name"] for row in tables))
            await connection.execute("checkpoint", timeout=300)
        finally:
            await connection.close()


@contextmanager
def embedded() -> Iterator[stack.Stack]:
    """A stack of our own, durable as any, gone at the end."""
    (ROOT / ".bench").mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="stack-", dir=ROOT / ".bench") as name:
        Path(name).chmod(0o755)  # root must give up being root for Postgres
        with stack.running(Path(name), postgres_settings={"max_wal_size": "4GB"}) as running:
            yield running


async def prepare(running: stack.Stack, case: Case, events: int) -> Ground:
    """Migrate, make the case's topic and fill it."""
    projections = registry.load()
    projection = projections.projections[case.projection]
    name = f"bench.{case.name.replace(' ', '-')}"
    overrides = {**running.env(), "ACTIVITY_KAFKA__TOPICS": f"{projection.topic}={name}"}
    options = [(p.name, p.options) for p in projections.projections.values()]
    ground = Ground(case, projections, load(options, overrides=overrides, env_file=None), 0)
    await migrate(ground.settings.postgres, projections.files)
    count = await _fill(Connection(ground.settings.kafka), case, name, events)
    return Ground(case, projections, ground.settings, count)


async def _fill(connection: Connection, case: Case, topic: str, events: int) -> int:
    letters = connection.settings.dead_letter_topic
    await create_topics(connection, [Topic(topic, PARTITIONS), Topic(letters, 1)])
    failures: list[IngestError] = []

    def failed(tags: Sequence[object], error: IngestError) -> None:
        failures.append(error)

    count = 0
    async with Publisher(connection, [topic], on_failed=failed, linger=60.0) as publisher:
        for key, value in case.messages(events, now()):
            await publisher.send(topic, key, value, [])
            count += 1
        await publisher.flush()
    if failures:
        raise failures[0]
    return count
