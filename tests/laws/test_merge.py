"""Rows are a fold of the records, whatever way these come: cut up, out of order, more than once."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.harness import PROJECTIONS, REGISTRY, Bench, logs_of
from tests.strategies import Tape, tapes

pytestmark = pytest.mark.law
Benches = Callable[[str], Bench]


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data(), tape=tapes)
def test_split_any_chunking_of_the_records_ends_in_the_same_tables(
    name: str, benches: Benches, data: st.DataObject, tape: Tape
) -> None:
    bench, records = benches(name), data.draw(logs_of(name))
    parts = tape.chunks(records)
    assert bench.after(*parts) == bench.after(records)


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data(), tape=tapes)
def test_order_any_permutation_of_the_records_ends_in_the_same_tables(
    name: str, benches: Benches, data: st.DataObject, tape: Tape
) -> None:
    bench, records = benches(name), data.draw(logs_of(name))
    shuffled = tape.shuffled(records)
    expected = bench.after(records)
    assert bench.after(shuffled) == expected
    assert bench.after(*tape.chunks(shuffled)) == expected


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data(), tape=tapes)
def test_replay_of_any_part_changes_nothing(
    name: str, benches: Benches, data: st.DataObject, tape: Tape
) -> None:
    bench, records = benches(name), data.draw(logs_of(name))
    again = tape.choice(tape.chunks(records))
    expected = bench.after(records)
    assert bench.after(again, records, again) == expected
    assert bench.after([*again, *records, *again]) == expected


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data(), tape=tapes)
def test_parity_writing_a_then_b_equals_writing_what_both_fold_to(
    name: str, benches: Benches, data: st.DataObject, tape: Tape
) -> None:
    bench, records = benches(name), data.draw(logs_of(name))
    a, b = tape.parted(records)
    expected = bench.after([*a, *b])
    assert bench.after(a, b) == expected
    assert bench.after(b, a) == expected


@pytest.mark.parametrize("name", [name for name in PROJECTIONS if REGISTRY.sql[name].sweeps])
@given(data=st.data(), tape=tapes)
def test_sweeping_between_flushes_changes_only_what_depends_on_the_clock(
    name: str, benches: Benches, data: st.DataObject, tape: Tape
) -> None:
    bench, records = benches(name), data.draw(logs_of(name))
    parts = tape.chunks(records)
    expected = bench.after(records)

    async def swept() -> list[tuple[str, str]]:
        await bench.clear()
        for part in parts:
            await bench.write(part)
            await bench.sweep()
        return await bench.contents()

    assert bench.run(swept()) == expected
