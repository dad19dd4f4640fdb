"""Rejected records to the dead-letter topic: as they were, with headers that say what was wrong."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka.errors import UnknownTopicOrPartitionError

from ingest.errors import Misconfigured, Unavailable
from ingest.kafka.client import Connection
from ingest.kafka.faults import TOO_LARGE, fault
from ingest.kafka.lookup import CREATE_TOPICS
from ingest.kafka.producer import Headers, Idempotence, Producer
from ingest.record import Record, Reject

log = structlog.get_logger()

ORIGIN, REASON, DETAIL = "activity-origin", "activity-reason", "activity-detail"
PROJECTION, TIMESTAMP, FAILED_AT = "activity-projection", "activity-timestamp", "activity-failed-at"
VERSION, ATTEMPT, TRUNCATED = "activity-version", "activity-attempt", "activity-truncated"
SQLSTATE, CONSTRAINT = "activity-sqlstate", "activity-constraint"
OURS = frozenset(
    {ORIGIN, REASON, DETAIL, PROJECTION, TIMESTAMP, FAILED_AT, VERSION, ATTEMPT, TRUNCATED}
    | {SQLSTATE, CONSTRAINT}
)

BATCH_BYTES = 64 * 1024
LARGEST = 2 * 1_048_588
"""Twice what brokers take by default: a dead letter is a record of any size, and headers."""

_ORIGIN = re.compile(rb"[A-Za-z0-9._-]{1,249}:[0-9]{1,10}:[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter ready to be sent."""

    key: bytes | None
    value: bytes | None
    headers: Headers

    def truncated(self) -> "Letter":
        """The same without its value, for brokers that refuse its size."""
        size = str(len(self.value or b"")).encode()
        kept = [(name, value) for name, value in self.headers if name in OURS and name != TRUNCATED]
        return Letter(self.key, b"", [*kept, (TRUNCATED, size)])

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        headers = sum(len(name) + len(value or b"") + 10 for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + 100


def letter(reject: Reject, projection: str, failed_at: datetime, version: str) -> Letter:
    """The dead letter of one reject.

    Headers of the record that are not ours are kept in their order; ours are replaced, but for the
    origin of a record that was replayed, which stays that of the first original. `activity-attempt`
    counts how often one origin was rejected by this way: 1, and one more after each replay.
    """
    record = reject.record
    before = {name: value for name, value in record.headers if name in OURS}
    origin = before.get(ORIGIN)
    if origin is None or not _ORIGIN.fullmatch(origin):
        origin = f"{record.topic}:{record.partition}:{record.offset}".encode()
    added = {
        REASON: reject.reason.value,
        DETAIL: reject.detail,
        PROJECTION: projection,
        TIMESTAMP: _moment(datetime.fromtimestamp(max(record.timestamp, 0) / 1000, UTC)),
        FAILED_AT: _moment(failed_at),
        VERSION: version,
        ATTEMPT: str(_number(before.get(ATTEMPT)) + 1),
        SQLSTATE: reject.sqlstate,
        CONSTRAINT: reject.constraint,
    }
    headers = [(name, value) for name, value in record.headers if name not in OURS]
    headers.append((ORIGIN, origin))
    headers += [(name, text.encode("utf-8", "replace")) for name, text in added.items() if text is not None]
    if not record.value and before.get(TRUNCATED) is not None:
        headers.append((TRUNCATED, before[TRUNCATED]))
    return Letter(record.key, record.value, headers)


def attempt(record: Record) -> int:
    """How often this record was dead-lettered before; 0 where it never was."""
    return _number(dict(record.headers).get(ATTEMPT))


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _number(text: bytes | None) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) < 10 else 0


