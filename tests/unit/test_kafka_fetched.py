"""Records whose header names are no UTF-8 are read like any others."""

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from ingest.kafka.fetched import Fetched, FetchedRecords, QuickRecords
from tests.kafka import batch_bytes, numbered

HERE = TopicPartition("activity.user", 0)
READ_COMMITTED = 1


def unpacked(data: bytes, start: int = 0, kind: Any = FetchedRecords, reader: Any = QuickRecords) -> Any:
    return kind(HERE, reader(data), None, start, None, None, True, READ_COMMITTED)


def test_the_client_alone_never_gets_past_such_a_record() -> None:
    alone = unpacked(batch_bytes(numbered(3), bad=[1]), kind=PartitionRecords, reader=MemoryRecords)
    assert next(alone).value == b"0"
    with pytest.raises(UnicodeDecodeError):
        next(alone)


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_keys_values_and_good_names_stay_and_bad_names_are_marked(codec: int) -> None:
    reading = unpacked(batch_bytes(numbered(3), bad=[1], codec=codec))
    found = list(reading)
    assert [(r.offset, r.key, r.value) for r in found] == [(0, b"k", b"0"), (1, b"k", b"1"), (2, b"k", b"2")]
    assert [list(r.headers) for r in found] == [[], [("good", b"1"), ("\ufffd\ufffdname", b"2")], []]
    assert all(type(r) is Fetched for r in found)
    assert reading.next_fetch_offset == 3


batches = st.lists(
    st.tuples(st.integers(1, 4), st.sets(st.integers(0, 3)), st.integers(0, 3)), min_size=1, max_size=5
)


@given(batches, st.integers(0, 3))
def test_every_record_from_the_start_arrives_once_and_in_order(
    log: list[tuple[int, set[int], int]], start: int
) -> None:
    start = min(start, log[0][0] - 1)  # brokers begin with the batch that holds the offset asked for
    data, offset = b"", 0
    expected: list[int] = []
    for count, bad, hole in log:
        data += batch_bytes(numbered(count, offset), bad, offset)
        expected += range(offset, offset + count)
        offset += count + hole
    reading = unpacked(data, start)
    assert [r.offset for r in reading] == [o for o in expected if o >= start]
    assert reading.next_fetch_offset == expected[-1] + 1
