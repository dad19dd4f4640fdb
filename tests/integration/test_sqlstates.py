"""The failure policy, code by code: Postgres refuses a flush, and the class of the error is the reaction."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from hashlib import shake_256
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from ingest.errors import IngestError, Misconfigured, TimedOut, Unavailable, Unstorable
from ingest.migrate import migrate
from ingest.ports import Written
from ingest.postgres import Database, PostgresSink
from ingest.postgres.inspect import server_version
from ingest.queries import SqlFile, parse
from tests.integration.postgres_tools import ENGINE, SHOP, SHOP_PROJECTION, Line, flush, opened, progress, sql

pytestmark = pytest.mark.integration

# Written down a second time on purpose: the policy itself is what is tested.
TRANSIENT = ("08", "25P02", "25P03", "25P04", "25006", "26", "40", "42P05", "53", "55P03", "57", "58")
DATA = ("22", "23", "44", "54", "P0001")
SHOULD: dict[type[IngestError], tuple[str, ...]] = {Unavailable: TRANSIENT, Unstorable: DATA}

RAISE_SQL = """
-- write visit (visit)
select refuse(n.id) from unnest($1::text[], $2::integer[]) as n (id, number);

-- write tag (tag)
select 1 from unnest($1::text[]);
"""
REFUSE = """
create function refuse(code text) returns void language plpgsql as $$
begin
    raise exception 'provoked' using errcode = code;
