"""The README says which of its queries an index answers, and that narrowing them changes no answer."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from ingest.queries import statements
from tests.conftest import Databases
from tests.readme import blocks

pytestmark = pytest.mark.integration

MANY = """
insert into client_activity (client_id, last_seen, created_at)
select 'c' || i, now() - case when i % 500 = 0 then interval '40 days' else interval '1 hour' end, now()
from generate_series(1, 50000) as i;
insert into user_activity (user_id, last_active_time)
select 'u' || i, now() - case when i % 500 = 0 then interval '40 days' else interval '1 hour' end
from generate_series(1, 50000) as i;
insert into streaks (user_id, last_activity_date, current_streak, max_streak, zone, zone_hour)
select 'u' || i,
    (now() at time zone 'UTC')::date + case when i % 500 = 0 then 1 - i / 500 % 6 else -40 end,
    3, 3,
    (array['Pacific/Kiritimati', 'Etc/GMT+12', '-12:00', '+14:00', 'UTC', null])[i / 3000 % 6 + 1], now()
from generate_series(1, 50000) as i;
insert into live_activity (
    user_id, session_id, activity_type, started_at, last_heartbeat, created_at, updated_at, is_active,
    heartbeat_time, heartbeat_source, heartbeat_id
)
select 'u' || i, 's', 'watching', ms, ms, ms, ms, i % 500 = 0, to_timestamp(ms / 1000.0), '', ''
from generate_series(1, 50000) as i
cross join lateral (
    select activity_epoch_ms(
        now() - case when i % 500 = 0 then interval '1 minute' else interval '9 days' end
    ) as ms
) as m;
analyze client_activity, user_activity, streaks, live_activity;
"""


@pytest.fixture(scope="module")
def crowded_dsn(databases: Databases) -> Iterator[str]:
    """Of 50,000 clients, users, streaks and sessions one in 500 is what is asked for."""
    with databases("migrated") as dsn:
        asyncio.run(run(dsn, MANY))
        yield dsn


async def run(dsn: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        if ";" in statement:
            await connection.execute(statement)
            return []
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


def query(*words: str) -> str:
    """The one query of the README that has all these words."""
    every = [statement for block in blocks("sql") for statement in statements(block.text)]
    (found,) = [statement for statement in every if all(word in statement for word in words)]
    return found


@pytest.mark.parametrize(
    ("words", "index"),
    [
        (("client_activity", "last_seen_day"), "client_activity_last_seen_day"),
        (("user_activity", "last_active_day"), "user_activity_last_active_day"),
        (("at_risk",), "streaks_last_activity_date"),
        (("heartbeat_slot",), "live_activity_active_slot"),
    ],
)
def test_an_index_answers_where_the_readme_says_so(
    crowded_dsn: str, words: tuple[str, ...], index: str
) -> None:
    statement = query(*words)
    plan = "\n".join(row[0] for row in asyncio.run(run(crowded_dsn, f"explain {statement}")))
    assert index in plan, plan
    assert asyncio.run(run(crowded_dsn, statement)), "nothing was found"


@pytest.mark.parametrize(
    ("words", "narrowing"),
    [
        (("client_activity", "last_seen_day"), "last_seen_day <="),
        (("user_activity", "last_active_day"), "last_active_day <="),
        (("at_risk",), "last_activity_date >="),
        (("heartbeat_slot",), "heartbeat_slot >="),
    ],
)
def test_the_condition_for_the_index_loses_no_row(
    crowded_dsn: str, words: tuple[str, ...], narrowing: str
) -> None:
    narrow = query(*words)
    (line,) = [line for line in narrow.splitlines() if narrowing in line]
    wide = narrow.replace(line, line[: line.index(narrowing)] + "true")
    assert asyncio.run(run(crowded_dsn, narrow)) == asyncio.run(run(crowded_dsn, wide))
