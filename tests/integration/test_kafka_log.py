"""The log read outside a group: ranges, ends, codecs, and questions that change nothing."""

import os
from collections.abc import Callable

import pytest

from ingest.errors import LostOffsets, Misconfigured, Unavailable
from ingest.kafka import LogReader, Lookup, Topic, create_topics, dead_letter_topic, read_again, source_topic
from ingest.record import Partition
from tests.kafka import (
    Notes,
    commits,
    fill,
    made,
    member,
    numbered,
    reach,
    read,
    records_deleted,
    until,
    values,
)

pytestmark = pytest.mark.integration

Names = Callable[[str], str]


@pytest.fixture
def topic(topic_names: Names) -> str:
    return topic_names("activity.user")


async def test_a_range_is_read_again_exactly(broker: str, topic: str) -> None:
    connection = reach(broker)
    one, two, three = await made(connection, topic, 3)
    for partition in (one, two, three):
        await fill(broker, partition, numbered(1000))
    found = await read_again(connection, {one: 10, two: 995, three: 4}, {one: 20, two: 1000, three: 4})
    assert [r.offset for r in found if r.partition == 0] == list(range(10, 20))
    assert [r.offset for r in found if r.partition == 1] == list(range(995, 1000))
    assert len(found) == 15
    assert values(found[:1]) in ([b"10"], [b"995"])


async def test_reading_again_disturbs_no_group(broker: str, topic: str, topic_names: Names) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    await fill(broker, partition, numbered(100))
    async with member(connection, topic_names("group"), topic, Notes()) as source:
        await read(source, 100)
        assert values(await source.read_again({partition: 0}, {partition: 3})) == numbered(3)
        await fill(broker, partition, numbered(1, 100))
        assert values(await read(source, 1)) == [b"100"]
        assert source.generation == 1


async def test_a_reader_stops_at_the_noted_ends_however_much_follows(broker: str, topic: str) -> None:
    connection = reach(broker)
    partitions = await made(connection, topic, 2)
    for partition in partitions:
        await fill(broker, partition, numbered(3000))
    async with Lookup(connection) as lookup:
        ends = await lookup.stable_ends(partitions)
    await fill(broker, partitions[0], numbered(50, 3000))
    assert ends == dict.fromkeys(partitions, 3000)
    seen: dict[Partition, list[int]] = {partition: [] for partition in partitions}
    async for partition, chunk in LogReader(connection, {}, ends).chunks(limit=700):
        assert len(chunk) <= 700
        seen[partition] += [record.offset for record in chunk]
    assert seen == {partition: list(range(3000)) for partition in partitions}


async def test_a_reader_that_makes_no_progress_says_so(broker: str, topic: str) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    await fill(broker, partition, numbered(3))
    with pytest.raises(Unavailable, match="no progress"):
        async for _ in LogReader(connection, {}, {partition: 5}, stall=0.3).chunks():
            pass


async def test_an_empty_range_asks_nobody() -> None:
    nowhere = reach("127.0.0.1:1")
    assert await read_again(nowhere, {Partition("t", 0): 5}, {Partition("t", 0): 5}) == []


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_batches_of_every_codec_are_read(
    broker: str, topic: str, topic_names: Names, codec: str | None
) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    sent = [b"event %d " % n * 20 for n in range(200)]
    await fill(broker, partition, sent, compression_type=codec)
    assert values(await read_again(connection, {partition: 0}, {partition: 200})) == sent
    async with member(connection, topic_names("group"), topic) as source:
        assert values(await read(source, 200)) == sent


async def test_a_question_for_a_missing_topic_does_not_make_it(broker: str, topic: str) -> None:
    connection = reach(broker)
    async with Lookup(connection, patience=0.5) as lookup:
        assert await lookup.topics([topic]) == {}
        with pytest.raises(Misconfigured, match="does not exist"):
            await lookup.partitions(topic)
        with pytest.raises(Unavailable):
            await lookup.ends([Partition(topic, 0)])
        assert await lookup.topics([topic]) == {}


