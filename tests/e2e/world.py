"""One service in a test: servers, a database, topics, and its commands as processes of their own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import asyncpg
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from ingest import registry, stack
from ingest.kafka import Connection, LogReader, Lookup
from ingest.migrate import migrate
from ingest.record import Offsets, Record
from ingest.settings import KafkaSettings
from ingest.stack import launch
from ingest.status import group_of
from ingest.topics import create
from tests.servers import kill

T = TypeVar("T")

PATIENCE = 60.0  # seconds; only a test that fails ever waits so long
LOOK = 0.05
PREFIX = "activity_ingest_"
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


def until(
    condition: Callable[[], T],
    what: str,
    alive: Callable[[], object] = lambda: None,
    patience: float = PATIENCE,
) -> T:
    """What `condition` returns once that is true; `alive` raises where it never will be."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        alive()
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(LOOK)
    return found


class Answer(NamedTuple):
    """An answer over HTTP."""

    status: int
    text: str
    content_type: str


class Process:
    """A command that runs while the test goes on; standard error goes to `log`."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        # Through the stack's launcher, so that nothing outlives a test run that is killed.
        guard = ["--die-with-parent", "SIGKILL", "--parent", str(os.getpid()), "--directory", str(folder)]
        command = [sys.executable, "-I", launch.__file__, *guard, sys.executable, "-m", "ingest", *arguments]
        number = len(list(folder.glob("process-*.log")))
        self.log = folder / f"process-{number}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )
        self._port: int | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; negative for a signal, None while it runs."""
        return self._process.poll()

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def events(self) -> list[str]:
        """What the log lines in JSON are about, in order."""
        return [line["event"] for line in self.lines]

    @property
    def lines(self) -> list[dict[str, Any]]:
        found = []
        for text in self.text.splitlines():
            with suppress(ValueError):  # a line is being written, or is meant for people
                found.append(json.loads(text))
        return found

    def alive(self) -> None:
        """Raises where the process has ended."""
        assert self.code is None, f"ended with {self.code}: {self.text[-2000:]}"

    def until(self, condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
        """As `until`, and fails at once where the process ends before."""
        return until(condition, what, self.alive, patience)

    def until_logged(self, event: str) -> None:
        self.until(lambda: event in self.events, f"the line {event!r} in the log")

    def ended(self) -> int:
        """The exit code, once it has ended by itself."""
        until(lambda: self.code is not None, f"the end of {self._process.args!r}\n{self.text[-2000:]}")
        assert self.code is not None
        return self.code

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self.send(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def port(self) -> int:
        """Where it serves metrics and health."""
        if self._port is None:
            serving = "serving metrics and health"
            self.until_logged(serving)
            self._port = next(int(line["port"]) for line in self.lines if line["event"] == serving)
        return self._port

    def get(self, path: str, accept: str = "*/*") -> Answer:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, answer.read().decode(), answer.headers["Content-Type"])
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode(), error.headers["Content-Type"])
        except OSError as error:
            raise AssertionError(f"no answer to {path}: {error}\n{self.text[-2000:]}") from error

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all series that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics").text)
            for sample in family.samples
            if sample.name == PREFIX + name and labels.items() <= sample.labels.items()
        )

    def until_metric(self, name: str, value: float, **labels: str) -> None:
        self.until(lambda: self.metric(name, **labels) == value, f"{name} {labels} is {value}")

    def until_counted(self, name: str, least: float = 1, **labels: str) -> None:
        self.until(lambda: self.metric(name, **labels) >= least, f"{name} {labels} is {least} or more")

    def until_ready(self) -> Self:
        self.until(lambda: self.get("/readyz").status == 200, f"ready: {self.log}")
        return self

    @property
    def peak_memory(self) -> int:
        """The most bytes that were ever resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


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
