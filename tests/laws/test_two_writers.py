"""Two writers of the same entities in concurrent transactions, statement by statement."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.postgres import PostgresSink
from tests.laws.harness import PROJECTIONS, Bench, logs_of
from tests.laws.interleaving import WAITING_FOR_LOCKS, Lane, SlowDatabase, interleave
from tests.strategies import PlainRecord, Tape, tapes

pytestmark = pytest.mark.law


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data(), tape=tapes)
def test_two_writers_end_in_the_rows_of_all_their_events_without_a_deadlock(
    name: str, benches: Callable[[str], Bench], data: st.DataObject, tape: Tape
) -> None:
    bench, records = benches(name), data.draw(logs_of(name))
    before = records[: tape.number(len(records) + 1)]
    shares: tuple[list[PlainRecord], ...] = ([], [])
    for record in records:
        for share in tape.choice((shares[:1], shares[1:], shares)):
            share.append(record)
    ways = [tape.chunks(tape.shuffled(share), most=3) for share in shares]
    turns = [tape.number(2) for _ in range(60)]
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
