"""A database with every projection's tables, the fifth's among them; one for each xdist worker."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ingest.migrate import migrate
from tests.conftest import Databases
from tests.laws.harness import REGISTRY, Bench

OTHERWISE: dict[str, dict[str, Any]] = {
    "streaks": {"daily_goal": 1, "default_timezone": "America/St_Johns"},
    "user_activity": {"activity_throttle": 3600},
}
"""Options that differ from the defaults; a database holds one set of them for good."""


@pytest.fixture(scope="session")
def laws_dsn(databases: Databases) -> Iterator[str]:
    with databases("empty") as dsn:
        asyncio.run(migrate(dsn, REGISTRY.files))
        yield dsn


@pytest.fixture(scope="session", params=OTHERWISE)
def other_bench(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Bench]:
    """A projection whose options are not the defaults."""
    with databases("empty") as dsn, asyncio.Runner() as runner:
        runner.run(migrate(dsn, REGISTRY.files))
        bench = Bench(request.param, dsn, runner, **OTHERWISE[request.param])
        yield bench
        runner.run(bench.database.close())


@pytest.fixture(scope="session")
def benches(laws_dsn: str) -> Iterator[Callable[[str], Bench]]:
    made: dict[str, Bench] = {}
    with asyncio.Runner() as runner:

        def bench(name: str) -> Bench:
            if name not in made:
                made[name] = Bench(name, laws_dsn, runner)
            return made[name]

        yield bench
        for each in made.values():
            runner.run(each.database.close())
