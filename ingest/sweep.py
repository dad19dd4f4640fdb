"""Work that the clock calls for: rows that time out, gauges counted by SQL, how far the log was read.

Silence is judged by `as_of`, the moment up to which the whole topic was read, never by the wall
clock: while a backlog is being read, nothing in it has had a chance to be heard.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from ingest.errors import Unavailable
from ingest.metrics import Metrics
from ingest.postgres import Database
from ingest.postgres.inspect import gauges
from ingest.postgres.leases import Lease, release, sweep
from ingest.postgres.progress import as_of
from ingest.queries import SqlFile

log = structlog.get_logger()

STEP = 1_000  # rows a sweep changes in one transaction, so that no writer waits for it long
LEASE = timedelta(seconds=30)


@dataclass(slots=True)
class Sweeper:
    """The periodic work of one projection; many processes may host it, one at a time sweeps.

    `topic` is the name the brokers know; `partitions` counts its partitions. Intervals in seconds.
    `trouble` says why Postgres did not serve the last round, None where it did.
    """

    projection: str
    topic: str
    sql: SqlFile
    database: Database
    metrics: Metrics
    holder: str
    partitions: Callable[[], Awaitable[int]]
    now: Callable[[], datetime]
    sweep_interval: float = 5.0
    gauge_interval: float = 15.0
    trouble: str | None = None
    _counted_at: datetime | None = field(default=None, init=False)

    async def run(self, stop: asyncio.Event) -> None:
        """A round every interval until `stop`. Raises Misconfigured; whatever will pass is waited out."""
        while not stop.is_set():
            await self.round()
            try:
                async with asyncio.timeout(self.sweep_interval):
                    await stop.wait()
            except TimeoutError:
                continue
        await self._let_go()

    async def round(self) -> None:
        """Look how far the log was read, sweep up to there, and count the gauges when they are due."""
        measured = self.metrics.for_projection(self.projection)
        try:
            moment = await as_of(self.database, self.projection, self.topic, await self.partitions())
            if moment is not None:
                measured.as_of(max(0.0, (self.now() - moment).total_seconds()))
                await self._sweep(moment)
            await self._count()
            self.trouble = None
        except Unavailable as error:
            measured.sweeps["failed"].inc()
            if self.trouble is None:
                log.warning(
                    "sweep failed", projection=self.projection, cause=error.cause, error=error.message
                )
            self.trouble = error.message

    async def _sweep(self, moment: datetime) -> None:
        measured = self.metrics.for_projection(self.projection)
        for name, text in self.sql.sweeps.items():
            total = 0
            while (changed := await sweep(self.database, self._lease(name), text, moment, STEP)) is not None:
                total += changed
                if changed < STEP:
                    measured.swept(total)
                    measured.succeeded(f"sweep_{name}", self.now())
                    break
            if total:
                log.info("swept", projection=self.projection, sweep=name, rows=total)

    async def _count(self) -> None:
        now = self.now()
        if self._counted_at and (now - self._counted_at).total_seconds() < self.gauge_interval:
            return
        for gauge, rows in (await gauges(self.database, self.sql.gauges)).items():
            self.metrics.counted(self.projection, gauge, rows)
        self._counted_at = now

    def _lease(self, name: str) -> Lease:
        return Lease(f"sweep/{self.projection}/{name}", self.holder, LEASE)

    async def _let_go(self) -> None:
        try:
            for name in self.sql.sweeps:
                await release(self.database, self._lease(name))
        except Unavailable:
            return  # it expires by itself
