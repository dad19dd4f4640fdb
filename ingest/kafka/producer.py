"""Records to the brokers in batches of our own making, acknowledged by all replicas.

The client's own `send` makes a future per record and refuses records with neither key nor value;
batches handed over whole cost a tenth and carry any bytes.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from ingest.errors import IngestError
from ingest.kafka.client import Connection
from ingest.kafka.faults import KafkaError, bounded
from ingest.kafka.internals import close
from ingest.kafka.lookup import Lookup

log = structlog.get_logger()

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
Compression: TypeAlias = Literal["gzip", "snappy", "lz4", "zstd"]
Idempotence: TypeAlias = Literal["off", "auto"]

SPARE = 5.0  # seconds beyond the request time-out, after which the client must have given an answer


class Producer:
    """One aiokafka producer, from `start` to `stop`; it writes to `topics` only, which must exist."""

    def __init__(
        self,
        connection: Connection,
        topics: Sequence[str],
        *,
        batch_bytes: int,
        compression: Compression | None = None,
        idempotence: Idempotence = "off",
    ) -> None:
        self._connection, self._topics = connection, tuple(topics)
        self._arguments = {
            **connection.arguments,
            "acks": "all",
            "compression_type": compression,
            "max_batch_size": batch_bytes,
        }
        self._idempotence = idempotence
        self._partitions: Mapping[str, int] = {}
        self._client: Any = None

    @property
    def timeout(self) -> float:
        """Seconds after which a batch has either been acknowledged or failed."""
        return self._connection.settings.request_timeout + SPARE

    @property
    def started(self) -> bool:
        return self._client is not None

    async def start(self) -> None:
        """Raises Misconfigured where a topic does not exist or the brokers refuse us, else Unavailable."""
        async with Lookup(self._connection) as lookup:
            self._partitions = Counter(p.topic for p in await lookup.partitions(*self._topics))
        self._client = await self._idempotent() or await self._connected(False)

    async def stop(self, seconds: float) -> bool:
        """Send what was handed over, for so many seconds. Whether all of it went."""
        client, self._client = self._client, None
        return client is None or await close(client, seconds)

    def partition(self, topic: str, key: bytes | None) -> int:
        """Where a record of this key goes: the same as with any client that hashes as Java's does."""
        count = self._partitions[topic]
        return random.randrange(count) if key is None else hashed(key) % count

    def batch(self) -> Any:
        """An empty batch; its `append` returns None once it is full."""
        return self._client.create_batch()

    async def hand_over(self, batch: Any, topic: str, partition: int) -> asyncio.Future[Any]:
        """Waits until the partition's batch before this one is on its way; the result tells of this one."""
        handed: asyncio.Future[Any] = await bounded(
            self._client.send_batch(batch, topic, partition=partition), self.timeout, f"sending to {topic}"
        )
        return handed

    async def _idempotent(self) -> Any:
        if self._idempotence == "off":
            return None
        try:
            return await self._connected(True)
        except IngestError as error:
            log.info("these brokers take no idempotent producer; going on without", error=error.message)
            return None

    async def _connected(self, idempotent: bool) -> Any:
        client = AIOKafkaProducer(**self._arguments, enable_idempotence=idempotent)
        try:
            await bounded(client.start(), self._connection.settings.request_timeout, "connecting to Kafka")
        except BaseException:
            with contextlib.suppress(KafkaError):
                await close(client, 1.0)
            raise
        return client


@lru_cache(maxsize=65_536)
def hashed(key: bytes) -> int:
    """The hash that all Kafka clients agree on; remembered, because it is slow in Python."""
    return int(murmur2(key)) & 0x7FFFFFFF
