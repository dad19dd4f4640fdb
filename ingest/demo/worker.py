"""The demo's worker: a process of its own, as in production, seen through its metrics."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from ingest.errors import Unavailable
from ingest.stack import launch

Series = tuple[str, tuple[tuple[str, str], ...]]
ASK_S = 0.25
LAST_S = 0.02
PATIENCE_S = 40.0


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class WorkerProcess:
    """`activity-ingest run`, started and stopped any number of times; its counters add up over all."""

    def __init__(self, folder: Path, variables: Mapping[str, str], keep: bool) -> None:
        self.port = free_port()
        self.log = folder / "worker.log"
        ours = {"ACTIVITY_HTTP__HOST": "127.0.0.1", "ACTIVITY_HTTP__PORT": str(self.port)}
        others = {n: v for n, v in os.environ.items() if not n.startswith(("ACTIVITY_", "PG_"))}
        self._environment = {**others, **variables, **ours}
        self._folder, self._keep = folder, keep
        self._process: subprocess.Popen[bytes] | None = None
        self._before: dict[Series, float] = {}
        self._now: dict[Series, float] = {}
        self._watch: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Returns as soon as the process runs. To be called inside the event loop."""
        command = [sys.executable, "-m", "ingest", "run"]
        if not self._keep:
            # Whatever ends the demo ends its worker, which drains then.
            guard = ["--die-with-parent", "SIGTERM", "--parent", str(os.getpid())]
            command = [
                sys.executable,
                "-I",
                launch.__file__,
                *guard,
                "--directory",
                str(self._folder),
                *command,
            ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._watch = asyncio.create_task(self._keep_asking())

    async def stop(self) -> None:
        """SIGTERM, and wait until it has drained. Raises Unavailable where it does not end well."""
        process, self._process = self._process, None
        if process is None or self._watch is None:
            return
        process.send_signal(signal.SIGTERM)
        # What its last flushes do is told only until it ends.
        self._watch.cancel()
        self._watch = asyncio.create_task(self._keep_asking(LAST_S))
        try:
            code = await asyncio.to_thread(process.wait, PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = await asyncio.to_thread(process.wait)
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)
        self._before, self._now = _sum(self._before, self._now), {}
        if code != 0:
            raise Unavailable(f"the worker ended with {code}: see {self.log}", "worker")

    async def until_ready(self) -> None:
        """Returns once /readyz says yes. Raises Unavailable where that takes too long or the process ends."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await asyncio.to_thread(self._is_ready):
                    self.check()
                    await asyncio.sleep(ASK_S)
        except TimeoutError:
            raise Unavailable(f"the worker does not become ready: see {self.log}", "worker") from None

    def check(self) -> None:
        """Raises Unavailable where the process has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-3:]
            raise Unavailable("the worker has stopped: " + " / ".join(tail), "worker")

    def total(self, name: str, **labels: str) -> float:
        """A counter over all processes, or the present value of a gauge, summed over its other labels."""
        wanted, series = set(labels.items()), PREFIX + name
        both = (self._now,) if name.startswith(GAUGES) else (self._before, self._now)
        return sum(
            v for found in both for (n, with_), v in found.items() if n == series and wanted <= set(with_)
        )

    def buckets(self, name: str) -> dict[float, float]:
        """A histogram's cumulative counts by upper bound, over all processes and labels."""
        counts: dict[float, float] = {}
        for found in (self._before, self._now):
            for (series, labels), value in found.items():
                if series == f"{PREFIX}{name}_bucket":
                    bound = float(dict(labels)["le"])
                    counts[bound] = counts.get(bound, 0.0) + value
        return dict(sorted(counts.items()))

    async def _keep_asking(self, every: float = ASK_S) -> None:
        while True:
            with suppress(OSError, HTTPException):  # it is still starting, or already gone
                self._now = await asyncio.to_thread(self._ask)
            await asyncio.sleep(every)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=2):
                return True
        except OSError:
            return False

    def _ask(self) -> dict[Series, float]:
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=2) as answer:
            text = answer.read().decode()
        found: dict[Series, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
        return found


def _sum(first: Mapping[Series, float], second: Mapping[Series, float]) -> dict[Series, float]:
    return {series: first.get(series, 0.0) + second.get(series, 0.0) for series in {*first, *second}}


PREFIX = "activity_ingest_"
GAUGES = ("buffer_", "consumer_lag", "live_sessions", "users_active")
