"""Words the tests of Kafka share: make a topic, fill it, be a member of a group, read until enough."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from ingest.kafka import Connection, KafkaSource, Listener, Lookup, Topic, create_topics
from ingest.ports import Polled
from ingest.record import Offsets, Partition, Record
from ingest.settings import KafkaSettings

PATIENCE = 30.0  # seconds
QUICK = {
    # The embedded broker lets a group begin after half a session; Apache Kafka takes no less than 6 s.
    "session_timeout": 6.0 if os.environ.get("ACTIVITY_TEST_KAFKA") else 2.0,
    "rebalance_timeout": 5.0,
    "request_timeout": 10.0,
    "fetch_min_bytes": 1,
    "fetch_max_wait": 0.05,
}


def reach(broker: str, **settings: Any) -> Connection:
    """A connection with time-outs for tests."""
    return Connection(KafkaSettings.model_validate({**QUICK, "bootstrap_servers": broker, **settings}))


async def made(connection: Connection, name: str, partitions: int = 1, **settings: str) -> list[Partition]:
    """A new topic's partitions."""
    assert await create_topics(connection, [Topic(name, partitions, 1, settings)]) == [name]
    return [Partition(name, number) for number in range(partitions)]


@asynccontextmanager
async def producing(broker: str, **arguments: Any) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=broker, acks="all", **arguments) as producer:
        yield producer


async def fill(broker: str, partition: Partition, values: Iterable[bytes | None], **arguments: Any) -> None:
    """Records of these values, in order, appended to one partition."""
    async with producing(broker, **arguments) as producer:
        batch = producer.create_batch()
        for value in values:
            if batch.append(timestamp=None, key=b"k", value=value) is None:
                await producer.send_batch(batch, partition.topic, partition=partition.number)
                batch = producer.create_batch()
                assert batch.append(timestamp=None, key=b"k", value=value) is not None
        await (await producer.send_batch(batch, partition.topic, partition=partition.number))


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


@dataclass
class Notes:
    """A listener that writes down what it hears, and answers `starts` as told."""

    stored: dict[Partition, int | None] = field(default_factory=dict)
    unavailable: Exception | None = None
    assigned: list[tuple[Sequence[Partition], int]] = field(default_factory=list)
    revoked: list[tuple[Sequence[Partition], int]] = field(default_factory=list)
    rewound: list[tuple[Partition, int, int]] = field(default_factory=list)
    lost: list[tuple[Partition, int, int]] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    on_revoked: Callable[[int], Any] | None = None

    @property
    def listener(self) -> Listener:
        return Listener(
            starts=self._starts,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            on_rewound=lambda *rewound: self.rewound.append(rewound),
            on_lost=lambda *lost: self.lost.append(lost),
            on_waiting=lambda error: self.waiting.append(error.cause),
        )

    async def _starts(self, partitions: Iterable[Partition]) -> Mapping[Partition, int | None]:
        if self.unavailable:
            raise self.unavailable
        return {partition: self.stored.get(partition) for partition in partitions}

    async def _assigned(self, partitions: Iterable[Partition], generation: int) -> None:
        self.assigned.append((tuple(partitions), generation))

    async def _revoked(self, partitions: Iterable[Partition], generation: int) -> None:
        self.revoked.append((tuple(partitions), generation))
        if self.on_revoked:
            await self.on_revoked(generation)


@asynccontextmanager
async def member(
    connection: Connection, group: str, topic: str, notes: Notes | None = None
) -> AsyncIterator[KafkaSource]:
    """A started source, stopped at the end of the block."""
    source = KafkaSource(connection, group, [topic], (notes or Notes()).listener)
    await source.start()
    try:
        yield source
    finally:
        await source.stop()


async def until(condition: Callable[[], object], *sources: KafkaSource, limit: int = 1000) -> list[Polled]:
    """Poll the sources in turn until the condition holds; what they delivered."""
    polls = []
    async with asyncio.timeout(PATIENCE):
        while not condition():
            for source in sources:
                polls.append(await source.poll(0.05, limit))
    return polls


async def read(source: KafkaSource, count: int, limit: int = 1000) -> list[Record]:
    """At least so many records."""
    found: list[Record] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            found += records(await source.poll(0.05, limit))
    return found


def records(polled: Polled) -> list[Record]:
    return [record for found in polled.records.values() for record in found]


def values(found: Iterable[Record]) -> list[bytes | None]:
    return [record.value for record in found]


async def commits(connection: Connection, group: str, partitions: Sequence[Partition]) -> Offsets:
    """What the group has committed, asked of the broker."""
    async with Lookup(connection) as lookup:
        return await lookup.committed(group, partitions)


class RawName(str):
    """A header name that is not UTF-8 on the wire."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfename"


def batch_bytes(values: Iterable[bytes], bad: Collection[int] = (), base: int = 0, codec: int = 0) -> bytes:
    """A batch as it lies in the log; the records at the indexes `bad` have a header of a bad name."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1_000_000,
    )
    for index, value in enumerate(values):
        headers = [("good", b"1"), (RawName("bad"), b"2")] if index in bad else []
        assert builder.append(index, 1_700_000_000_000, key=b"k", value=value, headers=headers)
    built = bytearray(builder.build())
    built[:8] = base.to_bytes(8, "big")  # the broker writes this, and the checksum leaves it out
    return bytes(built)


async def records_deleted(broker: str, partition: Partition, before: int) -> bool:
    """Whether this broker could delete the records before an offset."""
    client = AIOKafkaAdminClient(bootstrap_servers=broker)
    await client.start()
    try:
        await client.delete_records({TopicPartition(*partition): RecordsToDelete(before_offset=before)})
    except KafkaError:
        return False
    finally:
        await client.close()
    return True


def records_of(key: bytes | None, value: bytes | None, count: int = 1, **more: Any) -> list[Record]:
    """Records as aiokafka would hand them over, of consecutive offsets."""
    given = {
        "topic": "activity.client",
        "partition": 0,
        "timestamp": 1_700_000_000_000,
        "timestamp_type": 0,
        "headers": (),
    }
    given |= more
    return [
        ConsumerRecord(
            **given,
            offset=n,
            key=key,
            value=value,
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=0,
        )
        for n in range(count)
    ]
