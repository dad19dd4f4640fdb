"""The worker's ports without sockets, and a worker and a writer among them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.client_activity import PROJECTION, ClientActivity
from ingest.batch import Caps, Flush
from ingest.contract import ClientSeen, Decoder, Limits
from ingest.errors import Unstorable
from ingest.pace import Pace
from ingest.ports import Polled, Progress, Written
from ingest.record import Offsets, Partition, Record, Reject
from ingest.retry import Backoff
from ingest.worker import Worker
from ingest.writer import Writer
from tests.strategies import PlainRecord, event
from tests.unit.virtual_time import monotonic, until

TOPIC = "activity.client"
FIRST, SECOND = Partition(TOPIC, 0), Partition(TOPIC, 1)
START = datetime(2026, 11, 21, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LIMITS = Limits(max_clock_skew=timedelta(days=1))
DECODER = Decoder((ClientSeen,), TOPIC, {"client.seen": TOPIC, "client.left": TOPIC}, LIMITS)


def now() -> datetime:
    """A clock that agrees with the loop's."""
    return START + timedelta(seconds=monotonic() - 1000.0)


def seen(client: str, offset: int, minutes: float = 0, partition: Partition = FIRST) -> PlainRecord:
    """A record that says `client` was seen so many minutes from START."""
    value = event(ClientSeen, START + MINUTE * minutes, client_id=client)
    return PlainRecord(value, *partition, offset, timestamp=int(START.timestamp() * 1000))


def broken(offset: int, partition: Partition = FIRST) -> PlainRecord:
    return PlainRecord(b"{", *partition, offset, timestamp=int(START.timestamp() * 1000))


def skipped(offset: int, partition: Partition = FIRST) -> PlainRecord:
    """A record of this topic that the projection does not fold."""
    value = event(ClientSeen, START).replace(b"client.seen", b"client.left")
    return PlainRecord(value, *partition, offset, timestamp=int(START.timestamp() * 1000))


class Metrics:
    """Notes every call: `metrics.calls["retry"]` holds the arguments of each."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[Any, ...]]] = {}

    def __getattr__(self, name: str) -> "Noted":
        return Noted(self.calls.setdefault(name, []))


class Noted:
    """One metric, whatever kind it is."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls

    def __call__(self, *args: Any) -> None:
        self._calls.append(args)

    inc = set = observe = __call__

    def __getitem__(self, label: Any) -> "Noted":
        return self


class FakeSource:
    """A log per partition, read by one member of a group."""

    def __init__(self, *partitions: Partition) -> None:
        self.logs: dict[Partition, list[PlainRecord]] = {p: [] for p in partitions or (FIRST,)}
        self.positions = dict.fromkeys(self.logs, 0)
        self.generation = 1
        self.paused = False
        self.pauses = self.polls = self.begun_anew = 0
        self.commits: list[tuple[dict[Partition, int], int]] = []
        self.poll_failures: deque[Exception] = deque()
        self.commit_failures: deque[Exception] = deque()
        self.read_failures: deque[Exception] = deque()
        self.reads: list[tuple[Offsets, Offsets]] = []

    def add(self, *records: PlainRecord) -> None:
        for record in records:
            self.logs[Partition(record.topic, record.partition)].append(record)

    def reassign(self, *partitions: Partition, at: Mapping[Partition, int] | None = None) -> None:
        """A new assignment, read from `at` or from what was committed."""
        self.generation += 1
        starts = at or self.committed
        self.positions = {p: starts.get(p, 0) for p in partitions}
        for partition in partitions:
            self.logs.setdefault(partition, [])

    @property
    def committed(self) -> dict[Partition, int]:
        found: dict[Partition, int] = {}
        for offsets, _ in self.commits:
            found |= offsets
        return found

    async def poll(self, timeout_s: float, limit: int) -> Polled:
        self.polls += 1
        if self.poll_failures:
            raise self.poll_failures.popleft()
        if not (found := self._fetch(limit)):
            await asyncio.sleep(timeout_s)
            found = self._fetch(limit)
        ended = {p: now() for p in self.positions if self.positions[p] >= self._end(p)}
        return Polled(found, dict(self.positions), self.generation, ended)

    def _fetch(self, limit: int) -> dict[Partition, Sequence[Record]]:
        found: dict[Partition, Sequence[Record]] = {}
        for partition in () if self.paused else self.positions:
            ahead = [r for r in self.logs[partition] if r.offset >= self.positions[partition]][:limit]
            if ahead:
                found[partition] = ahead
                self.positions[partition] = ahead[-1].offset + 1
        return found

    def _end(self, partition: Partition) -> int:
        return max((r.offset + 1 for r in self.logs[partition]), default=0)

    async def commit(self, offsets: Offsets, generation: int) -> None:
        await asyncio.sleep(0.05)
        if self.commit_failures:
            raise self.commit_failures.popleft()
        self.commits.append((dict(offsets), generation))

    async def read_again(self, starts: Offsets, ends: Offsets) -> Sequence[Record]:
        self.reads.append((starts, ends))
        if self.read_failures:
            raise self.read_failures.popleft()
        assert starts.keys() == ends.keys()
        return [r for p in starts for r in self.logs[p] if starts[p] <= r.offset < ends[p]]

    def begin_anew(self) -> None:
        self.begun_anew += 1

    def pause(self) -> None:
        self.paused = True
        self.pauses += 1

    def resume(self) -> None:
        self.paused = False


