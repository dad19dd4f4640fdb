"""Commits to Kafka what the ledger says is durable: one commit at a time, failures offered again."""

import asyncio

import structlog

from ingest.errors import Unavailable
from ingest.metrics import ProjectionMetrics
from ingest.offsets import Ledger
from ingest.ports import Source
from ingest.record import Partition

log = structlog.get_logger()


class Committer:
    """Stands between a worker's ledger and its source. `retry_after` in seconds."""

    def __init__(
        self, projection: str, ledger: Ledger, source: Source, metrics: ProjectionMetrics, retry_after: float
    ) -> None:
        self._projection, self._ledger, self._source = projection, ledger, source
        self._metrics, self._retry_after = metrics, retry_after
        self._committed: dict[Partition, int] = {}
        self._generation = ledger.generation
        self._lock = asyncio.Lock()
        self._wanted = asyncio.Event()

    def want(self) -> None:
        """Something became durable: commit soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Commit whenever wanted, until cancelled. Raises what a commit raised, unless it will pass."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if not await self.commit():
                await asyncio.sleep(self._retry_after)
                self._wanted.set()

    async def commit(self) -> bool:
        """Commit all that is durable now; False where that failed and is to be tried again."""
        async with self._lock:
            generation = self._ledger.generation
            if generation != self._generation:
                self._generation, self._committed = generation, {}
            offsets = {p: o for p, o in self._ledger.take().items() if o > self._committed.get(p, -1)}
            if not offsets:
                return True
            try:
                await self._source.commit(offsets, generation)
            except Unavailable as error:
                self._metrics.retry(error.cause)
                self._metrics.commits["failed"].inc()
                log.warning(
                    "commit failed", projection=self._projection, cause=error.cause, error=error.message
                )
                self._ledger.put_back(offsets, generation)
                return False
            self._metrics.commits["ok"].inc()
            self._committed.update(offsets)
            return True