class KafkaDeadLetters:
    """See the DeadLetters port. Connects at the first use, and anew after a failure."""

    def __init__(
        self,
        connection: Connection,
        topic: str,
        version: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        largest: int = LARGEST,
        idempotence: Idempotence = "off",
    ) -> None:
        self.topic, self.truncated = topic, 0
        self._version, self._now, self._largest = version, now, largest
        self._connection, self._idempotence = connection, idempotence
        self._producer: Producer | None = None
        self._turn = asyncio.Lock()

    async def publish(self, rejects: Sequence[Reject], projection: str) -> None:
        """Returns when all of them are acknowledged by all replicas.

        Raises Misconfigured where the topic does not exist or is forbidden, else Unavailable.
        """
        if not rejects:
            return
        failed_at = self._now()
        letters = [letter(reject, projection, failed_at, self._version) for reject in rejects]
        async with self._turn:
            try:
                producer = await self._started()
                await self._send(producer, letters)
            except BaseException:
                await self._discard()
                raise

    async def start(self) -> None:
        """Connect now, to learn at once what is set up wrongly."""
        async with self._turn:
            await self._started()

    async def stop(self) -> None:
        """Whoever awaits `publish` has had an answer already, so nothing is waited for."""
        await self._discard()

    async def _started(self) -> Producer:
        if self._producer is None:
            producer = Producer(
                self._connection, [self.topic], batch_bytes=BATCH_BYTES, idempotence=self._idempotence
            )
            await producer.start()
            self._producer = producer
        return self._producer

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop(1.0)

    async def _send(self, producer: Producer, letters: Sequence[Letter]) -> None:
        """In batches; what is in one that the broker finds too large goes alone, then without its value."""
        refused = await self._deliver(
            producer, [entry.truncated() if self._huge(entry) else entry for entry in letters]
        )
        if not refused:
            return
        for entry in refused:
            if await self._deliver(producer, [entry]):
                log.warning("dead letter written without its value", size=len(entry.value or b""))
                self.truncated += 1
                if await self._deliver(producer, [entry.truncated()]):
                    raise Misconfigured(
                        f"{self.topic} takes no record of {entry.truncated().size} bytes",
                        "raise the topic's max.message.bytes",
                    )

    def _huge(self, entry: Letter) -> bool:
        self.truncated += entry.size > self._largest
        return entry.size > self._largest

    async def _deliver(self, producer: Producer, letters: Sequence[Letter]) -> list[Letter]:
        """Returns those that the broker finds too large; raises what else goes wrong."""
        sent = [await self._hand_over(producer, *group) for group in _batches(producer, self.topic, letters)]
        done, late = await asyncio.wait([handed for handed, _ in sent], timeout=producer.timeout)
        errors = {handed: handed.exception() for handed in done}
        if late:
            raise Unavailable(f"sending to {self.topic} took too long", "kafka_timeout")
        refused: list[Letter] = []
        for handed, group in sent:
            error = errors[handed]
            if isinstance(error, TOO_LARGE):
                refused += group
            elif isinstance(error, UnknownTopicOrPartitionError):
                raise Misconfigured(f"topic {self.topic} does not exist", CREATE_TOPICS) from error
            elif error is not None:
                raise fault(error, f"sending to {self.topic}") from error
        return refused

    async def _hand_over(
        self, producer: Producer, batch: Any, partition: int, letters: list[Letter]
    ) -> tuple[asyncio.Future[Any], list[Letter]]:
        return await producer.hand_over(batch, self.topic, partition), letters


def _batches(
    producer: Producer, topic: str, letters: Sequence[Letter]
) -> list[tuple[Any, int, list[Letter]]]:
    made: list[tuple[Any, int, list[Letter]]] = []
    filling: dict[int, tuple[Any, int, list[Letter]]] = {}
    for entry in letters:
        partition = producer.partition(topic, entry.key)
        group = filling.get(partition)
        if group is None or not _append(group[0], entry):
            group = filling[partition] = (producer.batch(), partition, [])
            made.append(group)
            _append(group[0], entry)
        group[2].append(entry)
    return made


def _append(batch: Any, entry: Letter) -> bool:
    appended = batch.append(timestamp=None, key=entry.key, value=entry.value, headers=list(entry.headers))
    return appended is not None
