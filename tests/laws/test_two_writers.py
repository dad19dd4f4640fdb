"""Two writers of the same entities in concurrent transactions, statement by statement."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.contract import UserActive
from ingest.postgres import PostgresSink
from tests.laws.harness import PROJECTIONS, Bench, logs_of
from tests.laws.interleaving import WAITING_FOR_LOCKS, Lane, SlowDatabase, interleave
from tests.strategies import PlainRecord, Tape, event, tapes
from tests.values import MOMENTS

pytestmark = pytest.mark.law

DAY = timedelta(days=1)
Flushes = Sequence[Sequence[PlainRecord]]


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
    ways = [tape.chunks(tape.shuffled(share), most=8) for share in shares]
    turns = [tape.number(2) for _ in range(100)]
    assert bench.run(race(bench, before, ways, turns)) == bench.after(records)


def active(days: int, zone: str | None = None) -> PlainRecord:
    return PlainRecord(event(UserActive, MOMENTS[0] + DAY * days, user_id="u", timezone=zone))


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([active(n) for n in range(5)], id="days that touch"),
        pytest.param([active(0, f"+00:0{n}") for n in range(5)], id="zones of one hour"),
    ],
)
@settings(max_examples=50)  # enough to find a lost lock; waiting for locks takes its time
@given(tape=tapes)
def test_two_writers_of_one_user_agree_in_small_flushes(
    benches: Callable[[str], Bench], records: list[PlainRecord], tape: Tape
) -> None:
    """What random events seldom bring together at one moment."""
    bench, shuffled, known = benches("streaks"), tape.shuffled(records), tape.number(3)
    ways = [[[record] for record in share] for share in tape.parted(shuffled[known:])]
    turns = [tape.number(2) for _ in range(100)]
    assert bench.run(race(bench, shuffled[:known], ways, turns)) == bench.after(records)


async def race(
    bench: Bench, before: Sequence[PlainRecord], ways: Sequence[Flushes], turns: Sequence[int]
) -> list[tuple[str, str]]:
    """What the tables hold when each of `ways` was written by a writer of its own; `before` was there first.

    A deadlock would raise Unavailable here.
    """
    await bench.clear()
    await bench.write(before)
    await interleave([partial(write, bench, flushes) for flushes in ways], turns, partial(blocked, bench))
    return await bench.contents()


async def write(bench: Bench, flushes: Flushes, lane: Lane) -> None:
    database = SlowDatabase(bench.database, lane)
    sink = PostgresSink(database, bench.projection, bench.sql)  # type: ignore[arg-type]
    for records in flushes:
        await sink.write(bench.flush(records), ())


async def blocked(bench: Bench) -> int:
    return int(await bench.database.value(WAITING_FOR_LOCKS))
