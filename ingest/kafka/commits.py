"""Commits of a group member: one at a time, bounded, forward only."""

import asyncio

import structlog

from ingest.errors import Unavailable
from ingest.kafka.assignment import Assignment
from ingest.kafka.consumer import Consumer
from ingest.kafka.faults import FENCED, KafkaError, fault
from ingest.record import Offsets

log = structlog.get_logger()

TIMEOUT = 10.0  # seconds


class Commits:
    """`fenced` counts commits that were refused because the partitions were no longer ours."""

    def __init__(self, group: str) -> None:
        self.fenced = 0
        self._group = group
        self._turn = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None

    async def commit(
        self, consumer: Consumer, assignment: Assignment, offsets: Offsets, generation: int
    ) -> None:
        """Returns also where the commit was fenced. Raises Unavailable or Misconfigured."""
        async with self._turn:
            due = assignment.due(offsets, generation)
            if not due:
                return
            running = self._running = asyncio.create_task(consumer.commit(due))
            try:
                await asyncio.wait({running}, timeout=TIMEOUT)
                if self._succeeded(running):
                    assignment.committed |= due
            finally:
                running.cancel()
                self._running = None

    def cancel(self) -> None:
        """The assignment ends. A retry would carry the next generation and move the group backwards."""
        if self._running is not None:
            self._running.cancel()

    def _succeeded(self, commit: asyncio.Task[None]) -> bool:
        doing = f"committing offsets of {self._group}"
        if not commit.done():
            raise Unavailable(f"{doing} took too long", "kafka_commit")
        error = None if commit.cancelled() else commit.exception()
        if error is None and not commit.cancelled():
            return True
        if error is None or isinstance(error, FENCED):
            self.fenced += 1
            log.info("commit fenced: the partitions are no longer ours", group=self._group)
            return False
        if isinstance(error, KafkaError | OSError):
            raise fault(error, doing) from error
        raise error
