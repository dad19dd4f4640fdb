"""aiokafka's consumer in our own words: partitions are ours, errors are ours, every wait is bounded."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError

from ingest.errors import IngestError
from ingest.kafka.client import Connection
from ingest.kafka.faults import bounded
from ingest.kafka.fetched import adopt
from ingest.kafka.internals import assignor, at_once, close, forget_failed_fetch
from ingest.record import Offsets, Partition, Record

FETCH_MAX_BYTES = 16 * 1024 * 1024


class Consumer:
    """One aiokafka consumer, from `open` to `close`. Methods on partitions that it lost do nothing."""

    def __init__(self, connection: Connection, arguments: Mapping[str, Any]) -> None:
        self._connection = connection
        self._client = AIOKafkaConsumer(**arguments)

    async def open(self) -> None:
        """Connect. Raises Misconfigured or Unavailable, and is closed then."""
        timeout = self._connection.settings.request_timeout
        try:
            await bounded(self._client.start(), timeout, "connecting to Kafka")
        except IngestError as error:
            await self.close(1.0)
            raise await self._connection.why_unreachable(error) from error
        except BaseException:
            await self.close(1.0)
            raise
        adopt(self._client)

    async def close(self, seconds: float) -> bool:
        """Whether the brokers were told; after `seconds` the connections are cut."""
        return await close(self._client, seconds)

    def join(self, topics: Sequence[str], listener: Any) -> None:
        """Become a member of the group. The topics must exist, else the brokers may make them."""
        self._client.subscribe(topics, listener=listener)

    def assign(self, starts: Offsets) -> None:
        """Read these partitions from these offsets, as a member of no group."""
        self._client.assign([TopicPartition(*partition) for partition in starts])
        for partition, offset in starts.items():
            self.seek(partition, offset)

    async def take(
        self, timeout_s: float, limit: int, only: Iterable[Partition] = ()
    ) -> dict[Partition, Sequence[Record]]:
        """What has been fetched, of all partitions or `only` some.

        Never to be cancelled. Where it raises, positions have moved and are to be sought again.
        """
        wanted = [TopicPartition(*partition) for partition in only]
        try:
            taken = await self._client.getmany(*wanted, timeout_ms=round(timeout_s * 1000), max_records=limit)
        except Exception:
            forget_failed_fetch(self._client)
            raise
        return {Partition(*here): records for here, records in taken.items()}

    def take_ready(self, limit: int, only: Iterable[Partition] = ()) -> dict[Partition, Sequence[Record]]:
        """What is at hand. Not during a rebalance, when it would wait; else as `take`."""
        return at_once(self.take(0, limit, only))

    async def commit(self, offsets: Offsets) -> None:
        """Retries for ever: give it a limit and cancel it."""
        await self._client.commit({TopicPartition(*p): offset for p, offset in offsets.items()})

    def position(self, partition: Partition) -> int:
        """Offset of the next record; the partition must have been sought before."""
        return int(at_once(self._client.position(TopicPartition(*partition))))

    def end(self, partition: Partition) -> int | None:
        """High watermark, as of `fetched_at`."""
        end: int | None = self._client.highwater(TopicPartition(*partition))
        return end

    def fetched_at(self, partition: Partition) -> int | None:
        """When the last fetch response was handled, even one without records; epoch milliseconds."""
        at: int | None = self._client.last_poll_timestamp(TopicPartition(*partition))
        return at

    def seek(self, partition: Partition, offset: int) -> None:
        with contextlib.suppress(IllegalStateError):
            self._client.seek(TopicPartition(*partition), offset)

    def pause(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            with contextlib.suppress(IllegalStateError):
                self._client.pause(TopicPartition(*partition))

    def resume(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            with contextlib.suppress(IllegalStateError):
                self._client.resume(TopicPartition(*partition))


def member(connection: Connection, group: str) -> Consumer:
    """A consumer to join `group` with."""
    settings = connection.settings
    # A request to join a group is answered only when the rebalance is over.
    request_timeout = max(settings.request_timeout, settings.rebalance_timeout + 5)
    arguments = {
        "group_id": group,
        "group_instance_id": settings.group_instance_id,
        "request_timeout_ms": round(request_timeout * 1000),
        "partition_assignment_strategy": (assignor(settings.assignor),),
        "session_timeout_ms": round(settings.session_timeout * 1000),
        "heartbeat_interval_ms": round(min(3.0, settings.session_timeout / 3) * 1000),
        "rebalance_timeout_ms": round(settings.rebalance_timeout * 1000),
        "max_poll_interval_ms": round(settings.max_poll_interval * 1000),
        "fetch_min_bytes": settings.fetch_min_bytes,
        "fetch_max_wait_ms": round(settings.fetch_max_wait * 1000),
    }
    return Consumer(connection, {**connection.arguments, **_reading(connection), **arguments})


def loner(connection: Connection) -> Consumer:
    """A consumer outside any group, which is answered at once however little there is."""
    return Consumer(connection, {**connection.arguments, **_reading(connection)})


def _reading(connection: Connection) -> dict[str, Any]:
    largest = connection.settings.max_partition_fetch_bytes
    return {
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "check_crcs": True,
        "fetch_max_bytes": max(FETCH_MAX_BYTES, largest),
        "max_partition_fetch_bytes": largest,
    }
