"""Commands that run while a test goes on, seen through their logs, metrics and probes."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from ingest.stack import launch

T = TypeVar("T")

PATIENCE = 60.0  # seconds; only a test that fails ever waits so long
LOOK = 0.1
PREFIX = "activity_ingest_"


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
