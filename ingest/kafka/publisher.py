"""Events to their topics, tens of thousands a second: for publish and simulate."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ingest.errors import IngestError, Unavailable
from ingest.kafka.client import Connection
from ingest.kafka.faults import fault
from ingest.kafka.producer import Compression, Headers, Producer
from ingest.record import Partition

BATCH_BYTES = 256 * 1024
LINGER = 0.01  # seconds
STOP = 5.0  # seconds


@dataclass(slots=True)
class Filling:
    """A batch that is being filled, and the tags of its records."""

    batch: Any
    opened_at: float
    count: int = 0
    tags: list[object] = field(default_factory=list)


class Publisher:
    """Sends records to `topics`; `on_failed` gets the tags of each batch that failed, and why.

    At most three batches a partition are held, so `send` waits where the brokers are slower. Zstd is
    the default because it was both the quickest and the smallest on recorded events.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Sequence[str],
        *,
        on_failed: Callable[[Sequence[object], IngestError], None] = lambda tags, error: None,
        compression: Compression | None = "zstd",
        batch_bytes: int = BATCH_BYTES,
        linger: float = LINGER,
    ) -> None:
        self.acknowledged = self.failed = 0
        self._producer = Producer(connection, topics, batch_bytes=batch_bytes, compression=compression)
        self._on_failed, self._linger = on_failed, linger
        self._filling: dict[Partition, Filling] = {}
        self._turns: defaultdict[Partition, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._handing: set[asyncio.Task[None]] = set()
        self._outstanding: set[asyncio.Future[Any]] = set()
        self._lingering: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Raises Misconfigured where a topic does not exist or the brokers refuse us, else Unavailable."""
        await self._producer.start()
        self._lingering = asyncio.create_task(self._send_what_lingers())

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (), tag: object = None
    ) -> None:
        """Queue a record; returns at once unless its partition is full. Failures go to `on_failed`."""
        partition = Partition(topic, self._producer.partition(topic, key))
        filling = self._filling.get(partition) or self._open(partition)
        listed = list(headers)
        if filling.batch.append(timestamp=None, key=key, value=value, headers=listed) is None:
            # Taken out before the first await, so that nobody else hands the same batch over.
            del self._filling[partition]
            filling, full = self._open(partition), filling
            filling.batch.append(timestamp=None, key=key, value=value, headers=listed)
            filling.count += 1
            filling.tags.append(tag)
            await self._hand_over(full, partition)
            return
        filling.count += 1
        filling.tags.append(tag)

    async def flush(self) -> None:
        """Returns when every record sent so far is acknowledged or has failed."""
        while self._filling:
            partition, filling = self._filling.popitem()
            await self._hand_over(filling, partition)
        while waiting := self._handing | self._outstanding:
            await asyncio.wait(waiting)

    async def stop(self, seconds: float = STOP) -> None:
        """Send what is queued, for so many seconds; what was not sent then is reported as failed."""
        lingering, self._lingering = self._lingering, None
        if lingering is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.flush()
        for task in (lingering, *self._handing):
            task.cancel()
        await asyncio.gather(lingering, *self._handing, return_exceptions=True)
        await self._producer.stop(1.0)
        for partition, filling in self._filling.items():
            self._fail(filling, Unavailable(f"sending to {partition.topic}: no time was left", "kafka"))
        self._filling.clear()

    def _open(self, partition: Partition) -> Filling:
        filling = Filling(self._producer.batch(), asyncio.get_running_loop().time())
        self._filling[partition] = filling
        return filling

    async def _hand_over(self, full: Filling, partition: Partition) -> None:
        try:
            # One at a time: the client lets a later batch pass, and then takes the earlier one to be late.
            async with self._turns[partition]:
                handed = await self._producer.hand_over(full.batch, *partition)
        except BaseException as error:
            self._fail(full, fault(error, f"sending to {partition.topic}"))
            if not isinstance(error, IngestError):
                raise
            return
        self._outstanding.add(handed)
        handed.add_done_callback(lambda done: self._settled(done, full, partition))

    def _settled(self, done: asyncio.Future[Any], full: Filling, partition: Partition) -> None:
        self._outstanding.discard(done)
        error = None if done.cancelled() else done.exception()
        if error is not None or done.cancelled():
            self._fail(full, fault(error or TimeoutError("not sent"), f"sending to {partition.topic}"))
        else:
            self.acknowledged += full.count

    def _fail(self, full: Filling, error: IngestError) -> None:
        self.failed += full.count
        self._on_failed(full.tags, error)

    async def _send_what_lingers(self) -> None:
        while True:
            await asyncio.sleep(self._linger)
            due = asyncio.get_running_loop().time() - self._linger
            for partition, filling in list(self._filling.items()):
                if filling.opened_at <= due and not self._turns[partition].locked():
                    del self._filling[partition]
                    handing = asyncio.create_task(self._hand_over(filling, partition))
                    self._handing.add(handing)
                    handing.add_done_callback(self._handing.discard)
