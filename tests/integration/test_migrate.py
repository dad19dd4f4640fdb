"""Schemas brought up to date, by one process or ten; who fits; what is adopted."""

import asyncio
import secrets
from collections.abc import Sequence

import pytest

from ingest.errors import Misconfigured, Unavailable
from ingest.migrate import Step, check, migrate, require_fit
from ingest.queries import SqlFile, parse
from ingest.settings import PostgresSettings
from tests.integration.postgres_tools import ENGINE, SHOP, opened, sql

pytestmark = pytest.mark.integration

ONE = """
-- migration 1: items
create table if not exists item (id text primary key);
"""
TWO = f"""{ONE}
-- migration 2 min_worker 1: prices
alter table item add column price integer;
insert into item values ('first', 1);
"""
THREE = f"""{TWO}
-- migration 3 min_worker 3 no-transaction: an index
create index concurrently if not exists item_price on item (price);
create index concurrently if not exists item_price_id on item (price, id);
"""


def files(text: str) -> list[SqlFile]:
    return [ENGINE, parse("stock", text)]


def names(steps: Sequence[Step]) -> list[tuple[str, int]]:
    return [(step.file, step.version) for step in steps]


async def refused(dsn: str, text: str) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        await migrate(dsn, files(text))
    return caught.value


async def test_an_empty_database_gets_everything_in_order_and_a_second_run_nothing(postgres_dsn: str) -> None:
    told: list[Step] = []
    assert names(await migrate(postgres_dsn, files(TWO), report=told.append)) == names(told)
    assert names(told) == [("_engine", 1), ("stock", 1), ("stock", 2)]
    assert str(told[2]) == "stock 2: prices"
    assert await migrate(postgres_dsn, files(TWO)) == []
    assert await sql(postgres_dsn, "select * from item") == [("first", 1)]


async def test_check_says_what_is_pending_and_touches_nothing(postgres_dsn: str) -> None:
    assert names(await check(postgres_dsn, files(ONE))) == [("_engine", 1), ("stock", 1)]
    assert await sql(
        postgres_dsn, "select count(*) from pg_class where relnamespace = 'public'::regnamespace"
    ) == [(0,)]
    await migrate(postgres_dsn, files(ONE))
    assert names(await check(postgres_dsn, files(THREE))) == [("stock", 2), ("stock", 3)]


async def test_a_statement_that_fits_no_transaction_runs_outside_one(postgres_dsn: str) -> None:
    await migrate(postgres_dsn, files(THREE))
    valid = "select count(*) from pg_index where indrelid = 'item'::regclass and indisvalid"
    assert await sql(postgres_dsn, valid) == [(3,)]


@pytest.mark.parametrize("text", [TWO, THREE], ids=["in transactions", "with an index built concurrently"])
async def test_ten_at_once_end_well_and_each_step_is_made_once(postgres_dsn: str, text: str) -> None:
    async with asyncio.timeout(15):
        done = await asyncio.gather(*(migrate(postgres_dsn, files(text)) for _ in range(10)))
    made = sorted(names([step for steps in done for step in steps]))
    assert made == [("_engine", 1), *(("stock", m.version) for m in parse("stock", text).migrations)]
    assert await check(postgres_dsn, files(text)) == []


async def test_a_migration_that_fails_is_undone_and_the_next_run_goes_on_from_there(
    postgres_dsn: str,
) -> None:
    broken = TWO.replace("values ('first', 1)", "values ('first', 1), ('second', 1 / 0)")
    error = await refused(postgres_dsn, broken)
    assert error.message.startswith("stock 2: prices: division by zero")
    assert names(await check(postgres_dsn, files(TWO))) == [("stock", 2)]
    assert names(await migrate(postgres_dsn, files(TWO))) == [("stock", 2)]


async def test_an_edited_past_migration_is_refused_everywhere(postgres_dsn: str) -> None:
    await migrate(postgres_dsn, files(TWO))
    edited = files(TWO.replace("price integer", "price bigint"))
    async with opened(postgres_dsn) as database:
        for attempt in (
            migrate(postgres_dsn, edited),
            check(postgres_dsn, edited),
            require_fit(database, edited),
        ):
            with pytest.raises(Misconfigured, match=r"sql/stock.sql: migration 2 was edited"):
                await attempt