end $$
"""
RAISE = parse("shop", RAISE_SQL)


def codes_of_postgres() -> list[str]:
    """Every SQLSTATE that asyncpg names in a class with several reactions or one that does not stop us,
    and one of each other class."""
    known = (getattr(thing, "sqlstate", None) for thing in vars(asyncpg.exceptions).values())
    codes = sorted({code for code in known if isinstance(code, str) and code[:2] not in ("00", "01", "02")})
    mixed = {prefix[:2] for prefix in TRANSIENT + DATA} - {"42"}
    others = {code[:2]: code for code in codes if code[:2] not in mixed}
    return sorted({code for code in codes if code[:2] in mixed} | set(others.values()) | {"42P05", "42501"})


def expected(code: str) -> type[IngestError]:
    found = (reaction for reaction, prefixes in SHOULD.items() if code.startswith(prefixes))
    return next(found, Misconfigured)


@pytest.fixture(scope="module")
def shop_dsn(databases: Any) -> Iterator[str]:
    with databases("empty") as dsn:
        asyncio.run(migrate(dsn, [ENGINE, SHOP]))
        asyncio.run(sql(dsn, REFUSE))
        yield dsn


@asynccontextmanager
async def shop(
    dsn: str, file: SqlFile = SHOP, **settings: Any
) -> AsyncIterator[tuple[PostgresSink, Database]]:
    async with opened(dsn, **settings) as database:
        yield PostgresSink(database, SHOP_PROJECTION, file), database


def with_setting(dsn: str, setting: str) -> str:
    """The DSN with a setting of its sessions, such as `name=value`."""
    return f"{dsn}{'&' if '?' in dsn else '?'}options=-c%20{quote(setting)}"


async def raised(sink: PostgresSink, *visits: tuple[str, int], tags: Sequence[str] = ()) -> IngestError:
    with pytest.raises(IngestError) as caught:
        await sink.write(flush(*visits, tags=tags), [progress(1)])
    return caught.value


async def test_every_code_is_met_as_the_policy_says(shop_dsn: str) -> None:
    codes = codes_of_postgres()
    assert len(codes) > 150
    async with shop(shop_dsn, RAISE) as (sink, _):
        met = {code: type(await raised(sink, (code, 0))) for code in codes}
    assert {c: t for c, t in met.items() if not issubclass(t, expected(c))} == {}
    assert {c for c, t in met.items() if t is TimedOut} == {"57014", "25P04"}


async def test_a_refusal_says_its_code_and_what_mends_it(shop_dsn: str) -> None:
    async with shop(shop_dsn, RAISE) as (sink, _):
        data, fatal = await raised(sink, ("22023", 0)), await raised(sink, ("XX001", 0))
    assert isinstance(data, Unstorable)
    assert data.sqlstate == "22023"
    assert isinstance(fatal, Misconfigured)
    assert "XX001" in fatal.message
    assert fatal.mend


DATA_CASES: dict[str, tuple[list[str], list[Any], str | None]] = {
    "23505": (["create unique index one_number on visit (number)"], [("a", 1), ("b", 1)], "one_number"),
    "23514": ([], [("a", -1)], "visit_number_check"),
    "23502": ([], [("a", None)], None),
    "22001": (["alter table visit alter id type varchar(3)"], [("long", 1)], None),
    "22003": ([], [("a", 2**31)], None),
    "22021": ([], [("a\0b", 1)], None),
    "54000": ([], [(shake_256(b"too wide for an index").hexdigest(8000), 1)], None),
}


@pytest.mark.parametrize("code", DATA_CASES)
async def test_rows_that_postgres_refuses_are_the_datas_fault(postgres_dsn: str, code: str) -> None:
    prepared, rows, constraint = DATA_CASES[code]
    await migrate(postgres_dsn, [ENGINE, SHOP])
    for statement in prepared:
        await sql(postgres_dsn, statement)
    async with shop(postgres_dsn) as (sink, _):
        error = await raised(sink, *rows)
        assert isinstance(error, Unstorable)
        # asyncpg finds an integer out of range before Postgres does, and says the general code.
        assert error.sqlstate == ("22000" if code == "22003" else code)
        assert error.constraint == constraint
        assert (await sink.write(flush(("ok", 1)), [])).rows == 1


async def test_a_row_outside_its_view_or_refused_by_a_trigger_is_the_datas_fault(postgres_dsn: str) -> None:
    await migrate(postgres_dsn, [ENGINE, SHOP])
    await sql(postgres_dsn, """
        alter table tag rename to tag_table;
        create view tag as select id from tag_table where id < 'm' with check option;
        create function guard() returns trigger language plpgsql as
            $$ begin if new.number = 13 then raise 'unlucky'; end if; return new; end $$;
        create trigger guard before insert on visit for each row execute function guard();
        """)  # fmt: skip
    async with shop(postgres_dsn) as (sink, _):
        view, trigger = await raised(sink, tags=["z"]), await raised(sink, ("a", 13))
    assert isinstance(view, Unstorable)
    assert isinstance(trigger, Unstorable)
    assert (view.sqlstate, trigger.sqlstate) == ("44000", "P0001")


FATAL_CASES = {
    "42P01": ("drop table visit cascade", "migrate"),
    "42703": ("alter table visit rename number to count", "migrate"),
    "42P10": ("alter table visit drop constraint visit_pkey", "migrate"),
    "0A000": (
        "alter table visit rename to old; create view visit as select distinct id, number from old",
        "14",
    ),
}


@pytest.mark.parametrize("code", FATAL_CASES)
async def test_a_schema_that_is_not_ours_stops_the_worker(postgres_dsn: str, code: str) -> None:
    await migrate(postgres_dsn, [ENGINE, SHOP])
    statement, mend = FATAL_CASES[code]
    await sql(postgres_dsn, statement)
    async with shop(postgres_dsn) as (sink, _):
        error = await raised(sink, ("a", 1))
    assert isinstance(error, Misconfigured)
    assert code in error.message
    assert mend in error.mend


async def test_one_key_twice_in_a_flush_is_a_bug_and_stops_the_worker(shop_dsn: str) -> None:
    async with shop(shop_dsn) as (sink, _):
        error = await raised(sink, ("twice", 1), ("twice", 2))
    assert isinstance(error, Misconfigured)
    assert "21000" in error.message


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
    limited = "limited_login"
    await sql(shop_dsn, f"create role {limited} login password 'x' connection limit 1")
    url = shop_dsn.replace(shop_dsn[13 : shop_dsn.index("@")], f"{limited}:x")
    try:
        async with opened(url) as first, first.transaction(), opened(url) as second:
            with pytest.raises(Unavailable) as caught:
                await second.value("select 1")
        assert caught.value.cause == "resources"
    finally:
        await sql(shop_dsn, f"drop role {limited}")
