"""The README done as it is written: its commands and its SQL, in order, in one folder."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from ingest import stack
from ingest.demo.worker import free_port
from ingest.queries import statements
from tests.conftest import NOT_DURABLE, open_folder
from tests.e2e.process import Process
from tests.readme import Block, blocks, file_block

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ELSEWHERE = {
    "make demo\n": "takes a minute; CI runs it",
    "make test\n": "is what runs this test",
    "make setup\nsource .venv/bin/activate\n": "this test runs in that environment",
    "make bench\n": "takes minutes",
    "kcat -P": "kcat may be absent; test_first_event.py sends events in both modes",
    "kcat -C": "kcat may be absent; test_dead_letters.py reads these headers",
    "--partitions 12 --replication 3": "wants a cluster of three brokers",
    "activity-ingest run streaks user_activity\n": "does not end; the walk has a worker already",
}
"""A part of a block -> why it is not run here."""

WORKER = "activity-ingest run\n"
LAST = "activity-ingest stack down\n"
FILES = {"publish.py": "# publish.py", "consumers/user_content.py": "# consumers/user_content.py",
         "sql/user_content.sql": "-- sql/user_content.sql"}  # fmt: skip
QUICK = {"ACTIVITY_KAFKA__SESSION_TIMEOUT": "2"}  # the embedded broker lets a first member wait half of it
PATIENCE_S = 30.0


class Answer(NamedTuple):
    """What a statement returned."""

    statement: str
    rows: list[tuple[object, ...]]


@dataclass(slots=True)
class Walk:
    """A reader at a shell; `environment` is that of the shell, and changes as blocks export variables."""

    folder: Path
    environment: dict[str, str]
    port: int
    exits: ExitStack
    done: list[tuple[Block, subprocess.CompletedProcess[str]]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    worker: Process | None = None
    left_with: int | None = None

    def write_files(self) -> None:
        for name, first_line in FILES.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(file_block(first_line), "utf-8")

    def go(self, block: Block) -> bool:
        """Whether the way leads on from here."""
        if any(block.text.startswith(first) for first in FILES.values()):
            return True
        if block.language == "sql":
            asyncio.run(self._ask(block))
        elif block.text == WORKER:
            self.worker = Process(["run"], self.folder, self.environment)
            self.exits.callback(self.worker.kill)
        elif not any(part in block.text for part in ELSEWHERE):
            if LAST in block.text and self.worker is not None:
                self.left_with = self.worker.terminate()
            self.done.append((block, self._patiently(block)))
            return self.done[-1][1].returncode == 0
        return True

    async def _ask(self, block: Block) -> None:
        connection = await asyncpg.connect(self.environment["ACTIVITY_POSTGRES__DSN"])
        try:
            for statement in statements(block.text):
                rows = await connection.fetch(statement)
                self.answers.append(Answer(statement, [tuple(row) for row in rows]))
        finally:
            await connection.close()

    def _patiently(self, block: Block) -> subprocess.CompletedProcess[str]:
        """What is published becomes a row a moment later, so whoever looks may have to look again."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            done = self._shell(block)
            if (
                done.returncode == 0
                or "activity-ingest show" not in block.text
                or time.monotonic() > deadline
            ):
                return done

    def _shell(self, block: Block) -> subprocess.CompletedProcess[str]:
        left = self.folder / "environment"
        text = block.text.replace("localhost:9464", f"localhost:{self.port}")
        script = f"set -euo pipefail\n{text}\nenv -0 > {left}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if done.returncode == 0:
            pairs = (pair.partition("=") for pair in left.read_text().split("\0") if pair)
            self.environment = {name: value for name, _, value in pairs} | QUICK
        return done


@pytest.fixture(scope="module")
def walk() -> Iterator[Walk]:
    """The whole way, walked once. The servers are there already, and die with this process."""
    port = free_port()
    ours = {n: v for n, v in os.environ.items() if not n.startswith(("ACTIVITY_", "PG_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}"
    environment = {**ours, "PATH": path, "ACTIVITY_HTTP__PORT": str(port)}
    with open_folder() as folder, ExitStack() as exits:
        exits.callback(stack.down, folder)
        stack.up(folder, owned=True, postgres_settings=NOT_DURABLE)
        made = Walk(folder, environment, port, exits)
        made.write_files()
        way = sorted((*blocks("bash"), *blocks("sql")), key=lambda block: block.line)
        all(made.go(block) for block in way)
        yield made


def test_every_command_works_as_written(walk: Walk) -> None:
    failed = [
        f"README.md:{block.line}\n{block.text}{done.stdout[-1000:]}{done.stderr[-2000:]}"
        for block, done in walk.done
        if done.returncode != 0
    ]
    assert not failed, "\n\n".join(failed)


def test_every_command_is_run_or_has_a_reason_not_to_be(walk: Walk) -> None:
    texts = [block.text for block in blocks("bash")]
    assert [part for part in ELSEWHERE if not any(part in text for text in texts)] == []
    left_out = [text for text in texts if any(part in text for part in ELSEWHERE)]
    assert len(walk.done) + len(left_out) + texts.count(WORKER) == len(texts)


def test_what_is_shown_of_an_answer_is_what_is_answered(walk: Walk) -> None:
    done = {block.text.splitlines()[-1]: process for block, process in walk.done}
    refused = done['activity-ingest publish events.ndjson || echo "left with $?"']
    shown = next(block.text for block in blocks("text") if "left with 1" in block.text)
    assert sorted((refused.stdout + refused.stderr).splitlines()) == sorted(shown.splitlines())
    client = done["activity-ingest show user ana"].stdout
    assert client.startswith(next(b.text for b in blocks("text") if b.text.startswith("client_activity ·")))


def test_every_query_answers_about_simulated_traffic(walk: Walk) -> None:
    assert len(walk.answers) >= 15
    assert [a.statement for a in walk.answers if not a.rows or a.rows[0] in ((0,), (None,))] == []


def test_the_worker_met_no_error_and_left_when_told(walk: Walk) -> None:
    assert walk.worker is not None
    assert [line for line in walk.worker.lines if line["level"] == "error"] == []
    assert walk.left_with == 0
