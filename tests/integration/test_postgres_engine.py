"""Progress, pinned settings, leases, sweep and what is looked at from outside."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from ingest.errors import Misconfigured, WentBack
from ingest.migrate import migrate
from ingest.ports import Progress
from ingest.postgres import Database
from ingest.postgres.inspect import clock, gauges, missing_rights, refuse_old, server_version, standing
from ingest.postgres.leases import Lease, release, still_held, sweep, with_lease
from ingest.postgres.pins import put_settings, stored_settings
from ingest.postgres.progress import as_of, refresh, start_offsets
from ingest.record import Partition
from tests.integration.postgres_tools import ENGINE, FILES, opened, progress, sql

pytestmark = pytest.mark.integration
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@asynccontextmanager
async def engine(dsn: str, **settings: Any) -> AsyncIterator[Database]:
    await migrate(dsn, [ENGINE])
    async with opened(dsn, **settings) as database:
        yield database


async def test_start_offsets_are_those_of_the_partitions_asked_for(postgres_dsn: str) -> None:
    async with engine(postgres_dsn) as database:
        await refresh(database, "shop", [progress(7, 0), progress(8, 1), progress(9, 2)])
        await refresh(database, "other", [progress(1, 0)])
        asked = [Partition("shop", 0), Partition("shop", 2), Partition("shop", 3), Partition("else", 0)]
        assert await start_offsets(database, "shop", asked) == {asked[0]: 7, asked[1]: 9}
        assert await start_offsets(database, "shop", []) == {}


async def test_a_database_that_went_back_is_noticed_and_nothing_is_noted(postgres_dsn: str) -> None:
    first, second = Partition("shop", 0), Partition("shop", 1)
    async with engine(postgres_dsn) as database:
        await refresh(database, "shop", [Progress(first, 7, None), Progress(second, 7, None)])
        await refresh(database, "shop", [Progress(first, 9, None, 7), Progress(second, 8, None, 5)])
        for known in (10, 100):
            with pytest.raises(WentBack):
                await refresh(
                    database, "shop", [Progress(first, 12, None, 9), Progress(second, 12, None, known)]
                )
        with pytest.raises(WentBack):
            await refresh(database, "shop", [Progress(Partition("shop", 2), 12, None, 1)])
        assert await start_offsets(database, "shop", [first, second]) == {first: 9, second: 8}


async def test_as_of_is_the_least_once_every_partition_is_known(postgres_dsn: str) -> None:
    async with engine(postgres_dsn) as database:
        assert await as_of(database, "shop", "shop", 2) is None
        await refresh(database, "shop", [progress(1, 0, NOON)])
        assert await as_of(database, "shop", "shop", 2) is None
        await refresh(database, "shop", [progress(1, 1)])
        assert await as_of(database, "shop", "shop", 2) is None
        await refresh(database, "shop", [progress(1, 1, NOON - MINUTE), progress(1, 2, NOON - 9 * MINUTE)])
        # Partition 2 is of an earlier, wider topic of that name.
        assert await as_of(database, "shop", "shop", 2) == NOON - MINUTE


async def test_a_pinned_setting_is_stored_once_and_compared_ever_after(postgres_dsn: str) -> None:
    async with engine(postgres_dsn) as database:
        await put_settings(database, "shop", {"goal": 3, "zone": "UTC", "wait": 600.0}, {"goal", "zone"})
        with pytest.raises(Misconfigured) as caught:
            await put_settings(database, "shop", {"goal": 4, "zone": "UTC", "wait": 5.5}, {"goal", "zone"})
        assert "goal is 4 here, but the stored rows were made with 3" in caught.value.message
        assert "ACTIVITY_SHOP__GOAL=3" in caught.value.mend
        assert "activity-ingest refold shop" in caught.value.mend
        assert await stored_settings(database, "shop") == {"goal": "3", "wait": "600", "zone": "UTC"}


async def test_other_settings_follow_whoever_started_last(postgres_dsn: str) -> None:
    async with engine(postgres_dsn) as database:
        await put_settings(database, "shop", {"wait": 600.0, "on": True}, ())
        await put_settings(database, "shop", {"wait": 0.5, "on": False}, ())
        assert await stored_settings(database, "shop") == {"on": "false", "wait": "0.5"}


async def test_a_setting_pinned_by_a_later_release_keeps_what_is_stored(postgres_dsn: str) -> None:
    async with engine(postgres_dsn) as database:
        await put_settings(database, "shop", {"goal": 3}, ())
        with pytest.raises(Misconfigured):
            await put_settings(database, "shop", {"goal": 4}, {"goal"})
        await put_settings(database, "shop", {"goal": 3}, {"goal"})
        assert await sql(postgres_dsn, "select value, pinned from ingest_setting") == [("3", True)]


async def test_workers_that_start_together_agree_on_one_pin(postgres_dsn: str) -> None:
    async with engine(postgres_dsn, pool_size=8) as database:
        starts = (put_settings(database, "shop", {"goal": n}, {"goal"}) for n in range(8))
        outcomes = await asyncio.gather(*starts, return_exceptions=True)
        assert sum(isinstance(o, Misconfigured) for o in outcomes) == 7
        assert outcomes.count(None) == 1


async def fencing(database: Database, holder: str, ttl: timedelta = MINUTE) -> int | None:
    async with with_lease(database, Lease("sweep", holder, ttl)) as held:
        return held.fencing if held else None


async def test_a_lease_has_one_holder_until_it_is_given_up(postgres_dsn: str) -> None:
    async with engine(postgres_dsn) as database:
        assert [await fencing(database, who) for who in ("a", "b", "a", "b")] == [1, None, 1, None]
        await release(database, Lease("sweep", "b", MINUTE))
        assert await fencing(database, "b") is None
        await release(database, Lease("sweep", "a", MINUTE))
        assert [await fencing(database, who) for who in ("b", "a")] == [2, None]


async def test_an_expired_lease_changes_hands_and_its_number_rises(postgres_dsn: str) -> None:
    async with engine(postgres_dsn) as database:
        assert await fencing(database, "a", timedelta(0)) == 1
        assert await fencing(database, "b", timedelta(0)) == 2
        assert await fencing(database, "b", timedelta(0)) == 3


async def test_nobody_waits_for_a_holder_at_work_even_past_its_expiry(postgres_dsn: str) -> None:
    at_work = Lease("sweep", "a", timedelta(0))
    async with engine(postgres_dsn, lock_timeout=60, command_timeout=60) as database:
        for _ in ("the row is made", "the row is taken"):
            async with with_lease(database, at_work) as held, asyncio.timeout(5):
                assert held is not None
                assert await fencing(database, "b") is None


async def test_many_first_takers_get_one_lease(postgres_dsn: str) -> None:
    async with engine(postgres_dsn, pool_size=8) as database:
        taken = await asyncio.gather(*(fencing(database, str(n)) for n in range(8)))
        assert sorted(t for t in taken if t) == [1]


async def test_work_begun_under_a_lost_lease_cannot_be_finished(postgres_dsn: str) -> None:
    async with engine(postgres_dsn) as database:
        mine = Lease("relay", "a", MINUTE)
        async with with_lease(database, mine) as held:
            assert held is not None
        async with database.transaction() as transaction:
            assert await still_held(database, transaction, mine, held.fencing)
        await release(database, mine)
        async with with_lease(database, Lease("relay", "b", MINUTE)):
            pass
        async with database.transaction() as transaction:
            assert not await still_held(database, transaction, mine, held.fencing)


SWEEP = """
with due as (select x from t where done < $1 order by x limit $2),
gone as (delete from t using due where t.x = due.x returning 1)
select count(*) from gone
"""


async def test_a_sweep_goes_in_bounded_steps_under_one_holder(postgres_dsn: str) -> None:
    async with engine(postgres_dsn) as database:
        await sql(postgres_dsn, "create table t as select x, timestamptz '2026-01-01' as done"
                  " from generate_series(1, 25) as x")  # fmt: skip
        mine, other = Lease("sweep.t", "a", MINUTE), Lease("sweep.t", "b", MINUTE)
        assert await sweep(database, mine, SWEEP, NOON, 10) == 10
        assert await sweep(database, other, SWEEP, NOON, 10) is None
        assert [await sweep(database, mine, SWEEP, NOON, 10) for _ in range(3)] == [10, 5, 0]


async def test_gauges_are_read_by_label(postgres_dsn: str) -> None:
    sections = {"sessions": "values ('watching', 2::float8), (null, 1)", "users": "select '', 3::bigint"}
    async with opened(postgres_dsn) as database:
        found = await gauges(database, sections)
    assert found == {"sessions": [("watching", 2.0), ("", 1.0)], "users": [("", 3.0)]}


async def test_the_server_tells_its_time_and_version(postgres_dsn: str) -> None:
    async with opened(postgres_dsn) as database:
        assert abs(await clock(database) - datetime.now(UTC)) < MINUTE
        assert await server_version(database) >= 140000


def test_a_server_too_old_is_refused() -> None:
    refuse_old(140000)
    with pytest.raises(Misconfigured, match="PostgreSQL 13"):
        refuse_old(130022)


async def test_missing_rights_are_listed_by_table(postgres_dsn: str) -> None:
    await migrate(postgres_dsn, FILES)
    role = f"reader_{secrets.token_hex(4)}"
    await sql(
        postgres_dsn, f"create role {role} login password 'secret'; grant select, insert on visit to {role}"
    )
    url = urlsplit(postgres_dsn)
    dsn = url._replace(netloc=f"{role}:secret@{url.netloc.rpartition('@')[2]}").geturl()
    try:
        async with opened(dsn) as database:
            assert await missing_rights(database, ["visit", "tag", "no_such_table"]) == {
                "tag": ["SELECT", "INSERT", "UPDATE", "DELETE"],
                "visit": ["UPDATE", "DELETE"],
            }
            here = await standing(database)
            assert (here.user, here.schema, here.may_create, here.standby) == (role, "public", False, False)
            with pytest.raises(Misconfigured) as caught:
                await database.value("select count(*) from tag")
            assert "right" in caught.value.mend
    finally:
        await sql(postgres_dsn, f"drop owned by {role}; drop role {role}")
