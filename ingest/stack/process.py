"""Server processes that outlive the command that started them: spawn, recognise again, stop."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ingest.errors import Misconfigured

LAUNCH = Path(__file__).with_name("launch.py")
POLL_S = 0.02
StopSignals: TypeAlias = Sequence[tuple[signal.Signals, float]]


@dataclass(frozen=True, slots=True)
class Process:
    """A server process by pid and start time, since a pid alone may by now be somebody else's."""

    pid: int
    started: str
    port: int

    def alive(self) -> bool:
        """Whether this very process still runs. Collects it first when it was our own child."""
        if not self.pid:
            return False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return bool(self.started) and self.started == started(self.pid)


STOPPED = Process(pid=0, started="", port=0)


def started(pid: int) -> str:
    """When `pid` began, comparable only with itself across boots; empty when there is no such process."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return "" if Path("/proc/self").exists() else started_by_ps(pid)
    except ProcessLookupError:
        return ""
    return "" if state == "Z" else f"{boot}:{fields[18]}"


def started_by_ps(pid: int) -> str:
    asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return asked.stdout.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a server's commands run: where, as whom, with what environment, and for how long.

    `identity` is launch.py's --namespace or --user option, empty for the present user; `dies_with_parent`
    names the signal that ends the server when the starting thread is gone, None to let it live on.
    """

    directory: Path
    identity: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    dies_with_parent: str | None = None

    def _environment(self) -> dict[str, str]:
        # Servers read options from the environment too: ours stays out, but for what Python may need.
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        return {"PATH": os.defpath, "LC_ALL": "C", **kept, **self.environment}

    def _argv(self, command: Sequence[object], bound: bool) -> list[str]:
        ends = ["--die-with-parent", self.dies_with_parent, "--parent", str(os.getpid())]
        options = [*self.identity, *(end for end in ends if bound and self.dies_with_parent and end)]
        shim = [sys.executable, "-I", "-S", str(LAUNCH), "--directory", str(self.directory)]
        return [*shim, *options, *map(str, command)]

    def spawn(self, command: Sequence[object], log: Path, port: int) -> Process:
        """Start `command` in a session of its own, appending its output to `log`."""
        with log.open("ab") as output:
            files = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
            ]
            argv = self._argv(command, bound=True)
            pid = os.posix_spawn(argv[0], argv, self._environment(), file_actions=files, setsid=True)
        return Process(pid, started(pid), port)

    def run(self, command: Sequence[object]) -> subprocess.CompletedProcess[str]:
        """Run `command` to its end, its output captured; a failure is the caller's to judge."""
        return subprocess.run(
            self._argv(command, bound=False),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )


def stop(process: Process, signals: StopSignals) -> None:
    """Send each signal in turn until the process is gone, waiting the given seconds after each.

    A pid that another process has taken over since is left alone.
    """
    for number, patience_s in signals:
        if not process.alive():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        if wait_until(lambda: not process.alive(), patience_s):
            return
    raise Misconfigured(f"process {process.pid} does not end", f"end it by hand: kill -9 {process.pid}")


def wait_until(condition: Callable[[], bool], patience_s: float) -> bool:
    """Whether `condition` came true within `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def free_port(preferred: int) -> int:
    """`preferred` if nothing listens there, else a port the kernel picks; 0 prefers none. Loopback."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Misconfigured("no free port on 127.0.0.1", "close programs that listen, then try again")


def answers(port: int, request: bytes, expected: Callable[[bytes], bool]) -> bool:
    """Whether the server on `port` answers `request` with bytes that `expected` accepts."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(request)
            return expected(connection.recv(64))
    except OSError:
        return False


def tail(log: Path, lines: int = 12) -> str:
    """The end of a log, indented for an error message."""
    if not log.exists():
        return ""
    return "".join(f"\n    {line}" for line in log.read_text(errors="replace").splitlines()[-lines:])
