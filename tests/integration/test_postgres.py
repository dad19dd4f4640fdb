"""Connections, transactions, time-outs and snapshots against a real Postgres."""

import asyncio
import contextlib

import asyncpg
import pytest

from ingest.errors import Misconfigured, TimedOut, Unavailable, Unstorable
from tests.integration.postgres_tools import Line, opened, sql

pytestmark = pytest.mark.integration
PID = "select pg_backend_pid()"


async def test_nothing_connects_before_the_first_use(postgres_dsn: str) -> None:
    line = Line(postgres_dsn)
    async with line.laid() as dsn, opened(dsn) as database:
        assert line.connections == 0
        assert await database.value("select 1") == 1
        assert line.connections == 1


async def test_a_good_connection_is_used_again_and_a_failed_one_never(postgres_dsn: str) -> None:
    async with opened(postgres_dsn) as database:
        first = await database.value(PID)
        assert await database.value(PID) == first
        with pytest.raises(Misconfigured):
            await database.value("select nonsense")
        assert await database.value(PID) != first


async def test_bad_data_costs_no_connection(postgres_dsn: str) -> None:
    async with opened(postgres_dsn) as database:
        first = await database.value(PID)
        with pytest.raises(Unstorable, match="division by zero"):
            await database.value("select 1 / 0")
        with pytest.raises(Unstorable, match="out of int32 range") as caught:
            await database.value("select $1::integer", 2**40)
        assert str(2**40) not in caught.value.message
        assert await database.value(PID) == first


async def test_a_bug_in_the_block_rolls_back_and_escapes_as_it_is(postgres_dsn: str) -> None:
    await sql(postgres_dsn, "create table t (x int)")
    async with opened(postgres_dsn) as database:

        async def buggy() -> None:
            async with database.transaction() as transaction:
                await transaction.execute("insert into t values (1)")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await buggy()
        assert await database.value("select count(*) from t") == 0


async def test_a_swallowed_failure_is_not_taken_for_a_commit(postgres_dsn: str) -> None:
    async with opened(postgres_dsn) as database:

        async def careless() -> None:
            async with database.transaction() as transaction:
                with contextlib.suppress(Unstorable):
                    await transaction.execute("select 1 / 0")

        with pytest.raises(Unavailable, match="rolled back"):
            await careless()


async def test_a_connection_lost_takes_with_it_all_that_were_opened_before(postgres_dsn: str) -> None:
    async with opened(postgres_dsn, pool_size=3) as database:
        before = await asyncio.gather(*(database.value(f"{PID}, pg_sleep(0.05)") for _ in range(3)))
        assert len(set(before)) == 3
        with pytest.raises(Unavailable) as caught:
            await database.value("select pg_terminate_backend(pg_backend_pid())")
        assert caught.value.cause == "operator"
        after = await asyncio.gather(*(database.value(f"{PID}, pg_sleep(0.05)") for _ in range(3)))
        assert set(before).isdisjoint(after)


async def test_a_full_pool_makes_others_wait_and_then_says_so(postgres_dsn: str) -> None:
    async with opened(postgres_dsn, pool_size=1, connect_timeout=0.1, command_timeout=0.2) as database:
        async with database.transaction():
            with pytest.raises(Unavailable) as caught:
                await database.value("select 1")
        assert caught.value.cause == "pool"
        assert await database.value("select 1") == 1


async def test_no_more_connections_are_opened_than_allowed(postgres_dsn: str) -> None:
    async with opened(postgres_dsn, pool_size=3) as database:
        pids = await asyncio.gather(*(database.value(f"{PID}, pg_sleep(0.01)") for _ in range(20)))
        assert len(set(pids)) <= 3


async def test_a_cancelled_statement_gives_its_place_free(postgres_dsn: str) -> None:
    async with opened(postgres_dsn, pool_size=1) as database:
        entered = asyncio.Event()

        async def sleep() -> None:
            async with database.transaction() as transaction:
                entered.set()
                await transaction.execute("select pg_sleep(60)")

        task = asyncio.create_task(sleep())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await database.value("select 1") == 1


async def test_a_slow_statement_times_out_by_the_servers_clock(postgres_dsn: str) -> None:
    async with opened(postgres_dsn, command_timeout=0.05) as database:
        with pytest.raises(TimedOut) as caught:
            await database.value("select pg_sleep(60)")
        assert caught.value.cause == "timeout"


