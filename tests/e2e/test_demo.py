"""The demo as a stranger runs it: what it proves, what it prints, what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import PATIENCE, until
from tests.e2e.world import PROJECTIONS

pytestmark = pytest.mark.e2e

EVENTS = 3000
BIN = Path(sys.executable).parent


class Stranger:
    """Somebody in an empty folder, with an empty home and nothing configured."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("ACTIVITY_", "PG_", "XDG_"))}
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**kept, "HOME": str(home), "TMPDIR": str(home), "PATH": path}

    def says(self, line: str) -> subprocess.CompletedProcess[str]:
        """A line of shell."""
        return subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=5 * PATIENCE,
        )  # fmt: skip

    def processes(self) -> dict[int, str]:
        """Command lines of those that work in the folder or name it."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                works_in = (process / "cwd").readlink()
            except OSError:
                continue  # it has ended meanwhile, or is none of ours
            if works_in.is_relative_to(self.folder) or str(self.folder) in command:
                found[int(process.name)] = command
        return found


@pytest.fixture
def stranger(stack_root: Path, tmp_path: Path) -> Iterator[Stranger]:
    """Whatever the test leaves running in the folder is ended."""
    somebody = Stranger(stack_root, tmp_path)
    yield somebody
    for pid in somebody.processes():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not somebody.processes(), "the end of all processes")


def test_the_demo_proves_its_tables_and_leaves_nothing(stranger: Stranger) -> None:
    done = stranger.says(f"activity-ingest demo --events {EVENTS} --json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["equal"] is True
    verdicts = {report["projection"]: report["verdict"] for report in told["reports"]}
    assert verdicts == dict.fromkeys(PROJECTIONS, "equal")
    assert 0.9 * EVENTS < told["published"] < 1.1 * EVENTS
    assert 0.9 * told["published"] < told["distinct"] < told["published"]
    assert 0 < sum(told["rejected"].values()) < 0.05 * EVENTS
    assert {*told["rows"]} == {*PROJECTIONS, "daily_activity"}
    assert all(told["rows"].values())
    assert told["rows_written"] > 0
    assert told["statements"] >= told["flushes"] > 0
    assert 0 < told["flush_p50"] <= told["flush_p99"]
    assert 0 < told["freshness_p50"] <= told["freshness_p99"]
    assert 0 < told["restart"] < told["seconds"]
    assert any(rows for rows in told["samples"].values())

    assert "SIGTERM to the worker" in done.stderr
    assert "a new worker joins" in done.stderr
    assert stranger.processes() == {}
    assert [path.name for path in stranger.folder.iterdir()] == [".stack"]
    assert not (stranger.folder / ".stack" / "demo").exists()
    assert list(stranger.home.iterdir()) == []


@pytest.mark.slow
def test_the_demo_can_be_kept_and_looked_around_in(stranger: Stranger) -> None:
    done = stranger.says(f"activity-ingest demo --events {EVENTS} --keep")
    assert done.returncode == 0, done.stderr
    assert "tables equal the fold of the log: yes" in done.stdout
    best = re.search(r"^user (\S+) · ", done.stdout, re.MULTILINE)
    assert best is not None, done.stdout
    expected = {
        "status": "nothing is wrong",
        "verify": "equal    live_activity",
        "lag": "activity.user",
        f"show user {best[1]}": "max streak",
        "inactive clients --for 1h --limit 1000": "last seen",
        "stack down": "stopped",
    }
    pid = value_of("worker", done.stdout).split(",")[0].removeprefix("pid ")
    lines = [value_of("variables", done.stdout), f"curl -sf {value_of('metrics', done.stdout)}"]
    for command in expected:
        lines += [f"kill {pid}"] if command == "stack down" else []
        lines += [f"echo '== {command}'", f"activity-ingest {command}"]
    answer = stranger.says("set -e\n" + "\n".join(lines))
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout
    metrics, *answers = answer.stdout.split("== ")
    assert "activity_ingest_build_info" in metrics
    for text, (command, part) in zip(answers, expected.items(), strict=True):
        assert text.startswith(command)
        assert part in text
    until(lambda: not stranger.processes() and not Path(f"/proc/{pid}").exists(), "the end of everything")


def value_of(name: str, text: str) -> str:
    """What the list of addresses says of `name`."""
    found = re.search(rf"^  {name}  +(\S.*)$", text, re.MULTILINE)
    assert found is not None, text
    return found[1]
