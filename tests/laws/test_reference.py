"""What the tables hold is what each projection's independent reference says they must hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.harness import PROJECTIONS, Bench, logs_of
from tests.strategies import PlainRecord, Tape, tapes

pytestmark = pytest.mark.law
Rows = Mapping[Any, tuple[Any, ...]]


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data(), tape=tapes)
def test_reference_the_tables_hold_what_the_reference_says(
    name: str, benches: Callable[[str], Bench], data: st.DataObject, tape: Tape
) -> None:
    check(benches(name), data.draw(logs_of(name)), tape)


@given(data=st.data(), tape=tapes)
def test_reference_agrees_whatever_the_options_are(
    other_bench: Bench, data: st.DataObject, tape: Tape
) -> None:
    check(other_bench, data.draw(logs_of(other_bench.projection.name)), tape)


def check(bench: Bench, records: Sequence[PlainRecord], tape: Tape) -> None:
    bench.after(*tape.chunks(records))
    expected = bench.reference(bench.events(records)).rows()
    assert bench.sql.verifies.keys() == expected.keys()
    for section, rows in bench.run(bench.verified()).items():
        assert keyed(rows, expected[section]) == dict(expected[section])


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data(), tape=tapes)
def test_reference_of_some_events_lies_within_that_of_all(
    name: str, benches: Callable[[str], Bench], data: st.DataObject, tape: Tape
) -> None:
    """Verify relies on `within` where the log no longer holds everything."""
    bench, records = benches(name), data.draw(logs_of(name))
    events = bench.events(records)
    few = events[: tape.number(len(events) + 1)]
    reference, less, more = bench.reference([]), bench.reference(few).rows(), bench.reference(events).rows()
    for section, rows in less.items():
        for key, row in rows.items():
            grown = more[section][key]
            assert reference.within(section, row, grown)
            assert row == grown or not reference.within(section, grown, row)


def keyed(rows: list[tuple[Any, ...]], like: Rows) -> dict[Any, tuple[Any, ...]]:
    """`rows` by as many leading columns as the keys of `like` have."""
    first = next(iter(like), "")
    if not isinstance(first, tuple):
        return {row[0]: row[1:] for row in rows}
    return {row[: len(first)]: row[len(first) :] for row in rows}
