"""Two writers of the same entities in concurrent transactions, statement by statement."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.postgres import PostgresSink
from tests.laws.harness import PROJECTIONS, Bench, logs_of
from tests.laws.interleaving import WAITING_FOR_LOCKS, Lane, SlowDatabase, interleave
from tests.strategies import chunks

pytestmark = pytest.mark.law

SHARES = ((True, False), (False, True), (True, True))
"""To which of the two writers a record comes."""


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data())
def test_two_writers_end_in_the_rows_of_all_their_events_without_a_deadlock(
    name: str, benches: Callable[[str], Bench], data: st.DataObject
) -> None:
    bench, records = benches(name), data.draw(logs_of(name))
    before = records[: data.draw(st.integers(0, len(records)))]
    shares = data.draw(st.lists(st.sampled_from(SHARES), min_size=len(records), max_size=len(records)))
    ways = []
    for one in (0, 1):
        share = [record for record, to in zip(records, shares, strict=True) if to[one]]
        ways.append(
            chunks(data.draw(st.permutations(share)), data.draw(st.lists(st.integers(0, 30), max_size=2)))
        )
    turns = int.from_bytes(data.draw(st.binary(min_size=8, max_size=8)))
    expected = bench.after(records)

    def writer(parts: list) -> Callable:
        async def write(lane: Lane) -> None:
            sink = PostgresSink(SlowDatabase(bench.database, lane), bench.projection, bench.sql)  # type: ignore[arg-type]
            for part in parts:
                await sink.write(bench.flush(part), ())

        return write

    async def race() -> list[tuple[str, str]]:
        await bench.clear()
        await bench.write(before)
        await interleave([writer(parts) for parts in ways], turns, blocked)
        return await bench.contents()

    async def blocked() -> int:
        return int(await bench.database.value(WAITING_FOR_LOCKS))

    assert bench.run(race()) == expected
