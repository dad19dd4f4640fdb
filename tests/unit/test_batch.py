"""What a batch gathers, and when it is due."""

from dataclasses import replace
from datetime import timedelta

import pytest

from consumers import streaks
from consumers.client_activity import PROJECTION
from ingest.batch import Batch, Caps
from ingest.contract import Decoder, LessonViewed, Limits, UserActive
from ingest.record import Reason
from tests.strategies import PlainRecord, event
from tests.unit.doubles import DECODER, FIRST, MINUTE, SECOND, START, broken, clients, seen, skipped

CAPS = Caps(max_rows=3, max_records=5, max_bytes=100_000, interval=1.0)


def batch() -> Batch:
    return Batch(PROJECTION, PROJECTION.options(), DECODER, generation=7)


def test_rows_come_out_unique_and_sorted_by_key() -> None:
    filling = batch()
    filling.add(FIRST, [seen(c, n, minutes=n) for n, c in enumerate(["b", "a", "B", "b"])], START, 0.0)
    flush = filling.close("rows")
    assert clients(flush) == ["B", "a", "b"]
    assert flush.rows[0][2] == type(flush.rows[0][2])("b", START + 3 * MINUTE, START)


def test_an_event_is_folded_into_every_table_of_its_projection() -> None:
    projection = streaks.PROJECTION
    decoder = Decoder(projection.events, projection.topic, {}, Limits())
    filling = Batch(projection, projection.options(), decoder, generation=0)
    viewed = event(LessonViewed, START, user_id="u", lesson_id="l", timezone="UTC")
    filling.add(FIRST, [PlainRecord(viewed), PlainRecord(event(UserActive, START, user_id="v"))], START, 0.0)
    tables = zip(projection.tables, filling.close("rows").rows, strict=True)
    assert {table.name: len(rows) for table, rows in tables} == {"day": 2, "span": 0, "item": 1, "streak": 1}


def test_a_flush_carries_its_offsets_starts_rejects_and_counts() -> None:
    filling = batch()
    filling.add(FIRST, [seen("a", 3), broken(4), skipped(5)], START, 0.0)
    filling.add(SECOND, [seen("a", 8, partition=SECOND)], START, 0.0)
    filling.add(FIRST, [seen("b", 9)], START, 0.0)
    flush = filling.close("interval")
    assert flush.offsets == {FIRST: 10, SECOND: 9}
    assert flush.starts == {FIRST: 3, SECOND: 8}
    assert (flush.records, flush.events, flush.skipped, flush.generation) == (5, 3, 1, 7)
    assert [(r.record.offset, r.reason) for r in flush.rejects] == [(4, Reason.MALFORMED)]
    assert (flush.projection, flush.trigger) == ("client_activity", "interval")


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([seen("a", 0), seen("b", 1)], None),
        ([seen("a", 0), seen("b", 1), seen("c", 2)], "rows"),
        ([seen("a", n) for n in range(4)], None),
        ([seen("a", n) for n in range(5)], "records"),
        ([broken(n) for n in range(5)], "records"),
        ([skipped(n) for n in range(5)], "records"),
        ([replace(broken(0), value=b"x" * 100_000)], "bytes"),
        ([replace(seen("a", 0), key=b"x" * 100_000)], "bytes"),
        ([replace(seen("a", 0), headers=[("x" * 50_000, b"y" * 50_000)])], "bytes"),
        ([replace(seen("a", 0), headers=[("x" * 50_000, None)])], None),
    ],
)
def test_a_batch_is_full_at_its_caps(records: list[PlainRecord], reason: str | None) -> None:
    filling = batch()
    filling.add(FIRST, records, START, 0.0)
    assert filling.full(CAPS) == reason
    assert filling.due(CAPS, 0.0) == reason


def test_a_batch_is_due_an_interval_after_its_first_record_not_its_last() -> None:
    filling = batch()
    filling.add(FIRST, [seen("a", 0)], START, 50.0)
    filling.add(FIRST, [seen("a", 1)], START, 50.9)
    assert filling.due(CAPS, 50.99) is None
    assert filling.due(CAPS, 51.0) == "interval"


def test_an_empty_batch_is_never_due() -> None:
    assert batch().empty
    assert batch().due(CAPS, 1e9) is None


def test_a_position_past_a_hole_is_committed_although_no_record_stands_there() -> None:
    filling = batch()
    filling.add(FIRST, [seen("a", 5)], START, 0.0)
    filling.moved(FIRST, 9, 0.0)
    assert filling.close("interval").offsets == {FIRST: 9}


def test_a_hole_alone_makes_a_batch_that_becomes_due() -> None:
    filling = batch()
    filling.moved(FIRST, 4, 10.0)
    assert not filling.empty
    assert filling.due(CAPS, 11.0) == "interval"
    flush = filling.close("interval")
    assert (flush.offsets, flush.starts, flush.row_count) == ({FIRST: 4}, {FIRST: 4}, 0)


def test_a_position_never_goes_back() -> None:
    filling = batch()
    filling.add(FIRST, [seen("a", 5)], START, 0.0)
    filling.moved(FIRST, 3, 0.0)
    assert filling.close("interval").offsets == {FIRST: 6}


def test_a_partition_is_reached_up_to_the_kafka_time_of_its_last_record() -> None:
    filling = batch()
    later = replace(seen("a", 1), timestamp=int((START - MINUTE).timestamp() * 1000))
    filling.add(FIRST, [replace(seen("a", 0), timestamp=0), later], START, 0.0)
    assert filling.close("interval").reached == {FIRST: START - MINUTE}


@pytest.mark.parametrize("timestamp", [int(START.timestamp() * 1000) + 1, 1_795_255_200_000_000, 2**63 - 1])
def test_a_producers_clock_does_not_carry_reached_past_the_present(timestamp: int) -> None:
    filling = batch()
    filling.add(FIRST, [replace(seen("a", 0), timestamp=timestamp)], START, 0.0)
    assert filling.close("interval").reached == {FIRST: START}


def test_a_record_without_a_timestamp_reaches_nowhere() -> None:
    filling = batch()
    filling.add(FIRST, [replace(seen("a", 0), timestamp=-1)], START, 0.0)
    assert filling.close("interval").reached[FIRST] <= START - timedelta(days=365)


def test_event_times_are_a_small_sample_of_each_chunk() -> None:
    filling = batch()
    filling.add(FIRST, [seen("a", n, minutes=-n) for n in range(1000)], START, 0.0)
    times = filling.close("records").event_times
    assert 16 <= len(times) <= 32
    assert min(times) < START - 900 * MINUTE
