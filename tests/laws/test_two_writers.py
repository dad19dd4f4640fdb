"""Two writers of the same events, each with its own order and cut, in concurrent transactions."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.postgres import PostgresSink
from tests.laws.harness import PROJECTIONS, Bench, logs_of
from tests.laws.interleaving import WAITING_FOR_LOCKS, Lane, SlowDatabase, interleave
from tests.strategies import chunks, cuts

pytestmark = pytest.mark.law


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data())
def test_two_writers_of_the_same_events_end_in_the_same_rows_without_a_deadlock(
    name: str, benches: Callable[[str], Bench], data: st.DataObject
) -> None:
    bench, records = benches(name), data.draw(logs_of(name))
    ways = [
        chunks(records, data.draw(cuts)),
        chunks(data.draw(st.permutations(records)), data.draw(cuts)),
    ]
    turns = data.draw(st.integers(0, 2**60))
    expected = bench.after(records)

    def writer(parts: list) -> Callable:
        async def write(lane: Lane) -> None:
            sink = PostgresSink(SlowDatabase(bench.database, lane), bench.projection, bench.sql)  # type: ignore[arg-type]
            for part in parts:
                await sink.write(bench.flush(part), ())

        return write

    async def race() -> list[tuple[str, str]]:
        await bench.clear()
        await interleave([writer(parts) for parts in ways], turns, blocked)
        return await bench.contents()

    async def blocked() -> int:
        return int(await bench.database.value(WAITING_FOR_LOCKS))

    assert bench.run(race()) == expected
