"""The failure policy, code by code: Postgres refuses a flush, and the class of the error is the reaction."""

import asyncio
from collections.abc import Iterator
from hashlib import shake_256
from typing import Any

import asyncpg
import pytest

from ingest.errors import IngestError, Misconfigured, TimedOut, Unavailable, Unstorable
from ingest.migrate import migrate
from ingest.queries import parse
from tests.integration.postgres_tools import ENGINE, SHOP, flush, raised, shop, sql

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
