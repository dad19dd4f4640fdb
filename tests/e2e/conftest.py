"""Worlds for tests of whole processes: on the test run's own servers where they may stay up."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest import stack
from tests.conftest import open_folder
from tests.e2e.process import Process
from tests.e2e.world import World, own_world, shared_world

PERIODS = ("FLUSH_INTERVAL", "SWEEP_INTERVAL", "GAUGE_INTERVAL", "IDLE_REFRESH")
EAGER = {f"ACTIVITY_WORKER__{period}": "0.2" for period in PERIODS}


def new_world(folder: Path, broker: str, dsn: str) -> World:
    suffix = secrets.token_hex(4)
    return shared_world(folder, broker, dsn, lambda name: f"{name}.{suffix}")


@pytest.fixture
def bare_world(tmp_path: Path, broker: str, postgres_dsn: str) -> World:
    """A broker without topics and a database without tables."""
    return new_world(tmp_path, broker, postgres_dsn)


@pytest.fixture
def world_without_topics(tmp_path: Path, broker: str, migrated_dsn: str) -> World:
    """Tables only."""
    return new_world(tmp_path, broker, migrated_dsn)


@pytest.fixture
def world(world_without_topics: World) -> World:
    """Topics and tables."""
    world_without_topics.create_topics()
    return world_without_topics


@pytest.fixture
def mortal_world(stack_root: Path, tmp_path: Path) -> World:
    """Topics and tables on servers of its own in `stack_root`, which the test may stop and start."""
    return own_world(stack_root, tmp_path)


@pytest.fixture(scope="module")
def busy_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Topics and tables for a whole file, on servers of its own, since its worker stays in the groups."""
    with open_folder() as root:
        yield own_world(root, tmp_path_factory.mktemp("world"))
        stack.down(root)


@pytest.fixture(scope="module")
def worker(busy_world: World) -> Iterator[Process]:
    """A worker in `busy_world` that runs for all tests of a file."""
    with busy_world.running(**EAGER) as process:
        yield process.until_ready()