async def test_a_new_comment_or_layout_is_no_edit(postgres_dsn: str) -> None:
    await migrate(postgres_dsn, files(TWO))
    text = TWO.replace("price integer", "price -- in cents\n    integer").replace(
        ": prices", ": what it costs"
    )
    assert await migrate(postgres_dsn, files(text)) == []


async def test_a_worker_refuses_a_schema_that_is_older_than_it_needs(postgres_dsn: str) -> None:
    async with opened(postgres_dsn) as database:
        with pytest.raises(Misconfigured) as caught:
            await require_fit(database, files(ONE))
        assert "activity-ingest migrate" in caught.value.mend
        await migrate(postgres_dsn, files(ONE))
        await require_fit(database, files(ONE))
        with pytest.raises(Misconfigured, match="lacks version 2"):
            await require_fit(database, files(TWO))


async def test_versions_roll_forward_and_back_one_worker_at_a_time(postgres_dsn: str) -> None:
    await migrate(postgres_dsn, files(TWO))
    async with opened(postgres_dsn) as database:
        await require_fit(database, files(ONE))
        await require_fit(database, files(TWO))
        await migrate(postgres_dsn, files(ONE))
        await migrate(postgres_dsn, files(THREE))
        with pytest.raises(Misconfigured) as caught:
            await require_fit(database, files(TWO))
    assert "upgrade this worker" in caught.value.mend
    assert "upgrade this worker" in (await refused(postgres_dsn, TWO)).mend


async def test_other_files_in_the_same_database_are_left_alone(postgres_dsn: str) -> None:
    await migrate(postgres_dsn, files(THREE))
    assert names(await migrate(postgres_dsn, [ENGINE, SHOP])) == [("shop", 1)]


async def test_each_schema_of_a_database_is_migrated_by_itself(postgres_dsn: str) -> None:
    await migrate(postgres_dsn, files(ONE))
    await sql(postgres_dsn, "create schema app")
    app = f"{postgres_dsn}{'&' if '?' in postgres_dsn else '?'}search_path=app,public"
    assert names(await migrate(app, files(TWO))) == [("_engine", 1), ("stock", 1), ("stock", 2)]
    assert names(await check(postgres_dsn, files(TWO))) == [("stock", 2)]
    assert await sql(postgres_dsn, "select count(*) from app.item") == [(1,)]


async def test_a_schema_that_does_not_exist_is_named_at_once(postgres_dsn: str) -> None:
    lost = f"{postgres_dsn}{'&' if '?' in postgres_dsn else '?'}search_path=nowhere"
    assert "search_path" in (await refused(lost, ONE)).mend


async def test_a_missing_right_is_what_is_to_be_mended(postgres_dsn: str) -> None:
    visitor = f"visitor_{secrets.token_hex(4)}"
    await sql(postgres_dsn, f"create role {visitor} login password 'x'")
    try:
        plain = postgres_dsn.replace(postgres_dsn[13 : postgres_dsn.index("@")], f"{visitor}:x")
        assert "right" in (await refused(plain, ONE)).mend
    finally:
        await sql(postgres_dsn, f"drop role {visitor}")


async def test_migrations_go_past_the_pooler_where_a_dsn_says_how(postgres_dsn: str) -> None:
    settings = PostgresSettings.model_validate(
        {"dsn": "postgresql://pooler.invalid/none", "pgbouncer": True, "migrate_dsn": postgres_dsn}
    )
    assert len(await migrate(settings, files(ONE))) == 2
    assert await check(settings, files(ONE)) == []


async def test_a_migration_waits_for_a_worker_that_holds_a_lock(postgres_dsn: str) -> None:
    await migrate(postgres_dsn, files(ONE))
    settings = PostgresSettings.model_validate({"dsn": postgres_dsn, "lock_timeout": 0.02})
    async with opened(postgres_dsn) as database:
        async with database.transaction() as transaction:
            await transaction.execute("lock table item in row exclusive mode")
            with pytest.raises(Unavailable) as caught:
                await migrate(settings, files(TWO), wait=0.1)
            assert caught.value.cause == "locked"
            later = asyncio.create_task(migrate(settings, files(TWO)))
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            while await sql(postgres_dsn, waiting) == [(0,)]:
                pass
        assert names(await later) == [("stock", 2)]


# -- adoption ------------------------------------------------------------------------------------

SEEN = """
-- migration 1: seen
create table if not exists seen (
    who varchar(50) collate "C" primary key,
    latest timestamptz not null,
    note text
);
alter table seen
    add column if not exists day date generated always as ((latest at time zone 'UTC')::date) stored;
create table helper (who text primary key);
insert into helper select who from seen;
create or replace view seen_today as select who, latest from seen;
"""
RIGHT = "who varchar(50) primary key, latest timestamptz not null, note text"


