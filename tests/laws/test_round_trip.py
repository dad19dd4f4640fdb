"""A row comes back from Postgres as the value that went there."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import astuple

from ingest.postgres.database import Transaction
from ingest.projection import Table
from tests.laws.harness import PROJECTIONS, Bench, logs_of

pytestmark = pytest.mark.law


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data())
def test_round_trip_a_row_survives_its_columns_and_its_table(
    name: str, benches: Callable[[str], Bench], data: st.DataObject
) -> None:
    bench, records = benches(name), data.draw(logs_of(name))
    flush = bench.flush(records)

    async def back() -> None:
        await bench.clear()
        await bench.write(records)
        async with bench.database.transaction("begin_read") as transaction:
            for table, rows in zip(bench.projection.tables, flush.rows, strict=True):
                assert await through_columns(bench, transaction, table, rows) == list(map(astuple, rows))
                if bench.stores(table):
                    assert await through_table(transaction, table) == {key(table, row): row for row in rows}

    bench.run(back())


async def through_columns(
    bench: Bench, transaction: Transaction, table: Table, rows: Sequence[Struct]
) -> list[tuple[Any, ...]]:
    """The rows as arrays in the types that the write statement gives them, unnested by the server."""
    types = bench.types[table.name]
    arguments = ", ".join(f"${n}::{kind}" for n, kind in enumerate(types, start=1))
    names = ", ".join((*table.columns, "place"))
    found = await transaction.fetch(
        f"select n.* from unnest({arguments}) with ordinality as n ({names}) order by n.place",
        *([getattr(row, column) for row in rows] for column in table.columns),
    )
    return [tuple(row.values())[:-1] for row in found]


async def through_table(transaction: Transaction, table: Table) -> dict[Any, Struct]:
    rows = [
        table.row(*found.values())
        for found in await transaction.fetch(f"select {', '.join(table.columns)} from {table.name}")
    ]
    return {key(table, row): row for row in rows}


def key(table: Table, row: Struct) -> tuple[Any, ...]:
    return astuple(row)[: table.key_size]
