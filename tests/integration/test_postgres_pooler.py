"""The same work through pgbouncer in transaction mode, two server sessions for all clients."""

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ingest.errors import Misconfigured
from ingest.migrate import check, migrate
from ingest.postgres import PostgresSink
from ingest.postgres.leases import Lease, with_lease
from ingest.settings import PostgresSettings
from tests.conftest import absent
from tests.integration.postgres_tools import FILES, SHOP, SHOP_PROJECTION, flush, opened, progress, sql

pytestmark = pytest.mark.integration


@pytest.fixture
def pooled_dsn(postgres_dsn: str, tmp_path: Path) -> Iterator[str]:
    """The same database behind a pgbouncer of its own."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        absent("pgbouncer", "pgbouncer is not installed: Debian packages it as pgbouncer")
    url = urlsplit(postgres_dsn)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = host={url.hostname} port={url.port} user={url.username} password={url.password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 100\n"
    )
    command = [program, str(config)]
    if os.getuid() == 0:  # as root it refuses to run
        command = [*command[:1], "-u", "nobody", *command[1:]]
        config.chmod(0o644)
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
    bouncer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield url._replace(netloc=f"any@127.0.0.1:{port}").geturl()
    finally:
        bouncer.terminate()
        bouncer.wait()


def wait_for(port: int) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    pytest.fail("pgbouncer does not answer")


def through(dsn: str) -> PostgresSettings:
    return PostgresSettings.model_validate({"dsn": dsn, "pgbouncer": True})


async def test_ten_migrate_at_once_through_the_pooler(pooled_dsn: str) -> None:
    done = await asyncio.gather(*(migrate(through(pooled_dsn), FILES) for _ in range(10)))
    assert sum(map(len, done)) == 2
    assert await check(through(pooled_dsn), FILES) == []


async def test_many_writers_share_few_server_sessions(pooled_dsn: str, postgres_dsn: str) -> None:
    await migrate(postgres_dsn, FILES)
    async with opened(pooled_dsn, pgbouncer=True, pool_size=8) as database:
        sink = PostgresSink(database, SHOP_PROJECTION, SHOP)
        await asyncio.gather(
            *(sink.write(flush((f"v{n}", n), tags=[f"t{n}"]), [progress(n, n)]) for n in range(50))
        )
        async with database.snapshot() as (snapshot, _):
            rows = [
                row
                async for chunk in snapshot.stream("select id from visit order by number")
                for row in chunk
            ]
        assert rows == [(f"v{n}",) for n in range(50)]
        async with with_lease(database, Lease("sweep", "a", timedelta(minutes=1))) as held:
            assert held is not None
    assert await sql(postgres_dsn, "select count(*) from ingest_progress") == [(50,)]


async def test_the_setting_that_was_forgotten_is_named(pooled_dsn: str) -> None:
    async with opened(pooled_dsn) as database:
        with pytest.raises(Misconfigured) as caught:
            await database.value("select 1")
    assert "ACTIVITY_POSTGRES__PGBOUNCER" in caught.value.mend
