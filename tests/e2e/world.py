"""One service in a test: servers, a database, topics, and its commands."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
from aiokafka import AIOKafkaProducer

from ingest import registry, stack
from ingest.kafka import Connection, LogReader, Lookup
from ingest.migrate import migrate
from ingest.record import Offsets, Record
from ingest.settings import KafkaSettings
from ingest.status import group_of
from ingest.topics import create
from tests.e2e.process import PATIENCE, Process
from tests.servers import kill

# A killed server must still have what it said was committed, so only a failing machine may cost anything.
SURVIVES_KILLS = {"fsync": "off", "full_page_writes": "off"}
LOGICAL = ("activity.client", "activity.user", "activity.live")
DEAD_LETTERS = "activity.dead-letters"
TOPIC_OF = {
    "client_activity": "activity.client",
    "user_activity": "activity.user",
    "streaks": "activity.user",
    "live_activity": "activity.live",
}
PROJECTIONS = tuple(TOPIC_OF)
QUICK = {
    "ACTIVITY_HTTP__HOST": "127.0.0.1",
    "ACTIVITY_HTTP__PORT": "0",
    # A member that was killed is missed after one session, and the embedded broker lets the first one
    # in after half of one.
    "ACTIVITY_KAFKA__SESSION_TIMEOUT": "6" if os.environ.get("ACTIVITY_TEST_KAFKA") else "2",
}


class Session:
    """One connection to Postgres for code that is not asynchronous."""

    def __init__(self, runner: asyncio.Runner, connection: "asyncpg.Connection[Any]") -> None:
        self._runner, self._connection = runner, connection

    def execute(self, statement: str) -> None:
        self._runner.run(self._connection.execute(statement))

    def value(self, statement: str, *arguments: Any) -> Any:
        return self._runner.run(self._connection.fetchval(statement, *arguments))

    def rows(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._runner.run(self._connection.fetch(statement, *arguments))]

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Nobody else writes to the table."""
        self.execute(f"begin; lock table {table} in share mode")
        yield
        self.execute("rollback")

    def blocks(self, table: str) -> bool:
        """Whether a transaction has come to the locked table, and waits in its midst."""
        waiting = "select exists (select from pg_locks where not granted and relation = $1::text::regclass)"
        return bool(self.value(waiting, table))


