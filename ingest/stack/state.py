"""What `.stack/` remembers of each server between commands: pid, start time, port."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ingest.errors import Misconfigured
from ingest.stack.process import STOPPED, Process


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder`, and let one command at a time change what runs under it. Waits for the other one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise Misconfigured(
            f"cannot write {folder}: {error.strerror}", "use a folder that you own"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def recall(folder: Path, name: str) -> Process:
    """The server as last remembered, whether it still runs or not."""
    try:
        return Process(**json.loads((folder / f"{name}.json").read_text()))
    except FileNotFoundError:
        return STOPPED
    except (ValueError, TypeError) as error:
        raise Misconfigured(f"{folder / name}.json is damaged", f"remove {folder}") from error


def remember(folder: Path, name: str, process: Process) -> None:
    """Replace what `recall` returns, wholly or not at all."""
    partial = folder / f"{name}.json.partial"
    partial.write_text(json.dumps(asdict(process)))
    partial.rename(folder / f"{name}.json")
