"""A database with every projection's tables, the fifth's among them; one for each xdist worker."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Databases
from tests.laws.harness import REGISTRY, Bench


@pytest.fixture(scope="session")
def laws_dsn(databases: Databases) -> Iterator[str]:
    from ingest.migrate import migrate

    with databases("empty") as dsn:
        asyncio.run(migrate(dsn, REGISTRY.files))
        yield dsn


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
