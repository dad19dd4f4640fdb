"""Servers, databases, topics and tools for every test.

Each xdist worker starts a Postgres and a broker of its own when a test first asks (a second together), and
they die with it. ACTIVITY_TEST_POSTGRES and ACTIVITY_TEST_KAFKA name others to run the same tests on.
"""

import asyncio
import inspect
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn, TypeAlias
from urllib.parse import urlsplit

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from ingest import stack

ROOT = Path(__file__).parents[1]
REQUIRED = os.environ.get("ACTIVITY_TEST_REQUIRE", "").split(",")
NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}
Databases: TypeAlias = Callable[[str], AbstractContextManager[str]]

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def absent(what: str, reason: str) -> NoReturn:
    """Skip, or fail where ACTIVITY_TEST_REQUIRE says that `what` must be there."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required: {reason}")
    pytest.skip(reason)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder for a stack. Unlike tmp_path anybody may enter it, as where root must give up being root."""
    (ROOT / ".stack").mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="test-", dir=ROOT / ".stack") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def embedded() -> Iterator[stack.Stack]:
    """A running stack of this worker, Postgres without durability."""
    with open_folder() as folder, stack.running(folder, postgres_settings=NOT_DURABLE) as up:
        yield up


@pytest.fixture
def stack_root() -> Iterator[Path]:
    """An empty folder for a stack of the test's own, which is stopped whatever the test leaves running."""
    with open_folder() as folder:
        yield folder
        stack.down(folder)


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> str:
    """Bootstrap servers of a Kafka-protocol broker."""
    named = os.environ.get("ACTIVITY_TEST_KAFKA")
    return named or request.getfixturevalue("embedded").bootstrap_servers


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Makes a database as a copy of the template `empty` or `migrated`; the block's end drops it."""
    server = os.environ.get("ACTIVITY_TEST_POSTGRES") or request.getfixturevalue("embedded").postgres_dsn
    templates: dict[str, str] = {}

    @contextmanager
    def database(template: str) -> Iterator[str]:
        if template not in templates:
            templates[template] = create_database(server)
            if template == "migrated":
                migrate_template(templates[template])
        dsn = create_database(server, database_name(templates[template]))
        try:
            yield dsn
        finally:
            drop_database(server, dsn)

    yield database
    for dsn in templates.values():
        drop_database(server, dsn)


@pytest.fixture
def postgres_dsn(databases: Databases) -> Iterator[str]:
    """A fresh, empty database."""
    with databases("empty") as dsn:
        yield dsn


@pytest.fixture
def migrated_dsn(databases: Databases) -> Iterator[str]:
    """A fresh database with every projection's tables."""
    with databases("migrated") as dsn:
        yield dsn


@pytest.fixture(scope="module")
def module_dsn(databases: Databases) -> Iterator[str]:
    """A migrated database shared by a module's tests: Hypothesis repeats a test within one fixture."""
    with databases("migrated") as dsn:
        yield dsn


@pytest.fixture
def topic_names() -> Callable[[str], str]:
    """Gives a topic or group a name that no other test uses: `activity.client` to `activity.client.3f9a…`."""
    suffix = secrets.token_hex(4)
    return lambda name: f"{name}.{suffix}"


@pytest.fixture(scope="session")
def recorded_events() -> Path:
    """The folder of recorded events; skips where it is not there."""
    folder = Path(os.environ.get("ACTIVITY_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not any(folder.glob("*.ndjson.gz")):
        absent("realdata", "no recorded events: set ACTIVITY_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The program promtool; skips where it is not installed."""
    if not (found := shutil.which("promtool")):
        absent("promtool", "promtool is not installed: Debian packages it in prometheus")
    return Path(found or "")


def migrate_template(dsn: str) -> None:
    from ingest.migrate import migrate
    from ingest.registry import load

    asyncio.run(migrate(dsn, load().files))


def database_name(dsn: str) -> str:
    return urlsplit(dsn).path.removeprefix("/")


def create_database(server: str, template: str = "template0") -> str:
    name = f"test_{secrets.token_hex(6)}"
    asyncio.run(execute(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    return urlsplit(server)._replace(path=f"/{name}").geturl()


def drop_database(server: str, dsn: str) -> None:
    asyncio.run(execute(server, f'DROP DATABASE "{database_name(dsn)}" WITH (FORCE)'))


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