async def test_a_silent_line_times_out_by_ours(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.postgres.access.MARGIN", 0.05)
    line = Line(postgres_dsn)
    async with line.laid() as dsn, opened(dsn, command_timeout=0.1) as database:
        assert await database.value("select 1") == 1
        line.silent_at = lambda message: b"commit" in message
        with pytest.raises(TimedOut):
            await database.value("select 1")


async def test_waiting_for_a_lock_ends(postgres_dsn: str) -> None:
    await sql(postgres_dsn, "create table t (x int)")
    async with opened(postgres_dsn, lock_timeout=0.05) as database, database.transaction() as first:
        await first.execute("lock table t")
        with pytest.raises(Unavailable) as caught:
            await database.value("select count(*) from t")
        assert caught.value.cause == "locked"


async def test_the_server_is_told_every_time_limit_and_our_name(postgres_dsn: str) -> None:
    async with opened(postgres_dsn, command_timeout=90, lock_timeout=7) as database:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
                 "application_name", "timezone", "synchronous_commit")  # fmt: skip
        shown = [await database.value(f"show {name}") for name in names]
        wanted = await database.value("select reset_val from pg_settings where name = 'synchronous_commit'")
        assert shown == ["90s", "7s", "90s", "activity-ingest", "UTC", wanted]


async def test_behind_a_pooler_settings_last_one_transaction(postgres_dsn: str) -> None:
    async with opened(postgres_dsn, pgbouncer=True, command_timeout=17) as database:
        async with database.transaction() as transaction:
            assert await transaction.value("show statement_timeout") == "17s"
        lent = await database._pool.take()
        assert await lent.connection.fetchval("show statement_timeout") == "0"
        assert await lent.connection.fetchval("select count(*) from pg_prepared_statements") == 0
        database._pool.give_back(lent, good=True)


async def test_a_plan_made_stale_by_a_migration_is_retried(postgres_dsn: str) -> None:
    await sql(postgres_dsn, "create table t (x int)")
    async with opened(postgres_dsn) as database:
        assert await database.fetch("select * from t") == []
        await sql(postgres_dsn, "alter table t add column y text")
        with pytest.raises(Unavailable) as caught:
            await database.fetch("select * from t")
        assert caught.value.cause == "stale_plan"
        assert await database.fetch("select * from t") == []


async def test_statements_stay_prepared_between_transactions(postgres_dsn: str) -> None:
    async with opened(postgres_dsn, pool_size=1) as database:
        for _ in range(3):
            await database.value("select $1::text", "x")
        prepared = await database.value(
            "select count(*) from pg_prepared_statements where statement like $1", "select $1::text%"
        )
        assert prepared == 1


async def test_a_snapshot_is_frozen_reads_in_chunks_and_writes_nothing(postgres_dsn: str) -> None:
    await sql(postgres_dsn, "create table t as select generate_series(1, 5000) as x")
    async with opened(postgres_dsn) as database:
        async with database.snapshot() as (snapshot, moment):
            await sql(postgres_dsn, "insert into t values (5001)")
            chunks = [chunk async for chunk in snapshot.stream("select x, 'y' from t order by x")]
            assert [row for chunk in chunks for row in chunk] == [(x, "y") for x in range(1, 5001)]
            assert max(map(len, chunks)) <= 2000
            assert await snapshot.value("select now()") == moment
            assert await snapshot.value("show statement_timeout") == "1h"
        with pytest.raises(Unavailable) as caught:
            async with database.snapshot() as (snapshot, _):
                await snapshot.execute("insert into t values (1)")
        assert caught.value.cause == "read_only"


async def test_a_read_cannot_write(postgres_dsn: str) -> None:
    await sql(postgres_dsn, "create table t (x int)")
    async with opened(postgres_dsn) as database:
        with pytest.raises(Unavailable):
            await database.fetch("insert into t values (1)")


async def test_closing_leaves_no_session_behind(postgres_dsn: str) -> None:
    async with opened(postgres_dsn, pool_size=3) as database:
        await asyncio.gather(*(database.value("select pg_sleep(0.01)") for _ in range(3)))
    connection = await asyncpg.connect(postgres_dsn)
    left = (
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(5):
        while await connection.fetchval(left):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await connection.close()
