"""Trouble that will pass: each kind is provoked, met as such, and the flush goes through afterwards."""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from ingest.errors import TimedOut, Unavailable, Unstorable
from ingest.migrate import migrate
from ingest.ports import Written
from ingest.postgres import Database
from ingest.postgres.inspect import server_version
from ingest.queries import parse
from tests.integration.postgres_tools import ENGINE, SHOP, Line, flush, opened, raised, shop, sql

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shop_dsn(databases: Any) -> Iterator[str]:
    with databases("empty") as dsn:
        asyncio.run(migrate(dsn, [ENGINE, SHOP]))
        yield dsn


def with_setting(dsn: str, setting: str) -> str:
    """The DSN with a setting of its sessions, such as `name=value`."""
    return f"{dsn}{'&' if '?' in dsn else '?'}options=-c%20{quote(setting)}"


SLOW = parse(
    "shop",
    "-- write visit (visit)\nselect pg_sleep(60), $1::text[], $2::integer[];"
    "\n-- write tag (tag)\nselect $1::text[]",
)


async def test_a_statement_that_takes_too_long_timed_out(shop_dsn: str) -> None:
    async with shop(shop_dsn, SLOW, command_timeout=0.05) as (sink, _):
        error = await raised(sink, ("a", 1))
    assert isinstance(error, TimedOut)


async def test_a_transaction_that_takes_too_long_timed_out(shop_dsn: str) -> None:
    async with opened(shop_dsn) as database:
        if await server_version(database) < 170000:
            pytest.skip("transaction_timeout came with PostgreSQL 17")
    async with shop(with_setting(shop_dsn, "transaction_timeout=50ms"), SLOW) as (sink, _):
        error = await raised(sink, ("a", 1))
    assert isinstance(error, TimedOut)


async def test_a_standby_is_waited_out(shop_dsn: str) -> None:
    async with shop(with_setting(shop_dsn, "default_transaction_read_only=on")) as (sink, _):
        error = await raised(sink, ("a", 1))
    assert isinstance(error, Unavailable)
    assert error.cause == "read_only"


async def test_a_session_ended_by_an_operator_is_replaced(shop_dsn: str) -> None:
    async with shop(shop_dsn, SLOW) as (sink, _):
        write = asyncio.create_task(raised(sink, ("a", 1)))
        ended: list[Any] = []
        while not ended:
            ended = await sql(shop_dsn, "select pg_terminate_backend(pid) from pg_stat_activity where"
                              " datname = current_database() and query like '%pg_sleep(60)%'"
                              " and pid <> pg_backend_pid() and state = 'active'")  # fmt: skip
        error = await write
    assert isinstance(error, Unavailable)
    assert error.cause in ("operator", "connection")


async def test_a_session_idle_for_too_long_in_a_transaction_is_replaced(shop_dsn: str) -> None:
    async with opened(shop_dsn) as database:
        with pytest.raises(Unavailable):
            await idle(database)
        assert await database.value("select 1") == 1


async def idle(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.execute("set idle_in_transaction_session_timeout = '20ms'")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while not transaction._connection.is_closed():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        await transaction.execute("select 1")


async def test_a_failed_transaction_takes_no_more(shop_dsn: str) -> None:
    async with opened(shop_dsn) as database, database.transaction() as transaction:
        with pytest.raises(Unstorable):
            await transaction.execute("select 1 / 0")
        with pytest.raises(Unavailable) as caught:
            await transaction.execute("select 1")
        assert caught.value.cause == "transaction"
        await transaction.execute("rollback")
        await transaction.execute("begin")


async def test_a_prepared_statement_that_a_pooler_lost_is_made_again(shop_dsn: str) -> None:
    async with shop(shop_dsn, pool_size=1) as (sink, database):
        await sink.write(flush(("kept", 1)), [])
        async with database.transaction() as transaction:
            await transaction.execute("deallocate all")
        error = await raised(sink, ("kept", 2))
        assert isinstance(error, Unavailable)
        assert error.cause == "statement"
        assert (await sink.write(flush(("kept", 3)), [])).rows == 1


async def test_a_prepared_statement_of_the_same_name_is_waited_out(shop_dsn: str) -> None:
    async with opened(shop_dsn) as database:
        with pytest.raises(Unavailable) as caught:
            await prepare_twice(database)
    assert caught.value.cause == "statement"


async def prepare_twice(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.execute("prepare one as select 1; prepare one as select 2")


async def test_a_lost_connection_is_replaced(shop_dsn: str) -> None:
    line = Line(shop_dsn)
    async with line.laid() as dsn, shop(dsn) as (sink, _):
        line.cut_at = lambda message: b"visit" in message
        error = await raised(sink, ("line", 1))
        assert isinstance(error, Unavailable)
        assert error.cause == "connection"
        line.cut_at = lambda message: False
        assert await sink.write(flush(("line", 1)), []) == Written(1, 0, 3)


async def test_waiting_for_a_row_is_given_up_and_tried_again(shop_dsn: str) -> None:
    async with shop(shop_dsn, lock_timeout=0.05) as (sink, database):
        await sink.write(flush(("row", 1)), [])
        async with database.transaction() as transaction:
            await transaction.execute("update visit set number = 2 where id = 'row'")
            error = await raised(sink, ("row", 3))
        assert isinstance(error, Unavailable)
        assert not isinstance(error, TimedOut)
        assert error.cause == "locked"


CROSSING = parse(
    "shop",
    """
-- lock visit (visit)
select from visit where id = ($1::text[])[1] and $2::integer[] is not null for update;

-- write visit (visit)
update visit set number = number + 1 where id = ($1::text[])[2] and $2::integer[] is not null;

-- write tag (tag)
select $1::text[];
""",
)


async def test_a_deadlock_costs_one_of_two_a_retry(shop_dsn: str) -> None:
    async with shop(shop_dsn) as (plain, _):
        await plain.write(flush(("left", 1), ("right", 1)), [])
    forth, back = flush(("left", 1), ("right", 1)), flush(("right", 1), ("left", 1))
    async with shop(with_setting(shop_dsn, "deadlock_timeout=10ms"), CROSSING) as (sink, _):
        seen: list[str] = []
        while not seen:
            outcomes = await asyncio.gather(
                *(sink.write(f, []) for f in (forth, back)), return_exceptions=True
            )
            seen = [o.cause for o in outcomes if isinstance(o, Unavailable)]
    assert seen == ["deadlock"]


async def test_a_serialization_failure_is_tried_again(shop_dsn: str) -> None:
    isolation = r"default_transaction_isolation=repeatable\ read"
    async with shop(with_setting(shop_dsn, isolation)) as (sink, database):
        await sink.write(flush(("serial", 1)), [])
        async with database.transaction() as transaction:
            await transaction.execute("select 1 from visit")
            await sink.write(flush(("serial", 2)), [])
            with pytest.raises(Unavailable) as caught:
                await transaction.execute("update visit set number = 9 where id = 'serial'")
            await transaction.execute("rollback")
            await transaction.execute("begin")
    assert caught.value.cause == "serialization"


async def test_too_many_connections_are_waited_out(shop_dsn: str) -> None:
    limited = f"limited_{secrets.token_hex(4)}"
    await sql(shop_dsn, f"create role {limited} login password 'x' connection limit 1")
    url = shop_dsn.replace(shop_dsn[13 : shop_dsn.index("@")], f"{limited}:x")
    try:
        async with opened(url) as first, first.transaction(), opened(url) as second:
            with pytest.raises(Unavailable) as caught:
                await second.value("select 1")
        assert caught.value.cause == "resources"
    finally:
        await sql(shop_dsn, f"drop role {limited}")
