"""Two writers of the same events, each with its own order and cut, in concurrent transactions."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.harness import PROJECTIONS, Bench, logs_of
from tests.strategies import PlainRecord, chunks, cuts

pytestmark = pytest.mark.law


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data())
def test_two_writers_of_the_same_events_end_in_the_same_rows_without_a_deadlock(
    name: str, benches: Callable[[str], Bench], data: st.DataObject
) -> None:
    bench, records = benches(name), data.draw(logs_of(name))
    expected = bench.after(records)
    first = chunks(records, data.draw(cuts))
    second = chunks(data.draw(st.permutations(records)), data.draw(cuts))
    ahead = data.draw(st.integers(0, 8))

    async def race() -> tuple[list[str], list[tuple[str, str]]]:
        await bench.clear()
        one, other = await asyncio.gather(bench.write_patiently(first), late(second))
        return one + other, await bench.contents()

    async def late(parts: Sequence[Sequence[PlainRecord]]) -> list[str]:
        # A few round trips behind, so that statements of all kinds meet.
        async with bench.database.transaction("begin_read") as transaction:
            for _ in range(ahead):
                await transaction.execute(bench.database.sql["clock"])
        return await bench.write_patiently(parts)

    repeated, contents = bench.run(race())
    assert contents == expected
    assert repeated == []