class FakeSink:
    """Keeps the rows it was given. `held` writes wait until `release`; `refuses` names bad rows."""

    def __init__(self) -> None:
        self.writes: list[tuple[Flush, Sequence[Progress]]] = []
        self.attempts: list[Flush] = []
        self.failures: deque[Exception] = deque()
        self.refuses: Callable[[Any], bool] = lambda row: False
        self.too_slow_above: int | None = None
        self.too_slow: Exception | None = None
        self.waiting: list[asyncio.Event] = []
        self.held = False
        self.in_turn: list[str] | None = None

    async def write(self, flush: Flush, progress: Sequence[Progress]) -> Written:
        self.attempts.append(flush)
        if self.held:
            self.waiting.append(gate := asyncio.Event())
            await gate.wait()
        else:
            await asyncio.sleep(0)
        if self.failures:
            raise self.failures.popleft()
        if self.too_slow and flush.row_count > (self.too_slow_above or 0):
            raise self.too_slow
        rows = [row for rows in flush.rows for row in rows]
        if any(map(self.refuses, rows)):
            raise Unstorable("a value is too long", "22001", "some_constraint")
        if self.in_turn is not None:
            self.in_turn.append("write")
        self.writes.append((flush, tuple(progress)))
        return Written(len(rows), 0, 1)

    async def release(self, which: int = 0) -> None:
        """Lets the write that waits at this place go on."""
        await until(lambda: len(self.waiting) > which)
        self.waiting.pop(which).set()

    def release_all(self) -> None:
        self.held = False
        for gate in self.waiting:
            gate.set()
        self.waiting.clear()

    @property
    def stored(self) -> dict[str, tuple[datetime, datetime]]:
        """client_id -> created_at, last_seen of all rows merged."""
        found: dict[str, tuple[datetime, datetime]] = {}
        for flush, _ in self.writes:
            for row in flush.rows[0]:
                assert isinstance(row, ClientActivity)
                first, last = found.get(row.client_id, (row.created_at, row.last_seen))
                found[row.client_id] = min(first, row.created_at), max(last, row.last_seen)
        return found

    @property
    def progress(self) -> dict[Partition, int]:
        return {p.partition: p.next_offset for _, progress in self.writes for p in progress}


class FakeDeadLetters:
    def __init__(self) -> None:
        self.rejects: list[Reject] = []
        self.failures: deque[Exception] = deque()
        self.in_turn: list[str] | None = None

    async def publish(self, rejects: Sequence[Reject], projection: str) -> None:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.popleft()
        if self.in_turn is not None:
            self.in_turn.append("publish")
        self.rejects += rejects


class World:
    """A writer and a worker of client_activity among doubles."""

    def __init__(self, *partitions: Partition, caps: Caps | None = None, **pace: Any) -> None:
        self.source, self.sink = FakeSource(*partitions), FakeSink()
        self.dead_letters, self.metrics = FakeDeadLetters(), Metrics()
        options, metrics = PROJECTION.options(), self.metrics
        self.writer = Writer(
            projection=PROJECTION,
            options=options,
            decoder=DECODER,
            source=self.source,
            sink=self.sink,
            dead_letters=self.dead_letters,
            metrics=metrics,  # type: ignore[arg-type]
            backoff=Backoff(0.1, 30.0),
            now=now,
            random=lambda: 1.0,
        )
        self.worker = Worker(
            PROJECTION,
            options,
            DECODER,
            self.source,
            self.writer,
            Pace(caps=caps or Caps(), jitter=0.0, **pace),
            metrics,  # type: ignore[arg-type]
            now=now,
            monotonic=monotonic,
            random=lambda: 0.5,
        )
        self.stop = asyncio.Event()

    def start(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.worker.run(self.stop))

    async def finish(self, running: "asyncio.Task[None]") -> None:
        """Stops the worker and raises what it raises."""
        self.stop.set()
        await running


def clients(flush: Flush) -> list[str]:
    return [getattr(row, "client_id", "") for row in flush.rows[0]]


def offsets_of(rejects: Iterable[Reject]) -> list[int]:
    return [reject.record.offset for reject in rejects]
