"""A member of a consumer group on a real broker: where it starts, what it delivers, what it commits."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.errors import CorruptRecordException

from ingest.errors import LostOffsets, Misconfigured, Unavailable
from ingest.kafka import Lookup
from ingest.kafka.fetched import Fetched
from ingest.record import Partition, Record
from tests.kafka import (
    PATIENCE,
    Notes,
    batch_bytes,
    commits,
    fill,
    made,
    member,
    numbered,
    producing,
    reach,
    read,
    records,
    records_deleted,
    until,
    values,
)

pytestmark = pytest.mark.integration

Names = Callable[[str], str]


@pytest.fixture
def topic(topic_names: Names) -> str:
    return topic_names("activity.client")


@pytest.fixture
def group(topic_names: Names) -> str:
    return topic_names("activity-ingest.client_activity")


async def test_records_arrive_in_order_with_positions_after_the_last(
    broker: str, topic: str, group: str
) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    await fill(broker, partition, numbered(500))
    async with member(connection, group, topic) as source:
        found = []
        polls = await until(lambda: source.lags() == {partition: 0}, source, limit=100)
        for polled in polls:
            assert len(records(polled)) <= 100
            if polled.records:
                assert polled.positions == {partition: records(polled)[-1].offset + 1}
            found += values(records(polled))
    assert found == numbered(500)


async def test_a_restart_goes_on_at_the_commit(broker: str, topic: str, group: str) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    await fill(broker, partition, numbered(100))
    async with member(connection, group, topic, Notes({partition: 0})) as source:
        await read(source, 100)
        await source.commit({partition: 60}, source.generation)
    async with member(connection, group, topic, Notes({partition: 90})) as source:
        assert values(await read(source, 40)) == numbered(40, 60)


@pytest.mark.parametrize("stored", [20, None], ids=["postgres behind", "postgres empty"])
async def test_reading_starts_below_the_commit_where_postgres_was_restored(
    broker: str, topic: str, group: str, stored: int | None
) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    await fill(broker, partition, numbered(100))
    async with member(connection, group, topic, Notes({partition: 0})) as source:
        await read(source, 100)
        await source.commit({partition: 60}, source.generation)
    notes = Notes({partition: stored})
    async with member(connection, group, topic, notes) as source:
        start = stored or 0
        assert values(await read(source, 100 - start)) == numbered(100 - start, start)
        assert notes.rewound == [(partition, 60, start)]
        # Whoever asks the group how far it is must not be told 60.
        assert await commits(connection, group, [partition]) == {partition: start}


async def test_a_new_group_starts_at_the_beginning_whatever_postgres_says(
    broker: str, topic: str, group: str
) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    await fill(broker, partition, numbered(10))
    notes = Notes({partition: 7})
    async with member(connection, group, topic, notes) as source:
        assert values(await read(source, 10)) == numbered(10)
    assert notes.rewound == []


@pytest.mark.parametrize(("reset", "start"), [("earliest", 0), ("latest", 10)])
async def test_an_offset_beyond_the_log_is_refused_unless_a_policy_says_where_to_go_on(
    broker: str, topic: str, group: str, reset: str, start: int
) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    await fill(broker, partition, numbered(10))
    async with member(connection, group, topic, Notes({partition: 50})) as source:
        with pytest.raises(LostOffsets, match=r"offset 50 comes after the end of the log, 10"):
            await read(source, 1)
    notes = Notes({partition: 50})
    async with member(reach(broker, offset_reset=reset), group, topic, notes) as source:
        found = [
            record for polled in await until(lambda: source.placed, source) for record in records(polled)
        ]
        await fill(broker, partition, [b"10"])
        found += await read(source, 11 - start - len(found))
        assert values(found) == numbered(11 - start, start)
        assert notes.lost == [(partition, 50, start)]


async def test_while_postgres_is_down_at_the_assignment_nothing_is_read_and_the_group_stands(
    broker: str, topic: str, group: str
) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    await fill(broker, partition, numbered(10))
    notes = Notes({partition: 0}, unavailable=Unavailable("refused", "connect"))
    async with member(connection, group, topic, notes) as source:
        polls = await until(lambda: len(notes.waiting) > 1, source)
        assert all(not polled.records and not polled.positions for polled in polls)
        assert notes.waiting[0] == "connect"
        assert source.joined
        assert not source.placed
        assert source.trouble is notes.unavailable
        notes.unavailable = None
        assert values(await read(source, 10)) == numbered(10)
        assert source.generation == 1
        assert source.trouble is None


async def test_two_members_share_the_partitions_and_no_generation_delivers_a_record_twice(
    broker: str, topic: str, group: str
) -> None:
    connection = reach(broker)
    partitions = await made(connection, topic, 4)
    for partition in partitions:
        await fill(broker, partition, numbered(50))
    stored: dict[Partition, int | None] = dict.fromkeys(partitions, 50)
    notes, others = Notes(stored), Notes(stored)
    async with member(connection, group, topic, notes) as first:
        polls = await until(lambda: sum(first.lags().values()) == 0 and first.lags(), first)
        assert sum(len(records(polled)) for polled in polls) == 200
        old = first.generation
        await first.commit(dict.fromkeys(partitions, 50), old)
        async with member(connection, group, topic, others) as second:
            await until(lambda: len(first.assigned) == len(second.assigned) == 2, first, second)
            await until(lambda: first.placed and second.placed, first, second)
            assert notes.revoked == [(tuple(partitions), old)]
            assert sorted((*first.assigned, *second.assigned)) == partitions
            await first.commit(dict.fromkeys(partitions, 10), old)
            assert await commits(connection, group, partitions) == dict.fromkeys(partitions, 50)
            for partition in partitions:
                await fill(broker, partition, numbered(20, 50))
            seen: dict[tuple[object, int, Partition, int], int] = {}
            async with asyncio.timeout(20):
                while len(seen) < 80:
                    for source in (first, second):
                        polled = await source.poll(0.05, 1000)
                        for partition, found in polled.records.items():
                            for record in found:
                                key = (source, polled.generation, partition, record.offset)
                                seen[key] = seen.get(key, 0) + 1
            assert set(seen.values()) == {1}
        await until(lambda: len(first.assigned) == 4, first)


async def test_what_is_flushed_while_partitions_are_revoked_can_still_be_committed(
    broker: str, topic: str, group: str
) -> None:
    connection = reach(broker)
    partitions = await made(connection, topic, 2)
    for partition in partitions:
        await fill(broker, partition, numbered(10))
    notes = Notes(dict.fromkeys(partitions, 10))
    async with member(connection, group, topic, notes) as first:
        await read(first, 20)

        async def flush(generation: int) -> None:
            await first.commit(dict.fromkeys(partitions, 10), generation)

        notes.on_revoked = flush
        async with member(connection, group, topic, Notes(notes.stored)) as second:
            await until(lambda: second.placed and first.placed and len(first.assigned) == 1, first, second)
            assert await commits(connection, group, partitions) == dict.fromkeys(partitions, 10)


async def test_a_commit_never_goes_backwards_within_a_generation(broker: str, topic: str, group: str) -> None:
    connection = reach(broker)
    partition, elsewhere = await made(connection, topic, 2)
    await fill(broker, partition, numbered(10))
    async with member(connection, group, topic) as source:
        await read(source, 10)
        await source.commit({partition: 8}, source.generation)
        await source.commit({partition: 5, elsewhere: 0, Partition("not-ours", 0): 3}, source.generation)
        await source.commit({partition: 9}, source.generation + 1)
        found = await commits(connection, group, [partition, elsewhere])
    assert found == {partition: 8, elsewhere: 0}


@pytest.mark.parametrize("begun", ["before the assignment", "after it"])
async def test_a_poll_that_fails_loses_nothing_that_it_had_already_drained(
    broker: str, topic: str, group: str, begun: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = reach(broker)
    partitions = await made(connection, topic, 3)
    for partition in partitions:
        await fill(broker, partition, numbered(100))
    async with member(connection, group, topic) as source:
        client: Any = source._member.consumer._client  # type: ignore[union-attr]
        getmany = client.getmany
        failed: list[int] = []

        async def fail_after_draining(*wanted: Any, **arguments: Any) -> Any:
            while not failed:
                drained = await getmany(*wanted, **arguments)
                if drained:
                    failed.append(sum(map(len, drained.values())))
                    raise OSError("a connection broke")
                if begun == "after it":
                    return drained
            return await getmany(*wanted, **arguments)

        monkeypatch.setattr(client, "getmany", fail_after_draining)
        found: list[Record] = []
        faults: list[Unavailable] = []
        async with asyncio.timeout(20):
            while len(found) < 300:
                try:
                    polled = await source.poll(0.05, 70)
                except Unavailable as error:
                    faults.append(error)
                    polled = source._nothing()
                    assert polled.positions == {
                        p: sum(f.partition == p.number for f in found) for p in partitions
                    }
                found += records(polled)
    assert failed
    assert len(faults) == 1
    assert {(r.partition, r.offset) for r in found} == {(p.number, n) for p in partitions for n in range(100)}
    assert len(found) == 300


async def test_a_header_name_that_is_no_text_holds_nothing_up(broker: str, topic: str, group: str) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    async with producing(broker) as producer:
        batch = producer.create_batch()
        batch._buffer, batch._relative_offset = batch_bytes(numbered(10), bad=[4]), 10
        batch.close()
        await (await producer.send_batch(batch, topic, partition=0))
    await fill(broker, partition, numbered(5, 10))
    async with member(connection, group, topic) as source:
        found = await read(source, 15)
        assert values(found) == numbered(15)
        assert {type(record) for record in found} == {Fetched}
        assert values(await source.read_again({partition: 3}, {partition: 6})) == numbered(3, 3)


async def test_a_partition_that_cannot_be_read_does_not_hold_up_the_others(
    broker: str, topic: str, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = reach(broker)
    partitions = await made(connection, topic, 3)
    for partition in partitions:
        await fill(broker, partition, numbered(100))
    async with member(connection, group, topic) as source:
        client: Any = source._member.consumer._client  # type: ignore[union-attr]
        getmany, damaged = client.getmany, [0]

        async def fetch(*wanted: Any, **arguments: Any) -> Any:
            drained = await getmany(*wanted, **arguments)
            if any(here.partition in damaged for here in drained):
                raise CorruptRecordException("a checksum is wrong")
            return drained

        monkeypatch.setattr(client, "getmany", fetch)
        found: list[Record] = []
        faults: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while len(found) < 300:
                try:
                    found += records(await source.poll(0.02, 60))
                except Unavailable as error:
                    faults.append(error.cause)
                if len(found) == 200:
                    damaged.clear()
                assert len(found) <= 200 or not damaged
    assert set(faults) == {"kafka_corrupt_record"}
    for partition in partitions:
        assert [r.offset for r in found if r.partition == partition.number] == list(range(100))


async def test_a_fetch_that_died_without_a_word_is_begun_anew(broker: str, topic: str, group: str) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    await fill(broker, partition, numbered(5))
    notes = Notes()
    async with member(connection, group, topic, notes) as source:
        await read(source, 5)
        await source.commit({partition: 5}, source.generation)
        notes.stored[partition] = 5
        client: Any = source._member.consumer._client  # type: ignore[union-attr]
        for task in (client._fetcher._fetch_task, *client._fetcher._pending_tasks):
            task.cancel()
        await fill(broker, partition, numbered(5, 5))
        source._watch.stall = 2.5
        assert values(await read(source, 5)) == numbered(5, 5)
        assert notes.revoked == [((partition,), 1)]
        assert source.generation == 2


async def test_a_paused_source_delivers_nothing_stays_in_its_group_and_then_all(
    broker: str, topic: str, group: str
) -> None:
    connection = reach(broker)
    (partition,) = await made(connection, topic)
    async with member(connection, group, topic) as source:
        source.pause()
        await fill(broker, partition, numbered(10))
        await until(lambda: source.placed, source)
        for _ in range(10):
            assert records(await source.poll(0.02, 100)) == []
        source.resume()
        assert values(await read(source, 10)) == numbered(10)
        assert source.generation == 1


async def test_a_partition_read_to_its_end_says_up_to_when_and_an_unfinished_one_does_not(
    broker: str, topic: str, group: str
) -> None:
    connection = reach(broker)
    full, empty = await made(connection, topic, 2)
    await fill(broker, full, numbered(10))
    async with member(connection, group, topic) as source:
        polls = await until(
            lambda: False if not source.placed else source.lags().get(full) == 0, source, limit=4
        )
        for polled in polls:
            assert polled.positions.get(full) == 10 or full not in polled.read_to_end
        ends: list[Any] = []
        async with asyncio.timeout(10):
            while len(ends) < 3:
                read_to_end = (await source.poll(0.1, 100)).read_to_end
                ends += [read_to_end] if set(read_to_end) == {full, empty} else []
        assert ends[0][full] < ends[-1][full]


@pytest.mark.parametrize("reset", ["none", "earliest"])
async def test_a_position_that_the_log_lost_meanwhile_is_never_jumped_silently(
    broker: str, topic: str, group: str, reset: str
) -> None:
    (partition,) = await made(reach(broker), topic)
    await fill(broker, partition, numbered(10))
    notes = Notes()
    async with member(reach(broker, offset_reset=reset), group, topic, notes) as source:
        source.pause()
        await until(lambda: source.placed, source)
        if not await records_deleted(broker, partition, 6):
            pytest.skip("this broker deletes no records")
        source.resume()
        if reset == "none":
            with pytest.raises(LostOffsets):
                await read(source, 1)
            assert notes.lost == []
        else:
            assert values(await read(source, 4)) == numbered(4, 6)
            assert notes.lost == [(partition, 0, 6)]


async def test_polls_return_in_time_while_another_member_holds_a_rebalance_up(
    broker: str, topic: str, group: str
) -> None:
    connection = reach(broker)
    await made(connection, topic, 2)
    released = asyncio.Event()

    async def hold(generation: int) -> None:
        await released.wait()

    slow = Notes(on_revoked=hold)
    loop = asyncio.get_running_loop()
    async with member(connection, group, topic) as first, member(connection, group, topic, slow) as second:
        await until(lambda: len(first.assigned) == len(second.assigned) == 1, first, second)
        async with member(connection, group, topic) as third:
            await until(lambda: slow.revoked and not first.joined, first, second, third)
            for _ in range(5):
                for source in (first, second, third):
                    started = loop.time()
                    polled = await source.poll(0.05, 10)
                    assert loop.time() - started < 1
                    assert not polled.records
                    assert polled.generation == -1 or source.joined
            released.set()
            await until(lambda: first.joined and second.joined and third.joined, first, second, third)


@pytest.mark.skipif("ACTIVITY_TEST_KAFKA" not in os.environ, reason="takes the embedded broker 12 seconds")
async def test_a_static_member_that_returns_in_time_finds_its_partitions_unmoved(
    broker: str, topic: str, group: str
) -> None:
    await made(reach(broker), topic, 2)
    one, two = reach(broker, group_instance_id="one"), reach(broker, group_instance_id="two")
    async with member(two, group, topic) as second:
        async with member(one, group, topic) as first:
            await until(lambda: len(first.assigned) == len(second.assigned) == 1, first, second)
            mine, generation = first.assigned, second.generation
        async with member(one, group, topic) as first:
            await until(lambda: first.placed, first, second)
            assert first.assigned == mine
            assert second.generation == generation


async def test_a_topic_that_does_not_exist_is_named_and_not_made(broker: str, topic: str, group: str) -> None:
    connection = reach(broker)
    with pytest.raises(Misconfigured, match=f"topic {topic} does not exist") as refused:
        async with member(connection, group, topic):
            pass
    assert refused.value.mend == "activity-ingest topics --create"
    async with Lookup(connection) as lookup:
        assert await lookup.topics([topic]) == {}


async def test_no_broker_is_unavailable(group: str, topic: str) -> None:
    with pytest.raises(Unavailable):
        async with member(reach("127.0.0.1:1"), group, topic):
            pass


async def test_an_error_of_the_worker_in_a_rebalance_reaches_the_next_poll(
    broker: str, topic: str, group: str
) -> None:
    connection = reach(broker)
    await made(connection, topic)

    async def refuse(partitions: object, generation: int) -> None:
        raise Misconfigured("no", "yes")

    notes = Notes()
    async with member(connection, group, topic, notes) as source:
        object.__setattr__(source._member._listener, "on_assigned", refuse)
        with pytest.raises(Misconfigured, match="no"):
            await until(lambda: False, source)
