"""The write statements look rows up one by one, however wrong the statistics are."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from ingest import registry
from ingest.batch import Batch, Flush
from ingest.contract import Limits
from ingest.postgres.access import access
from ingest.projection import Projection
from ingest.settings import PostgresSettings
from tests.bench.cases import CASES
from tests.bench.cpu import HERE, record
from tests.bench.limits import arrays_of

pytestmark = pytest.mark.integration

FEW, MANY, AT_ONCE = 8, 12_000, 3_000
REGISTRY = registry.load()
NOW = datetime.now(UTC)
TABLES = "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
READ = """
select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_user_tables where relname !~ '^ingest_'
"""


def flush(projection: Projection, records: Sequence[Any]) -> Flush:
    batch = Batch(projection, projection.options(), REGISTRY.decoder(projection, Limits()), 0)
    batch.add(HERE, records, NOW, 0.0)
    return batch.close("test")


@pytest.mark.parametrize("name", sorted(REGISTRY.projections))
async def test_a_table_that_grew_since_it_was_analyzed_is_not_scanned(migrated_dsn: str, name: str) -> None:
    projection, sql = REGISTRY.projections[name], REGISTRY.sql[name]
    case = next(case for case in CASES if case.projection == name)
    records = [record(*pair) for pair in enumerate(islice(case.messages(4 * MANY, NOW), MANY))]
    few = flush(projection, records[:: MANY // FEW])
    many = [flush(projection, records[start : start + AT_ONCE]) for start in range(0, MANY, AT_ONCE)]
    settings = PostgresSettings(dsn=SecretStr(migrated_dsn), command_timeout=120)
    connection = await asyncpg.connect(**access(settings).arguments)
    try:
        (little,) = arrays_of(projection, sql, [few])
        await write(connection, sql.writes, little)
        for (table,) in await connection.fetch(TABLES):
            await connection.execute(f"alter table {table} set (autovacuum_enabled = off)")
        await connection.execute("analyze")
        for _ in range(6):  # as often as it takes until a plan is kept
            await write(connection, sql.writes, little)
        before = await rows_read(connection)
        for arguments in arrays_of(projection, sql, many):
            await write(connection, sql.writes, arguments)
        # Five look-ups a row at most, and all rows of a table so small that they are its quickest way.
        rows = sum(one.row_count for one in many)
        assert await rows_read(connection) - before < 6 * rows
    finally:
        await connection.close()


async def write(connection: Any, writes: Sequence[Any], arguments: Sequence[Any]) -> None:
    async with connection.transaction():
        for statement, given in zip(writes, arguments, strict=True):
            await connection.execute(statement.text, *given)


async def rows_read(connection: Any) -> int:
    await connection.execute("select pg_stat_force_next_flush()")
    return int(await connection.fetchval(READ))
