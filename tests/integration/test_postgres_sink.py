"""One flush, one transaction, against a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.errors import Unavailable, Unstorable
from ingest.migrate import migrate
from ingest.ports import Written
from ingest.postgres import Database, PostgresSink
from ingest.postgres.sink import rows_changed
from tests.integration.postgres_tools import (
    FILES,
    SHOP,
    SHOP_PROJECTION,
    Line,
    flush,
    opened,
    progress,
    sql,
)

pytestmark = pytest.mark.integration
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
VISITS = "select id, number from visit order by id"
PROGRESS = "select topic, partition, next_offset, read_up_to from ingest_progress order by partition"


@asynccontextmanager
async def shop(dsn: str, **settings: Any) -> AsyncIterator[tuple[PostgresSink, Database]]:
    await migrate(dsn, FILES)
    async with opened(dsn, **settings) as database:
        yield PostgresSink(database, SHOP_PROJECTION, SHOP), database


@pytest.mark.parametrize("pgbouncer", [False, True])
async def test_rows_and_progress_become_durable_together(postgres_dsn: str, pgbouncer: bool) -> None:
    async with shop(postgres_dsn, pgbouncer=pgbouncer) as (sink, _):
        written = await sink.write(flush(("a", 1), ("b", 200), tags=["x"]), [progress(7, read_up_to=NOON)])
    # visit: 2 rows; tag: x and b. The lock is a statement too, and so is the progress.
    assert written == Written(rows=4, suppressed=0, statements=4)
    assert await sql(postgres_dsn, VISITS) == [("a", 1), ("b", 200)]
    assert await sql(postgres_dsn, PROGRESS) == [("shop", 0, 7, NOON)]


async def test_rows_that_change_nothing_are_counted_as_suppressed(postgres_dsn: str) -> None:
    async with shop(postgres_dsn) as (sink, _):
        await sink.write(flush(("a", 5), ("b", 5)), [])
        assert await sink.write(flush(("a", 4), ("b", 6), ("c", 1)), []) == Written(2, 1, 3)


async def test_a_statement_without_rows_is_not_sent(postgres_dsn: str) -> None:
    async with shop(postgres_dsn) as (sink, _):
        assert (await sink.write(flush(tags=["x"]), [])).statements == 1
        assert (await sink.write(flush(), [progress(9)])).statements == 1


async def test_a_flush_of_nothing_at_all_needs_no_database(postgres_dsn: str) -> None:
    async with opened(postgres_dsn.replace("@127.0.0.1:", "@127.0.0.1:1")) as database:
        sink = PostgresSink(database, SHOP_PROJECTION, SHOP)
        assert await sink.write(flush(), []) == Written(0, 0, 0)


async def test_progress_is_overwritten_but_never_by_the_unknown(postgres_dsn: str) -> None:
    async with shop(postgres_dsn) as (sink, _):
        await sink.write(flush(), [progress(9, 0, NOON), progress(3, 1)])
        await sink.write(flush(), [progress(4, 0), progress(5, 1, NOON)])
    assert await sql(postgres_dsn, PROGRESS) == [("shop", 0, 4, NOON), ("shop", 1, 5, NOON)]


async def test_a_refused_row_leaves_neither_rows_nor_progress(postgres_dsn: str) -> None:
    async with shop(postgres_dsn) as (sink, _):
        with pytest.raises(Unstorable) as caught:
            await sink.write(flush(("a", 1), ("b", -1)), [progress(7)])
    assert (caught.value.sqlstate, caught.value.constraint) == ("23514", "visit_number_check")
    assert "sql/shop.sql, write visit" in caught.value.message
    assert await sql(postgres_dsn, VISITS) == []
    assert await sql(postgres_dsn, PROGRESS) == []


@pytest.mark.parametrize("text", ["nul \0 inside", "lone \ud800 surrogate"])
async def test_text_that_postgres_cannot_hold_is_the_datas_fault(postgres_dsn: str, text: str) -> None:
    async with shop(postgres_dsn) as (sink, _):
        with pytest.raises(Unstorable) as caught:
            await sink.write(flush(("good", 1), (text, 1)), [])
        assert caught.value.sqlstate[:2] == "22"
        assert "good" not in caught.value.message
        assert "surrogate" not in caught.value.message


async def test_the_error_names_no_key(postgres_dsn: str) -> None:
    async with shop(postgres_dsn) as (sink, _):
        await sql(postgres_dsn, "create unique index one_number on visit (number)")
        await sink.write(flush(("secret-user", 1)), [])
        with pytest.raises(Unstorable) as caught:
            await sink.write(flush(("other-user", 1)), [])
    assert caught.value.constraint == "one_number"
    assert "user" not in caught.value.message


async def test_a_lost_reply_to_commit_is_to_be_retried_and_does_no_harm(postgres_dsn: str) -> None:
    line = Line(postgres_dsn)
    async with line.laid() as dsn, shop(dsn) as (sink, _):
        line.cut_at = lambda message: b"commit" in message
        with pytest.raises(Unavailable) as caught:
            await sink.write(flush(("a", 1)), [progress(7)])
        assert caught.value.cause == "connection"
        assert await sql(postgres_dsn, VISITS) == [("a", 1)]
        line.cut_at = lambda message: False
        assert await sink.write(flush(("a", 1)), [progress(7)]) == Written(0, 1, 4)
    assert await sql(postgres_dsn, PROGRESS) == [("shop", 0, 7, None)]


async def test_a_line_cut_before_commit_leaves_nothing(postgres_dsn: str) -> None:
    line = Line(postgres_dsn)
    async with line.laid() as dsn, shop(dsn) as (sink, _):
        line.cut_at = lambda message: b"ingest_progress" in message
        with pytest.raises(Unavailable):
            await sink.write(flush(("a", 1)), [progress(7)])
        line.cut_at = lambda message: False
        assert await sql(postgres_dsn, VISITS) == []
        assert (await sink.write(flush(("a", 1)), [progress(7)])).rows == 1


async def test_writers_of_the_same_partitions_in_any_order_do_not_deadlock(postgres_dsn: str) -> None:
    forth = [progress(1, number) for number in range(40)]
    async with shop(postgres_dsn, pool_size=4) as (sink, _):
        writes = (sink.write(flush(), rows) for _ in range(100) for rows in (forth, forth[::-1]))
        assert len(await asyncio.gather(*writes)) == 200


async def test_durability_is_the_servers_default(postgres_dsn: str) -> None:
    async with shop(postgres_dsn) as (_, database), database.transaction() as transaction:
        source = await transaction.value("select source from pg_settings where name = 'synchronous_commit'")
        assert source not in ("session", "client")


@pytest.mark.parametrize(
    ("tag", "rows"),
    [
        ("INSERT 0 5", 5),
        ("UPDATE 0", 0),
        ("DELETE 12", 12),
        ("MERGE 3", 3),
        ("SELECT 9", None),
        ("COMMIT", None),
    ],
)
def test_only_changes_are_counted(tag: str, rows: int | None) -> None:
    assert rows_changed(tag) == rows
