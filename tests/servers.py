"""Words the tests of the embedded stack share: start one quickly, look at its processes, speak to it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient

from ingest import stack
from ingest.stack.process import started, wait_until

FAST = {"fsync": "off"}
PATIENCE_S = 20.0
RUN = """
import pathlib, sys
from ingest import stack
root, fast = pathlib.Path(sys.argv[1]), {"fsync": "off"}
"""


def python(code: str, root: Path) -> subprocess.Popen[str]:
    """A process of its own that uses the stack in `root`."""
    command = [sys.executable, "-c", RUN + code, str(root)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).parents[1])


def up(root: Path) -> stack.Stack:
    return stack.up(root, postgres_settings=FAST)


def pids(root: Path) -> list[int]:
    return [server.pid for server in stack.status(root) if server.pid]


def states(root: Path) -> list[stack.State]:
    return [server.state for server in stack.status(root)]


def gone(numbers: list[int]) -> bool:
    return wait_until(lambda: not any(started(pid) for pid in numbers), PATIENCE_S)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])


async def query(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def topics(bootstrap_servers: str) -> list[str]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await client.start()
    try:
        return list(await client.list_topics())
    finally:
        await client.close()
