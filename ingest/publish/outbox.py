"""Sends messages at a given rate, and remembers what could not be delivered."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ingest.errors import IngestError, Misconfigured, Unavailable

BREATHE = 500  # messages after which others get their turn
SHORTEST_PAUSE_S = 0.005
CATCH_UP_S = 1.0  # a sender that was held up longer than this does not make up for it


class Publisher(Protocol):
    """What takes the messages; `ingest.kafka.Publisher` is one."""

    acknowledged: int

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        tag: object = None,
    ) -> None: ...
    async def flush(self) -> None: ...


class Failures:
    """What was not delivered: `publisher(…, on_failed=failures.add)`.

    `tell` hears of each, with the tag it was sent with.
    """

    def __init__(self, tell: Callable[[object, IngestError], None] = lambda tag, error: None) -> None:
        self.count = 0
        self.first: IngestError | None = None
        self._tell = tell

    def add(self, tags: Sequence[object], error: IngestError) -> None:
        self.first = self.first or error
        self.count += len(tags)
        for tag in tags:
            self._tell(tag, error)

    def check(self) -> None:
        """Raises Misconfigured or Unavailable where anything was not delivered."""
        if isinstance(self.first, Misconfigured):
            raise Misconfigured(
                f"{self.count:,} messages not delivered: {self.first.message}", self.first.mend
            )
        if self.first is not None:
            raise Unavailable(f"{self.count:,} messages not delivered: {self.first.message}", "kafka")


class Outbox:
    """Messages to `topics` (default name -> actual name, of those that exist), at most `rate` a second."""

    def __init__(
        self, publisher: Publisher, topics: Mapping[str, str], failures: Failures, rate: float | None = None
    ) -> None:
        self.sent = 0
        self._publisher, self._topics, self._failures, self._rate = publisher, topics, failures, rate
        self._clock = asyncio.get_running_loop().time
        self._origin = self._clock()

    @property
    def acknowledged(self) -> int:
        """Messages that the brokers have."""
        return self._publisher.acknowledged

    async def send(self, topic: str, key: bytes | None, value: bytes, tag: object = None) -> None:
        """Raises Misconfigured for a topic that does not exist, and what an earlier delivery ran into."""
        if topic not in self._topics:
            raise Misconfigured(f"there is no topic for {topic}", "activity-ingest topics --create")
        if self._failures.first:
            self._failures.check()
        await self._publisher.send(self._topics[topic], key, value, [], tag)
        self.sent += 1
        if self._rate is not None:
            await self._pace(self._rate)
        elif self.sent % BREATHE == 0:
            await asyncio.sleep(0)

    async def finish(self) -> None:
        """Returns when all is acknowledged; raises Misconfigured or Unavailable where it is not."""
        await self._publisher.flush()
        self._failures.check()

    async def _pace(self, rate: float) -> None:
        ahead = self._origin + self.sent / rate - self._clock()
        if ahead > SHORTEST_PAUSE_S:
            await asyncio.sleep(ahead)
        elif ahead < -CATCH_UP_S:
            self._origin -= ahead
