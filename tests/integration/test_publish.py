"""Publishing as an operator does it: real processes, the embedded broker."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ingest.cli import cli as commands
from ingest.cli import context
from ingest.cli.failures import exit_code
from ingest.kafka import Connection, LogReader, Lookup
from ingest.record import Record
from ingest.settings import KafkaSettings
from ingest.simulate import Simulation

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
LOGICAL = ("activity.client", "activity.user", "activity.live")
LETTERS = "activity.dead-letters"


def seen(client: str) -> bytes:
    event = {"specversion": "1.0", "id": client, "source": "/t", "type": "client.seen"}
    return json.dumps(event | {"time": "2026-03-10T12:00:00Z", "data": {"client_id": client}}).encode()


@dataclass(frozen=True)
class Cli:
    """The command line as a process, on topics of this test alone."""

    broker: str
    topics: dict[str, str]
    dsn: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        names = {name: topic for name, topic in self.topics.items() if name != LETTERS}
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "ACTIVITY_KAFKA__BOOTSTRAP_SERVERS": self.broker,
            "ACTIVITY_KAFKA__TOPICS": json.dumps(names),
            "ACTIVITY_KAFKA__DEAD_LETTER_TOPIC": self.topics[LETTERS],
            "ACTIVITY_POSTGRES__DSN": self.dsn,
        }

    def start(self, *arguments: str, **overrides: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "ingest", *arguments],
            cwd=self.folder,
            env=self.environment | overrides,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def call(self, *arguments: str, given: str = "", **overrides: str) -> tuple[int, str, str]:
        """Exit code, answer and remarks."""
        process = self.start(*arguments, **overrides)
        out, err = process.communicate(given.encode(), timeout=60)
        return process.returncode, out.decode(), err.decode()

    def records(self, logical: str) -> list[Record]:
        """Everything in the topic, partition by partition."""
        return asyncio.run(self._records(self.topics[logical]))

    async def _records(self, topic: str) -> list[Record]:
        connection = Connection(KafkaSettings(bootstrap_servers=self.broker))
        async with Lookup(connection) as lookup:
            partitions = await lookup.partitions(topic)
            starts, ends = await lookup.beginnings(partitions), await lookup.stable_ends(partitions)
        found: list[Record] = []
        async for _, records in LogReader(connection, starts, ends).chunks():
            found += records
        return found


@pytest.fixture
def bare_cli(broker: str, postgres_dsn: str, topic_names: Callable[[str], str], tmp_path: Path) -> Cli:
    """Without topics, with an empty database."""
    return Cli(broker, {name: topic_names(name) for name in (*LOGICAL, LETTERS)}, postgres_dsn, tmp_path)


@pytest.fixture
def cli(bare_cli: Cli) -> Cli:
    """With its topics made."""
    assert bare_cli.call("topics", "--create", "--partitions", "2")[0] == 0
    return bare_cli


def values(records: Sequence[Record]) -> list[bytes | None]:
    return sorted((record.value for record in records), key=lambda value: value or b"")


def test_good_lines_are_published_byte_for_byte_and_each_bad_one_is_named(cli: Cli) -> None:
    odd = b'{ "type":"client.seen", "data":{"client_id":"C2"},"id":"1","source":"/t","specversion":"1.0",'
    odd += b'"time":"2026-03-10T12:00:00.123456Z"}'
    (cli.folder / "a.ndjson").write_bytes(seen("C1") + b"\r\n{broken\n" + odd + b"\n\n")
    (cli.folder / "b.ndjson.gz").write_bytes(gzip.compress(seen("C3") + b"\n" + seen("C" * 51)))
    code, out, err = cli.call("publish", "a.ndjson", "b.ndjson.gz")
    assert (code, out) == (1, "published 3 events; refused: invalid 1, malformed 1\n")
    first, second, last = err.splitlines()
    assert first.startswith("a.ndjson:2: malformed: ")
    assert second.startswith("b.ndjson.gz:2: invalid: data.client_id: ")
    assert last == "activity-ingest: 2 of 5 lines were refused"
    records = cli.records("activity.client")
    assert values(records) == sorted([seen("C1"), odd, seen("C3")])
    assert {record.key for record in records} == {b"C1", b"C2", b"C3"}


def test_standard_input_is_published_while_it_still_comes(cli: Cli) -> None:
    process = cli.start("publish", "-")
    assert process.stdin is not None
    process.stdin.write(seen("C1") + b"\n")
    process.stdin.flush()
    deadline = time.monotonic() + 20
    while not (found := cli.records("activity.client")):
        assert time.monotonic() < deadline
    assert values(found) == [seen("C1")]
    out, err = process.communicate(seen("C2") + b"\n")
    assert (process.returncode, out, err) == (0, b"published 2 events\n", b"")


def test_an_interrupt_ends_a_publisher_that_waits_for_input_at_once(cli: Cli) -> None:
    process = cli.start("publish", "-")
    assert process.stdin is not None
    process.stdin.write(seen("C1") + b"\n")
    process.stdin.flush()
    deadline = time.monotonic() + 20
    while not cli.records("activity.client"):
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    assert b"Traceback" not in process.stderr.read() if process.stderr else True
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def test_a_rate_is_kept(cli: Cli) -> None:
    (cli.folder / "a.ndjson").write_bytes(b"".join(seen(f"C{n}") + b"\n" for n in range(100)))
    started = time.monotonic()
    assert cli.call("publish", "--rate", "100", "a.ndjson")[0] == 0
    assert time.monotonic() - started > 0.95


def test_without_topics_publishing_is_a_mistake_in_the_set_up_that_names_its_mend(bare_cli: Cli) -> None:
    (bare_cli.folder / "a.ndjson").write_bytes(seen("C1"))
    code, out, err = bare_cli.call("publish", "a.ndjson")
    assert (code, out) == (2, "published 0 events\n")
    assert err == "activity-ingest: none of the topics exists (mend: activity-ingest topics --create)\n"


def test_kafka_out_of_reach_is_one_line_and_exit_code_three(bare_cli: Cli) -> None:
    (bare_cli.folder / "a.ndjson").write_bytes(seen("C1"))
    out_of_reach = {
        "ACTIVITY_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "ACTIVITY_KAFKA__REQUEST_TIMEOUT": "1",
    }
    code, _, err = bare_cli.call("publish", "a.ndjson", **out_of_reach)
    assert code == 3
    assert len(err.splitlines()) == 1


def test_topics_that_are_missing_are_named_with_the_command_that_makes_them(bare_cli: Cli) -> None:
    code, out, err = bare_cli.call("topics", "--json")
    assert code == 1
    topics = {topic["topic"]: topic["partitions"] for topic in json.loads(out)}
    assert topics == dict.fromkeys(bare_cli.topics.values(), 0)
    assert "activity-ingest topics --create" in err


def test_topics_that_exist_are_left_as_they_are(cli: Cli) -> None:
    code, out, _ = cli.call("topics", "--create", "--partitions", "5", "--json")
    assert code == 0
    topics = {topic["topic"]: (topic["partitions"], topic["made"]) for topic in json.loads(out)}
    assert topics == {cli.topics[name]: (1 if name == LETTERS else 2, False) for name in (*LOGICAL, LETTERS)}


def test_simulated_traffic_is_published_and_its_seed_makes_it_again(cli: Cli) -> None:
    wanted = ("--events", "3000", "--users", "100", "--clients", "20", "--end", "2026-03-10")
    code, out, err = cli.call("simulate", *wanted)
    assert (code, err) == (0, "")
    assert cli.call("simulate", *wanted, "--output", "f")[0] == 0
    made = (cli.folder / "f").read_bytes().splitlines()
    assert out == f"published {len(made):,} events\n"
    assert values([r for name in LOGICAL for r in cli.records(name)]) == sorted(made)
    assert len(made) == pytest.approx(3_000, rel=0.1)
    assert Simulation.__dataclass_fields__["seed"].default == 1


def test_a_schema_is_pending_until_it_is_migrated(bare_cli: Cli) -> None:
    code, out, err = bare_cli.call("migrate", "--check")
    assert (code, "pending: client_activity 1" in out) == (1, True)
    assert err.endswith("migrations are pending: activity-ingest migrate\n")
    code, out, err = bare_cli.call("migrate")
    assert (code, "migrated: streaks 1" in out, err) == (0, True, "")
    assert bare_cli.call("migrate", "--check") == (0, "the schema is up to date\n", "")


@pytest.fixture
def ask(
    cli: Cli, migrated_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Any]]:
    """Asks a question in this process, which is quicker: exit code and answer."""
    for name, value in (cli.environment | {"ACTIVITY_POSTGRES__DSN": migrated_dsn}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(cli.folder)
    monkeypatch.setattr(context, "be_quiet", lambda level: None)  # logging belongs to the tests

    def ask(*arguments: str) -> tuple[int, Any]:
        given = [*arguments, "--json"]
        code = exit_code(lambda: commands.main(args=given, standalone_mode=False), given)
        return code, json.loads(capsys.readouterr().out)

    return ask


def test_what_waits_is_told_with_the_command_that_reads_it(
    cli: Cli, ask: Callable[..., tuple[int, Any]]
) -> None:
    assert cli.call("publish", "-", given=f"{seen('C1').decode()}\n{seen('C2').decode()}")[0] == 0
    code, status = ask("status")
    assert code == 1
    assert [wrong["mend"] for wrong in status["wrong"]] == ["activity-ingest run client_activity"]
    assert sum(projection["lag"] for projection in status["projections"]) == 2
    code, lags = ask("lag", "client_activity")
    assert code == 0
    assert [(part["partition"], part["committed"], part["next_offset"]) for part in lags] == [
        (0, None, None),
        (1, None, None),
    ]
    assert sum(part["lag"] for part in lags) == 2


def test_what_is_in_the_tables_is_shown_and_who_is_silent_is_listed(
    ask: Callable[..., tuple[int, Any]], migrated_dsn: str
) -> None:
    asyncio.run(insert(migrated_dsn, "C1", "C2"))
    code, shown = ask("show", "client", "C1")
    assert (code, shown["client_activity"]["client"][0]["last_seen"]) == (0, "2026-03-10T12:00:00Z")
    assert ask("show", "client", "C9") == (1, {"client_activity": {"client": []}})
    code, silent = ask("inactive", "clients", "--for", "24h")
    assert (code, [row["client_id"] for row in silent]) == (0, ["C1", "C2"])
    assert len(ask("inactive", "clients", "--limit", "1")[1]) == 1
    assert ask("inactive", "users", "--for", "30d") == (0, [])


async def insert(dsn: str, *clients: str) -> None:
    connection = await asyncpg.connect(dsn)
    at = datetime(2026, 3, 10, 12, tzinfo=UTC)
    await connection.executemany(
        "insert into client_activity (client_id, last_seen, created_at) values ($1, $2, $2)",
        [(client, at) for client in clients],
    )
    await connection.close()