async def adopted(dsn: str, columns: str) -> Sequence[Step]:
    await sql(dsn, f"create table seen ({columns})")
    return await migrate(dsn, files(SEEN))


async def test_a_table_of_the_right_shape_is_adopted_with_its_rows(postgres_dsn: str) -> None:
    await sql(postgres_dsn, f"create table seen ({RIGHT}, extra text, filled int not null default 1)")
    await sql(postgres_dsn, "insert into seen values ('old', '2026-01-01Z')")
    steps = await migrate(postgres_dsn, files(SEEN))
    assert [step.adopted for step in steps] == [(), ("seen",)]
    assert await sql(postgres_dsn, "select who, day::text from seen") == [("old", "2026-01-01")]
    assert await sql(postgres_dsn, "select * from helper") == [("old",)]
    assert await sql(
        postgres_dsn, "select count(*) from pg_namespace where nspname like 'ingest_scratch%'"
    ) == [(0,)]


async def test_any_unique_key_on_the_same_columns_will_do(postgres_dsn: str) -> None:
    columns = "who varchar(50) unique, latest timestamptz, note text, other int, unique (who, other)"
    assert (await adopted(postgres_dsn, columns))[1].adopted == ("seen",)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (RIGHT.replace("varchar(50)", "text"), "seen.who is text, and must be character varying(50)"),
        (RIGHT.replace("timestamptz", "timestamp"), "seen.latest is timestamp without time zone"),
        (RIGHT.replace("note text", "note text not null"), "seen.note is not null, and must accept null"),
        (RIGHT.replace(", note text", ""), "seen.note is missing: add it as text"),
        (RIGHT.replace("primary key", ""), "seen has no unique key on (who)"),
        (f"{RIGHT}, unique (latest)", "seen has a unique key on (latest)"),
        (f"{RIGHT}, extra int not null", "seen.extra must be filled"),
        (f"{RIGHT}, day date", "seen.day is a plain column, and must be generated"),
        (
            RIGHT.replace("note text", "note text generated always as ('x'::text) stored"),
            "seen.note is generated, and must be a plain column",
        ),
        (RIGHT.replace("latest", "last"), "seen.latest is missing"),
    ],
)
async def test_a_table_of_another_shape_is_refused_with_the_reason(
    postgres_dsn: str, columns: str, said: str
) -> None:
    before = (
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')"
    )
    with pytest.raises(Misconfigured) as caught:
        await adopted(postgres_dsn, columns)
    assert "existing tables cannot be adopted" in caught.value.message
    assert said in caught.value.message
    assert "migrate" in caught.value.mend
    left = {name for (name,) in await sql(postgres_dsn, before)}
    assert left - {name for name in left if name.startswith("ingest_")} == {"seen"}
    assert ("stock",) not in await sql(postgres_dsn, "select file from ingest_migration")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("create table seen_today (who text)", "seen_today is a table, and must be a view"),
        ("create view seen as select 'x' as who", "seen is a view, and must be a table"),
        ("create materialized view seen as select 'x' as who", "seen is a materialized view"),
    ],
)
async def test_a_table_where_we_make_a_view_is_refused(postgres_dsn: str, statement: str, said: str) -> None:
    await sql(postgres_dsn, statement)
    assert said in (await refused(postgres_dsn, SEEN)).message


async def test_a_partitioned_table_of_the_right_shape_is_adopted(postgres_dsn: str) -> None:
    await sql(postgres_dsn, f"create table seen ({RIGHT}) partition by hash (who);"
              " create table seen_0 partition of seen for values with (modulus 1, remainder 0)")  # fmt: skip
    text = SEEN.replace("generated always as ((latest at time zone 'UTC')::date) stored", "")
    assert (await migrate(postgres_dsn, files(text)))[1].adopted == ("seen",)


async def test_a_table_met_by_a_later_migration_is_not_compared(postgres_dsn: str) -> None:
    await migrate(postgres_dsn, files(ONE))
    await sql(postgres_dsn, "create table later (x int)")
    text = f"{ONE}\n-- migration 2 min_worker 1: later\ncreate table if not exists later (x int);"
    assert [step.adopted for step in await migrate(postgres_dsn, files(text))] == [()]
