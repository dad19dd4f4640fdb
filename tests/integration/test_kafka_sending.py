"""Dead letters and published events, as a plain consumer finds them."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from ingest.errors import Misconfigured, Unavailable
from ingest.kafka import KafkaDeadLetters, Lookup, Publisher, read_again
from ingest.kafka.producer import Producer
from ingest.record import Partition, Reason, Record, Reject
from tests.kafka import fill, made, numbered, reach, records_of

pytestmark = pytest.mark.integration

Names = Callable[[str], str]
NOW = datetime(2026, 11, 21, 10, 0, 0, 123456, UTC)


@pytest.fixture
def topic(topic_names: Names) -> str:
    return topic_names("activity.dead-letters")


async def everything(broker: str, topic: str) -> list[Record]:
    connection = reach(broker)
    async with Lookup(connection) as lookup:
        ends = await lookup.stable_ends(await lookup.partitions(topic))
    return await read_again(connection, dict.fromkeys(ends, 0), ends)


async def test_a_reject_arrives_byte_for_byte_with_headers_that_tell_what_was_wrong(
    broker: str, topic: str, topic_names: Names
) -> None:
    connection, source = reach(broker), topic_names("activity.client")
    await made(connection, topic, 2)
    (partition,) = await made(connection, source)
    await fill(broker, partition, [b"fine", b"\x00\xff not utf-8"])
    (original,) = await read_again(connection, {partition: 1}, {partition: 2})
    letters = KafkaDeadLetters(connection, topic, "1.2.3", now=lambda: NOW)
    try:
        await letters.publish([Reject(original, Reason.MALFORMED, "not UTF-8 at byte 1")], "client_activity")
    finally:
        await letters.stop()
    (found,) = await everything(broker, topic)
    assert (found.key, found.value) == (b"k", b"\x00\xff not utf-8")
    assert dict(found.headers) == {
        "activity-origin": f"{source}:0:1".encode(),
        "activity-reason": b"malformed",
        "activity-detail": b"not UTF-8 at byte 1",
        "activity-projection": b"client_activity",
        "activity-timestamp": datetime.fromtimestamp(original.timestamp / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .encode(),
        "activity-failed-at": b"2026-11-21T10:00:00.123+00:00",
        "activity-version": b"1.2.3",
        "activity-attempt": b"1",
    }


async def test_rejects_with_neither_key_nor_value_and_of_any_number_arrive(broker: str, topic: str) -> None:
    connection = reach(broker)
    await made(connection, topic, 3)
    rejects = [Reject(r, Reason.INVALID, f"{r.offset}") for r in records_of(None, None, count=3000)]
    letters = KafkaDeadLetters(connection, topic, "1")
    try:
        await letters.publish(rejects, "streaks")
    finally:
        await letters.stop()
    found = await everything(broker, topic)
    assert sorted(int(dict(r.headers)["activity-detail"] or b"") for r in found) == list(range(3000))
    assert {(r.key, r.value) for r in found} == {(None, None)}


async def test_a_reject_larger_than_its_topic_takes_is_written_without_its_value(
    broker: str, topic: str
) -> None:
    connection = reach(broker)
    await made(connection, topic, 1, **{"max.message.bytes": "20000"})
    (large,) = records_of(b"key", b"x" * 30_000)
    (small,) = records_of(b"key", b"small")
    letters = KafkaDeadLetters(connection, topic, "1", largest=25_000)
    try:
        rejects = [Reject(small, Reason.INVALID, ""), Reject(large, Reason.TOO_LARGE, "30,000 bytes")]
        await letters.publish(rejects, "streaks")
        # Below what we hold to be the limit, above what the topic takes.
        (between,) = records_of(b"key", b"y" * 22_000)
        await letters.publish([Reject(between, Reason.TOO_LARGE, "")], "streaks")
    finally:
        await letters.stop()
    found = await everything(broker, topic)
    told = [(r.key, r.value, dict(r.headers).get("activity-truncated")) for r in found]
    assert told[:2] == [(b"key", b"small", None), (b"key", b"", b"30000")]
    # The embedded broker knows no limit.
    assert told[2] in [(b"key", b"", b"22000"), (b"key", b"y" * 22_000, None)]
    assert letters.truncated == [told[1][1], told[2][1]].count(b"")


async def test_a_missing_dead_letter_topic_is_named_and_not_made(broker: str, topic: str) -> None:
    connection = reach(broker)
    letters = KafkaDeadLetters(connection, topic, "1")
    with pytest.raises(Misconfigured, match=f"topic {topic} does not exist"):
        await letters.publish([Reject(records_of(b"k", b"v")[0], Reason.INVALID, "")], "streaks")
    async with Lookup(connection) as lookup:
        assert await lookup.topics([topic]) == {}


async def test_without_a_broker_dead_letters_are_unavailable() -> None:
    letters = KafkaDeadLetters(reach("127.0.0.1:1"), "t", "1")
    with pytest.raises(Unavailable):
        await letters.publish([Reject(records_of(b"k", b"v")[0], Reason.INVALID, "")], "streaks")


async def test_an_idempotent_producer_is_tried_and_done_without(broker: str, topic: str) -> None:
    connection = reach(broker)
    await made(connection, topic)
    letters = KafkaDeadLetters(connection, topic, "1", idempotence="auto")
    try:
        await letters.publish([Reject(records_of(b"k", b"v")[0], Reason.INVALID, "")], "streaks")
    finally:
        await letters.stop()
    assert len(await everything(broker, topic)) == 1


async def test_published_events_arrive_once_in_the_order_of_their_key(broker: str, topic: str) -> None:
    connection = reach(broker)
    await made(connection, topic, 4)
    failed: list[object] = []
    async with Publisher(connection, [topic], on_failed=lambda tags, error: failed.extend(tags)) as publisher:
        for number in range(5000):
            await publisher.send(topic, b"user %d" % (number % 50), b"%d" % number, [("n", b"1")], number)
        await publisher.flush()
        assert (publisher.acknowledged, publisher.failed, failed) == (5000, 0, [])
    found = await everything(broker, topic)
    assert sorted(int(r.value or b"") for r in found) == list(range(5000))
    for key in {r.key for r in found}:
        numbers = [int(r.value or b"") for r in found if r.key == key]
        assert numbers == sorted(numbers)
        assert len({r.partition for r in found if r.key == key}) == 1


async def test_an_event_is_sent_soon_though_no_other_follows(broker: str, topic: str) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    async with Publisher(connection, [topic]) as publisher:
        await publisher.send(topic, None, b"alone")
        assert [r.value for r in await read_again(connection, {partition: 0}, {partition: 1})] == [b"alone"]


async def test_keys_lie_where_any_other_client_puts_them(broker: str, topic: str) -> None:
    connection = reach(broker)
    await made(connection, topic, 6)
    producer = Producer(connection, [topic], batch_bytes=1000)
    await producer.start()
    try:
        client = producer._client
        await client.partitions_for(topic)
        for number in range(200):
            key = b"key-%d" % number
            assert producer.partition(topic, key) == client._partition(topic, None, None, None, key, None)
    finally:
        await producer.stop(1)


async def test_what_the_broker_refuses_is_reported_by_its_tag(broker: str, topic: str) -> None:
    connection = reach(broker, request_timeout=1.0)
    await made(connection, topic)
    failed: list[tuple[list[object], str]] = []
    publisher = Publisher(
        connection, [topic], on_failed=lambda t, e: failed.append((list(t), type(e).__name__))
    )
    await publisher.start()
    await publisher.send(topic, b"k", b"good", tag="line 1")
    await publisher.flush()
    publisher._producer._client._sender._client = None
    cut = publisher._producer._client.client
    for connected in list(cut._conns.values()):
        await connected.close()
    cut.cluster._brokers.clear()
    await publisher.send(topic, b"k", b"lost", tag="line 2")
    await publisher.flush()
    await publisher.stop()
    assert failed == [(["line 2"], "Unavailable")]
    assert (publisher.acknowledged, publisher.failed) == (1, 1)


async def test_a_publisher_carries_tens_of_thousands_of_events_a_second(broker: str, topic: str) -> None:
    connection = reach(broker)
    await made(connection, topic, 4)
    value = b'{"specversion":"1.0","id":"01JD","source":"/web/api","type":"client.seen"}' * 2
    async with Publisher(connection, [topic]) as publisher:
        started = time.perf_counter()
        for number in range(40_000):
            await publisher.send(topic, b"user %d" % (number % 1000), value)
        await publisher.flush()
        rate = 40_000 / (time.perf_counter() - started)
        assert (publisher.acknowledged, publisher.failed) == (40_000, 0)
    assert rate > 20_000, f"{rate:,.0f} a second"


async def test_what_a_stop_leaves_no_time_for_is_reported(broker: str, topic: str) -> None:
    connection = reach(broker)
    await made(connection, topic)
    failed: list[object] = []
    publisher = Publisher(connection, [topic], on_failed=lambda tags, error: failed.extend(tags), linger=60)
    await publisher.start()
    for number in range(10):
        await publisher.send(topic, b"k", b"v", tag=number)
    await publisher.stop(0)
    assert sorted(failed, key=str) == list(range(10)) or publisher.acknowledged == 10
    assert publisher.acknowledged + publisher.failed == 10


async def test_nothing_is_published_to_a_missing_topic(broker: str, topic: str) -> None:
    with pytest.raises(Misconfigured, match="does not exist"):
        await Publisher(reach(broker), [topic]).start()
    assert numbered(1)
    assert Partition(topic, 0)
