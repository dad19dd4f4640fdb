"""Any record decodes to an event, to a reject or to a skip; nothing else ever comes out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.record import Reject
from tests.laws.harness import PROJECTIONS, Bench, logs_of
from tests.strategies import NOW, PlainRecord

pytestmark = pytest.mark.law

ATTRIBUTES = ("ce_id", "ce_source", "ce_type", "ce_time", "ce_specversion", "CE_ID", "content-type", "x")
WRONG: Sequence[Any] = (
    None, True, 0, -1, 1.5, 1e400, 2**63, "", "x" * 600, "😀" * 600, "\0", [], {}, [{}], {"a": None},
    "NaN", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.9999999-12:00", "9999-12-31T23:59:59Z",
    "2026-06-30T23:59:60Z", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00+24:00",
    "9999-12-31", "0001-01-01", "2026-02-30", "Factory", "localtime", "+24:00", "streak.imported",
)  # fmt: skip
wrong = st.sampled_from(WRONG)
headers = st.lists(st.tuples(st.sampled_from(ATTRIBUTES), st.none() | st.binary(max_size=40)), max_size=6)
stamps = st.sampled_from((-1, 0, 1, 2**40, 2**63 - 1, -(2**63)))


@pytest.mark.parametrize("name", PROJECTIONS)
@given(value=st.none() | st.binary(max_size=200), headers=headers, stamp=stamps, kind=st.integers(-1, 2))
def test_total_any_bytes_decode_to_an_event_a_reject_or_a_skip(
    name: str,
    benches: Callable[[str], Bench],
    value: bytes | None,
    headers: list[tuple[str, bytes | None]],
    stamp: int,
    kind: int,
) -> None:
    check(benches(name), [PlainRecord(value, timestamp=stamp, timestamp_type=kind, headers=headers)])


@pytest.mark.parametrize("name", PROJECTIONS)
@given(data=st.data())
def test_total_events_with_a_wrong_field_or_a_wrong_byte_decode_to_something_too(
    name: str, benches: Callable[[str], Bench], data: st.DataObject
) -> None:
    records = data.draw(logs_of(name))
    spoiled = [spoil(data.draw, record) for record in records[:5]]
    check(benches(name), [*spoiled, *records])


def spoil(draw: Callable[[st.SearchStrategy[Any]], Any], record: PlainRecord) -> PlainRecord:
    """`record` with one field of another kind, one left out, or one byte of another value."""
    value = record.value or b"{}"
    place = draw(st.integers(0, len(value)))
    how = draw(st.sampled_from(("byte", "cut", "field", "field", "data", "data")))
    if how in ("byte", "cut"):
        byte = draw(st.binary(min_size=1, max_size=1)) if how == "byte" else b""
        return replace(record, value=value[:place] + byte + value[place + 1 :])
    try:
        event = msgspec.json.decode(value)
        parts = event if how == "field" else event["data"]
        parts[draw(st.sampled_from(sorted(parts)))] = draw(wrong)
    except (msgspec.DecodeError, TypeError, KeyError, ValueError):
        return record
    return replace(record, value=msgspec.json.encode(event))


def check(bench: Bench, records: list[PlainRecord]) -> None:
    """One by one and all at once come to the same; each is folded without complaint."""
    found = [bench.decoder.decode(record, NOW) for record in records]
    events = [one for one in found if one is not None and not isinstance(one, Reject)]
    assert all(isinstance(event, bench.projection.events) for event in events)
    together = bench.decoder.decode_all(records, NOW)
    assert together.events == events
    assert together.rejects == [one for one in found if isinstance(one, Reject)]
    assert together.skipped == found.count(None)
    for table in bench.projection.tables:
        table.fold({}, events, bench.options)