class Produced(NamedTuple):
    """A record to produce: to which logical topic, and what is in it."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """`topics`: logical name -> actual name. `variables` point every command here."""

    folder: Path
    dsn: str
    broker: str
    topics: Mapping[str, str]
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        others = {n: v for n, v in os.environ.items() if not n.startswith(("ACTIVITY_", "PG_"))}
        return {**others, **QUICK, **self.variables, **variables}

    def cli(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        command = [sys.executable, "-m", "ingest", *arguments]
        environment = self.environment(variables)
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=5 * PATIENCE
        )

    def json(self, *arguments: str, **variables: str) -> Any:
        """What a command with --json answers; it must succeed."""
        done = self.cli(*arguments, "--json", **variables)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout)

    @contextmanager
    def running(self, *arguments: str, **variables: str) -> Iterator[Process]:
        """A command in the background; killed at the end of the block where it still runs."""
        process = Process(arguments or ("run",), self.folder, self.environment(variables))
        try:
            yield process
        finally:
            process.kill()

    def catch_up(self, **variables: str) -> None:
        """Runs a worker until everything that is in the topics now was committed."""
        done = self.cli("run", "--until-caught-up", **variables)
        assert done.returncode == 0, done.stderr[-2000:]

    def verify(self, *arguments: str) -> list[dict[str, Any]]:
        """The reports, of tables that equal the fold of the log; waits until workers have caught up."""
        reports: list[dict[str, Any]] = self.json("verify", *arguments)
        assert [r["projection"] for r in reports if r["verdict"] != "equal"] == [], reports
        return reports

    @contextmanager
    def database(self) -> Iterator[Session]:
        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(self.dsn))
            try:
                yield Session(runner, connection)
            finally:
                runner.run(connection.close())

    def value(self, statement: str, *arguments: Any) -> Any:
        with self.database() as session:
            return session.value(statement, *arguments)

    def rows(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self.database() as session:
            return session.rows(statement, *arguments)

    def produce(self, records: Iterable[Produced], **producer: Any) -> list[str]:
        """As any producer would; returns where each record is: topic:partition:offset."""
        return asyncio.run(self._produce(records, producer))

    async def _produce(self, records: Iterable[Produced], arguments: Mapping[str, Any]) -> list[str]:
        async with AIOKafkaProducer(bootstrap_servers=self.broker, acks="all", **arguments) as producer:
            sent = [
                await producer.send(self.topics[r.topic], r.value, r.key, headers=list(r.headers))
                for r in records
            ]
            await producer.flush()
            return [f"{m.topic}:{m.partition}:{m.offset}" for m in [await one for one in sent]]

    def create_topics(self) -> None:
        asyncio.run(create(self._connection, registry.load()))

    def ends(self, *logical: str) -> Offsets:
        """The end of each partition of these topics."""
        return asyncio.run(self._ends([self.topics[name] for name in logical]))

    async def _ends(self, topics: Sequence[str]) -> Offsets:
        async with Lookup(self._connection) as lookup:
            return await lookup.stable_ends(await lookup.partitions(*topics))

    def committed(self, projection: str) -> Offsets:
        """What the projection's group has committed."""
        return asyncio.run(self._committed(group_of(projection), self.topics[TOPIC_OF[projection]]))

    def until_read(self, projection: str, alive: Process) -> None:
        """Returns once the group has committed all that is in its topic now."""
        ends = self.ends(TOPIC_OF[projection])
        wanted = {partition: end for partition, end in ends.items() if end}
        alive.until(
            lambda: self.committed(projection).items() >= wanted.items(), f"{projection} has read {wanted}"
        )

    async def _committed(self, group: str, topic: str) -> Offsets:
        async with Lookup(self._connection) as lookup:
            return await lookup.committed(group, await lookup.partitions(topic))

    @property
    def _connection(self) -> Connection:
        names = {name: self.topics[name] for name in LOGICAL}
        letters = self.topics[DEAD_LETTERS]
        return Connection(
            KafkaSettings(bootstrap_servers=self.broker, topics=names, dead_letter_topic=letters)
        )

    def read(self, logical: str) -> list[Record]:
        """All that a topic holds now."""
        return asyncio.run(self._read(self.topics[logical]))

    async def _read(self, topic: str) -> list[Record]:
        async with Lookup(self._connection) as lookup:
            partitions = await lookup.partitions(topic)
            log = await lookup.beginnings(partitions), await lookup.stable_ends(partitions)
        return [r async for _, records in LogReader(self._connection, *log).chunks() for r in records]


def shared_world(folder: Path, broker: str, dsn: str, named: Callable[[str], str]) -> World:
    """Topics of its own on a broker of others; its groups are theirs too, so one at a time runs workers.

    Makes no topic; `dsn` names a database that was migrated.
    """
    topics = {name: named(name) for name in (*LOGICAL, DEAD_LETTERS)}
    variables = {
        "ACTIVITY_KAFKA__BOOTSTRAP_SERVERS": broker,
        "ACTIVITY_POSTGRES__DSN": dsn,
        "ACTIVITY_KAFKA__TOPICS": ",".join(f"{name}={topics[name]}" for name in LOGICAL),
        "ACTIVITY_KAFKA__DEAD_LETTER_TOPIC": topics[DEAD_LETTERS],
    }
    return World(folder=folder, dsn=dsn, broker=broker, topics=topics, variables=variables)


def own_world(root: Path, folder: Path) -> World:
    """Servers that the test may stop, with tables and topics; they end with the thread that runs it."""
    up = start_servers(root)
    asyncio.run(migrate(up.postgres_dsn, registry.load().files))
    variables = {
        "ACTIVITY_KAFKA__BOOTSTRAP_SERVERS": up.bootstrap_servers,
        "ACTIVITY_POSTGRES__DSN": up.postgres_dsn,
    }
    topics = {name: name for name in (*LOGICAL, DEAD_LETTERS)}
    world = World(
        folder=folder, dsn=up.postgres_dsn, broker=up.bootstrap_servers, topics=topics, variables=variables
    )
    world.create_topics()
    return world


def start_servers(root: Path) -> stack.Stack:
    """Those that do not run yet."""
    return stack.up(root, owned=True, postgres_settings=SURVIVES_KILLS)


def stop_server(root: Path, name: str) -> None:
    """SIGKILL to "postgres" or "broker"."""
    pid = next(status.pid for status in stack.status(root) if status.name == name)
    assert pid is not None, f"{name} does not run"
    kill(pid)
