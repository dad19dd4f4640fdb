"""A real PostgreSQL and a Kafka-protocol broker under `.stack/`, for a machine that has neither.

    launch.py     run one command as somebody Postgres accepts
    process.py    server processes: spawn, recognise again, stop
    identity.py   who that somebody is
    binaries.py   where the programs are
    state.py      what .stack/ remembers between commands
    database.py   PostgreSQL: cluster, password, readiness
    broker.py     the broker: options, readiness

Both listen on loopback only, on ports that `.stack/` remembers. Every function takes the folder that holds
`.stack/`; two folders never meet.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from ingest.errors import Misconfigured
from ingest.stack.broker import Broker
from ingest.stack.database import Database
from ingest.stack.process import STOPPED, Process, StopSignals, free_port, stop, tail, wait_until
from ingest.stack.state import locked, recall, remember

READY_S = 60.0
ATTEMPTS = 5
RETRY_S = 0.5
State = Literal["running", "starting", "died", "stopped"]


class Server(Protocol):
    """What up, down and status need of a server; the rest is its own affair."""

    @property
    def name(self) -> str: ...
    @property
    def log(self) -> Path: ...
    @property
    def stop_signals(self) -> StopSignals: ...
    def prepare(self) -> None: ...
    def spawn(self, port: int) -> Process: ...
    def ready(self, process: Process) -> bool: ...
    def finish(self, process: Process) -> None: ...


@dataclass(frozen=True, slots=True)
class Stack:
    """The addresses of a running stack. `postgres_dsn` holds the password."""

    postgres_dsn: str = field(repr=False)
    bootstrap_servers: str

    def env(self) -> dict[str, str]:
        """The environment variables that point every command at this stack."""
        return {
            "ACTIVITY_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "ACTIVITY_POSTGRES__DSN": self.postgres_dsn,
            # This broker lets a group's first member wait for half of its session time-out.
            "ACTIVITY_KAFKA__SESSION_TIMEOUT": "6",
            # Its topics go when it stops, the tables stay: begin with what is there.
            "ACTIVITY_KAFKA__OFFSET_RESET": "earliest",
            "ACTIVITY_HTTP__HOST": "127.0.0.1",
        }


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """`died`: started, never stopped, and gone; `starting`: it runs but does not answer. `up` mends both."""

    name: str
    state: State
    pid: int | None
    port: int | None
    log: Path


def up(root: Path, *, owned: bool = False, postgres_settings: Mapping[str, str] | None = None) -> Stack:
    """Start what does not run yet, and return once both answer.

    `owned` ends the servers with the calling thread, even when that is killed; otherwise they live until
    `down`. `postgres_settings` apply to a Postgres that this call starts. Raises Misconfigured, with the end
    of its log, where a server does not start, and where the `embedded` extra is not installed.
    """
    folder = folder_of(root)
    database = Database(folder / "postgres", owned, postgres_settings)
    broker = Broker(folder / "broker", owned)
    with locked(folder):
        postgres, kafka = ensure(folder, database), ensure(folder, broker)
    return Stack(database.dsn(postgres.port), f"127.0.0.1:{kafka.port}")


def down(root: Path) -> list[str]:
    """Stop what runs, and say which servers those were. The database's data stays, the topics go."""
    folder = folder_of(root)
    stopped: list[str] = []
    if not folder.exists():
        return stopped
    with locked(folder):
        for server in reversed(servers(folder)):
            known = recall(folder, server.name)
            if known.alive():
                stop(known, server.stop_signals)
                stopped.append(server.name)
            remember(folder, server.name, replace(STOPPED, port=known.port))
    return stopped


def status(root: Path) -> list[ServerStatus]:
    """What runs and what does not at this moment: Postgres, then the broker. Changes nothing."""
    folder = folder_of(root)
    return [observe(server, recall(folder, server.name)) for server in servers(folder)]


def env(root: Path) -> dict[str, str]:
    """The variables of the running stack. Raises Misconfigured unless both servers run."""
    postgres, broker = status(root)
    if postgres.state != "running" or broker.state != "running":
        raise Misconfigured("the embedded stack is not running", "activity-ingest stack up")
    dsn = Database(folder_of(root) / "postgres").dsn(postgres.port or 0)
    return Stack(dsn, f"127.0.0.1:{broker.port}").env()


@contextlib.contextmanager
def running(root: Path, *, postgres_settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """A stack for as long as the block lasts. Whatever ends the calling thread ends the stack too."""
    try:
        yield up(root, owned=True, postgres_settings=postgres_settings)
    finally:
        down(root)


def folder_of(root: Path) -> Path:
    return root.resolve() / ".stack"


def servers(folder: Path) -> tuple[Server, Server]:
    return Database(folder / "postgres"), Broker(folder / "broker")


def observe(server: Server, known: Process) -> ServerStatus:
    if not known.alive():
        return ServerStatus(server.name, "died" if known.pid else "stopped", None, None, server.log)
    state: State = "running" if server.ready(known) else "starting"
    return ServerStatus(server.name, state, known.pid, known.port, server.log)


def ensure(folder: Path, server: Server) -> Process:
    """The process of `server`, which answers now: the one that runs, or a new one."""
    known = recall(folder, server.name)
    if known.alive():
        if not came_up(server, known):
            raise Misconfigured(
                f"{server.name} does not answer:{tail(server.log)}", "activity-ingest stack down"
            )
        return known
    server.prepare()
    for attempt in range(ATTEMPTS):
        # The old port first, so that clients of a server that died find the new one.
        process = server.spawn(free_port(known.port if attempt == 0 else 0))
        remember(folder, server.name, process)
        if came_up(server, process):
            server.finish(process)
            return process
        # Its port may be taken by now, and the children of a killed Postgres may still hold its memory.
        time.sleep(RETRY_S)
    raise Misconfigured(f"{server.name} does not start:{tail(server.log)}", f"read {server.log}")


def came_up(server: Server, process: Process) -> bool:
    """Whether the process answers within READY_S; at once when it ends before that."""
    return wait_until(lambda: server.ready(process) or not process.alive(), READY_S) and process.alive()