async def test_both_ends_of_partitions_are_told_as_a_fetch_sees_them(broker: str, topic: str) -> None:
    connection = reach(broker)
    partitions = await made(connection, topic, 3)
    await fill(broker, partitions[0], numbered(100))
    await fill(broker, partitions[1], numbered(7))
    await fill(broker, partitions[1], numbered(1, 7))
    async with Lookup(connection) as lookup:
        assert await lookup.beginnings(partitions) == dict.fromkeys(partitions, 0)
        assert list((await lookup.ends(partitions)).values()) == [100, 8, 0]
        assert list((await lookup.stable_ends(partitions)).values()) == [100, 8, 0]
        assert await lookup.brokers() == 1


async def test_commits_of_a_group_are_told_without_disturbing_it(
    broker: str, topic: str, topic_names: Names
) -> None:
    connection, group = reach(broker), topic_names("group")
    partition, other = await made(connection, topic, 2)
    await fill(broker, partition, numbered(10))
    async with member(connection, group, topic) as source:
        await read(source, 10)
        await source.commit({partition: 4}, source.generation)
        assert await commits(connection, group, [partition, other]) == {partition: 4}
        async with Lookup(connection) as lookup:
            assert len((await lookup.group(group)).members) == 1
        await fill(broker, partition, numbered(1, 10))
        await read(source, 1)
        await source.commit({partition: 11}, source.generation)
        assert await commits(connection, group, [partition]) == {partition: 11}
        assert source.generation == 1
    assert await commits(connection, topic_names("other"), [partition]) == {}


async def test_topics_are_made_once_with_their_settings(broker: str, topic_names: Names) -> None:
    connection = reach(broker)
    source, dead = topic_names("activity.client"), topic_names("activity.dead-letters")
    wanted = [source_topic(source, 3), dead_letter_topic(dead, 2, largest=1000)]
    assert await create_topics(connection, wanted) == [source, dead]
    assert await create_topics(connection, wanted) == []
    async with Lookup(connection) as lookup:
        assert await lookup.topics([source, dead, topic_names("else")]) == {source: 3, dead: 2}
        assert (await lookup.settings(source))["message.timestamp.type"] == "LogAppendTime"
        settings = await lookup.settings(dead)
        assert (settings["retention.ms"], settings["max.message.bytes"]) == ("-1", "2000")


@pytest.mark.skipif("ACTIVITY_TEST_KAFKA" not in os.environ, reason="the embedded broker takes any name")
async def test_a_name_that_kafka_refuses_is_named(broker: str) -> None:
    with pytest.raises(Misconfigured, match="creating topic not a name!"):
        await create_topics(reach(broker), [Topic("not a name!", 1)])


async def test_a_start_that_the_log_no_longer_has_is_refused(broker: str, topic: str) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    await fill(broker, partition, numbered(10))
    if not await records_deleted(broker, partition, 5):
        pytest.skip("this broker deletes no records")
    with pytest.raises(LostOffsets, match="begins at 5"):
        await read_again(connection, {partition: 3}, {partition: 8})
    async with member(connection, topic + ".group", topic, Notes({partition: 3})) as source:
        with pytest.raises(LostOffsets, match="2 records are gone"):
            await until(lambda: False, source)


async def test_positions_pass_the_holes_that_aborted_transactions_leave(
    broker: str, topic: str, topic_names: Names
) -> None:
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    connection = reach(broker)
    (partition,) = await made(connection, topic)
    await fill(broker, partition, numbered(3))
    producer = AIOKafkaProducer(bootstrap_servers=broker, transactional_id=topic)
    try:
        await producer.start()
    except KafkaError:
        await producer.stop()
        pytest.skip("this broker has no transactions")
    await producer.begin_transaction()
    for value in numbered(4, 100):
        await producer.send_and_wait(topic, value, partition=0)
    async with member(connection, topic_names("group"), topic) as source, Lookup(connection) as lookup:
        assert values(await read(source, 3)) == numbered(3)
        assert await lookup.stable_ends([partition]) == {partition: 3}
        assert await lookup.ends([partition]) == {partition: 7}
        await producer.abort_transaction()
        await producer.stop()
        await until(lambda: source._member.assignment.next[partition] == 8, source)
        assert await lookup.stable_ends([partition]) == {partition: 8}
    assert values(await read_again(connection, {partition: 0}, {partition: 8})) == numbered(3)
