from aiokafka import ConsumerRecord

from ingest.record import Partition, Reason, Record, Reject


def test_a_consumer_record_of_aiokafka_is_a_record_as_it_stands() -> None:
    read: Record = ConsumerRecord(
        topic="activity.user",
        partition=3,
        offset=7,
        timestamp=1_700_000_000_000,
        timestamp_type=1,
        key=None,
        value=b"{}",
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=2,
        headers=[("x", b"y")],
    )
    parts = [n for n in vars(Record) if not n.startswith("_")]
    assert parts == ["topic", "partition", "offset", "timestamp", "timestamp_type", "key", "value", "headers"]
    assert all(hasattr(read, name) for name in parts)


def test_partitions_sort_by_topic_and_then_by_number_not_by_its_digits() -> None:
    partitions = [Partition("b", 0), Partition("a", 10), Partition("a", 9)]
    assert sorted(partitions) == [Partition("a", 9), Partition("a", 10), Partition("b", 0)]


def test_reasons_are_plain_words_fit_for_headers_and_labels() -> None:
    words = "malformed invalid unknown_type wrong_topic future past too_large unstorable skipped"
    assert " ".join(Reason) == words
    assert f"{Reason.FUTURE}" == "future"


def test_rejects_of_one_record_are_equal_when_they_say_the_same() -> None:
    record: Record = ConsumerRecord("t", 0, 1, 0, 0, None, None, None, 0, 0, ())
    assert Reject(record, Reason.PAST, "time: x") == Reject(record, Reason.PAST, "time: x")
    assert Reject(record, Reason.PAST, "time: x") != Reject(record, Reason.FUTURE, "time: x")
