"""The loop of one projection: poll -> add -> flush -> commit.

Records are folded into a batch as they arrive. A batch that is due is closed *before* the first
await of its flush, so the next one fills while it is written. Offsets ride inside the flush and are
committed only below the oldest unfinished one.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from ingest.batch import Batch, Flush
from ingest.brake import Brake
from ingest.committer import Committer
from ingest.contract import Decoder
from ingest.errors import LostOffsets, Unavailable, WentBack
from ingest.metrics import ProjectionMetrics
from ingest.offsets import Ledger, Ticket
from ingest.pace import Pace
from ingest.ports import Polled, Progress, Source
from ingest.projection import Projection
from ingest.record import Offsets, Partition
from ingest.writer import Abandoned, Outcome, Patience, Writer

log = structlog.get_logger()

POLL_TIMEOUT = 0.2  # short: a poll is never cancelled, so this is how soon a stop is noticed
POLL_RECORDS = 1_000  # how far a batch may run past its caps
COMMIT_AGAIN_AFTER = 1.0
PAUSE_AFTER = 1.0  # pausing throws prefetched records away, so a short wait goes without


class Worker:
    """Folds one projection's topic into its tables until told to stop."""

    def __init__(
        self,
        projection: Projection,
        options: Any,
        decoder: Decoder,
        source: Source,
        writer: Writer,
        pace: Pace,
        metrics: ProjectionMetrics,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self.projection, self.pace, self.metrics, self.writer = projection, pace, metrics, writer
        self._options, self._decoder, self._source = options, decoder, source
        self._now, self._monotonic, self._random = now, monotonic, random
        self._ledger = Ledger()
        self._batch = self._new_batch()
        self._caps = pace.caps
        self._standing: dict[Partition, int] = {}
        self._read_to_end: dict[Partition, datetime] = {}
        self._found: Offsets = {}
        self._given_up = -1
        self._flushes: dict[asyncio.Task[None], Ticket] = {}
        self._patience = Patience()
        self._committer = Committer(projection.name, self._ledger, source, metrics, COMMIT_AGAIN_AFTER)
        self._slot_freed = asyncio.Event()
        self._failure: BaseException | None = None
        self._brake = Brake(projection.name, source, metrics, monotonic)
        self.last_turn = monotonic()
        self.last_flush: datetime | None = None
        self._last_write = monotonic()

    # -- what others may see ---------------------------------------------------------------------

    @property
    def buffered_rows(self) -> int:
        return self._batch.rows

    @property
    def buffered_records(self) -> int:
        return self._batch.records

    @property
    def positions(self) -> Offsets:
        """Where the consumer stands in each assigned partition."""
        return self._standing

    @property
    def assigned(self) -> bool:
        """Whether the group has given this worker its share, which may be no partition at all."""
        return self._ledger.generation >= 0

    def found(self, stored: Offsets) -> None:
        """What Postgres held of the partitions that are about to be read."""
        self._found = stored

    # -- the loop --------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain.

        Raises Misconfigured (an operator must act) or whatever a bug raised; nothing that was not
        durable has been committed then.
        """
        helpers = [asyncio.create_task(self._keep_time()), asyncio.create_task(self._committer.run())]
        for task in helpers:
            task.add_done_callback(self._note_failure)
        try:
            while not stop.is_set() and not self._failure:
                await self._turn()
            if not self._failure:
                await self._settle("drain", self.pace.drain_timeout)
        finally:
            for task in (*helpers, *self._flushes):
                task.cancel()
            await asyncio.gather(*helpers, *self._flushes, return_exceptions=True)
        if self._failure:
            raise self._failure

    async def _turn(self) -> None:
        self.last_turn = self._monotonic()
        if self._blocked and not await self._wait_for_slot():
            self._brake.on()
        elif not self._blocked:
            self._brake.off()
        else:
            return
        try:
            polled = await self._source.poll(POLL_TIMEOUT, POLL_RECORDS)
        except Unavailable as error:
            self.metrics.retry(error.cause)
            log.warning(
                "poll failed", projection=self.projection.name, cause=error.cause, error=error.message
            )
            await asyncio.sleep(POLL_TIMEOUT)
            return
        except LostOffsets:
            self.metrics.lost_offsets.inc()
            raise
        self._take(polled)  # no await since the poll: its positions are still true
        self._flush_if_due()

    def _take(self, polled: Polled) -> None:
        if polled.generation == self._given_up:
            return
        if polled.generation != self._ledger.generation:
            self._begin(polled)
        now, monotonic = self._now(), self._monotonic()
        for partition, records in polled.records.items():
            if records:
                self._batch.add(partition, records, now, monotonic)
        for partition, position in polled.positions.items():
            if position > self._standing.get(partition, position):
                self._batch.moved(partition, position, monotonic)
        self._standing = dict(polled.positions)
        self._read_to_end.update(polled.read_to_end)
        self.metrics.buffered(self._batch.rows, self._batch.records)

    def _begin(self, polled: Polled) -> None:
        """A new assignment: nothing read under an earlier one is ours to commit."""
        self._forget(polled.generation)
        self._ledger.stored = {p: o for p, o in self._found.items() if p in polled.positions}
        self._patience = Patience()

    def _new_batch(self) -> Batch:
        # Jitter keeps many workers from writing in step.
        factor = 1 + self.pace.jitter * (self._random() * 2 - 1)
        self._caps = replace(self.pace.caps, interval=self.pace.caps.interval * factor)
        return Batch(self.projection, self._options, self._decoder, self._ledger.generation)

    # -- flushing --------------------------------------------------------------------------------

    @property
    def _blocked(self) -> bool:
        return len(self._flushes) >= self.pace.max_in_flight and self._batch.full(self._caps) is not None

    def _flush_if_due(self) -> None:
        if len(self._flushes) >= self.pace.max_in_flight:
            return
        if trigger := self._batch.due(self._caps, self._monotonic()):
            self._launch(trigger)

    def _launch(self, trigger: str) -> None:
        flush = self._batch.close(trigger)
        self._batch = self._new_batch()
        self._send(flush)

    def _send(self, flush: Flush) -> None:
        if flush.generation == self._ledger.generation:
            # Quiet partitions ride along, so that how far they were read stays fresh.
            offsets = {**self._standing, **flush.offsets}
            reached = {
                p: max(t, flush.reached.get(p, t)) for p, t in self._read_to_end.items() if p in offsets
            }
            flush = replace(flush, offsets=offsets, reached={**flush.reached, **reached})
        self._last_write = self._monotonic()
        ticket = self._ledger.open(flush.offsets, flush.generation, flush.reached)
        task = asyncio.create_task(self._carry(flush, ticket, self._patience))
        self._flushes[task] = ticket
        task.add_done_callback(self._landed)

    async def _carry(self, flush: Flush, ticket: Ticket, patience: Patience) -> None:
        started = self._monotonic()
        try:
            outcome = await self.writer.store(flush, lambda: self._progress(flush, ticket), patience)
        except Abandoned:
            self.metrics.flush(flush.trigger, "abandoned", self._monotonic() - started)
            return
        except WentBack as error:
            self.metrics.flush(flush.trigger, "abandoned", self._monotonic() - started)
            self._give_up(ticket, error)
            return
        except BaseException:
            self.metrics.flush(flush.trigger, "failed", self._monotonic() - started)
            raise
        self._ledger.finish(ticket)
        self._committer.want()
        self._account(flush, outcome, self._monotonic() - started)

    def _progress(self, flush: Flush, ticket: Ticket) -> Sequence[Progress]:
        offsets, reached = self._ledger.note(ticket)
        stored = self._ledger.stored
        return [Progress(p, offset, reached.get(p), stored.get(p)) for p, offset in sorted(offsets.items())]

    def _give_up(self, ticket: Ticket, error: WentBack) -> None:
        """What is held was to follow rows that are gone: let the assignment go and read again."""
        if ticket.generation != self._ledger.generation:
            return
        log.error("beginning anew", projection=self.projection.name, error=error.message)
        self.metrics.restored_rewinds.inc()
        self._given_up = ticket.generation
        self._forget(-1)
        self._source.begin_anew()

    def _forget(self, generation: int) -> None:
        self._patience.end()
        self._ledger.assign(generation)
        self._batch = self._new_batch()
        self._standing, self._read_to_end = {}, {}

    def _account(self, flush: Flush, outcome: Outcome, seconds: float) -> None:
        now = self._now()
        self.last_flush = now
        self.metrics.flush(flush.trigger, "ok", seconds)
        self.metrics.stored(flush, outcome, now)
        if flush.records:
            log.info(
                "flush",
                projection=self.projection.name,
                rows=flush.row_count,
                records=flush.records,
                trigger=flush.trigger,
                milliseconds=round(seconds * 1000, 1),
            )

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._flushes[task]
        self._slot_freed.set()
        self._note_failure(task)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._failure = self._failure or error

    async def _wait_for_slot(self) -> bool:
        self._slot_freed.clear()
        try:
            async with asyncio.timeout(PAUSE_AFTER):
                await self._slot_freed.wait()
        except TimeoutError:
            return False
        self._flush_if_due()
        return True

    async def _keep_time(self) -> None:
        """Flushes on time even while a poll is held up, and tells the database of idleness."""
        while True:
            await asyncio.sleep(min(self.pace.caps.interval, self.pace.idle_refresh) / 4)
            self._flush_if_due()
            if self._idle:
                self._send(self._new_batch().close("idle"))

    @property
    def _idle(self) -> bool:
        """Whether nothing was read for a while, so that only `read_up_to` has something new to say."""
        nothing = self._ledger.unfinished == 0 and self._batch.empty and bool(self._standing)
        return nothing and self._monotonic() - self._last_write >= self.pace.idle_refresh

    # -- leaving ---------------------------------------------------------------------------------

    async def revoke(self) -> None:
        """Partitions are being taken away: finish what runs, start no retry, commit, forget the rest.

        Called by the source before the group goes on; takes at most `revoke_timeout` seconds.
        """
        self._patience.end()
        await self._settle("revoke", self.pace.revoke_timeout)
        self._forget(-1)

    async def _settle(self, trigger: str, timeout: float) -> None:
        """Finish what runs, then write what is held, and commit.

        One after the other, because alone the last flush notes all the progress there is: less than
        what was committed would look like a database restored from a backup.
        """
        deadline = self._monotonic() + timeout
        await self._finish_flushes(timeout)
        behind = any(self._ledger.stored.get(p, 0) != offset for p, offset in self._standing.items())
        if self._ledger.unfinished == 0 and (self._batch.records or behind):
            self._launch(trigger)
            await self._finish_flushes(max(0.0, deadline - self._monotonic()))
        await self._committer.commit()

    async def _finish_flushes(self, timeout: float) -> None:
        deadline = self._monotonic() + timeout
        while running := list(self._flushes):  # again, because the timer may have sent one meanwhile
            _, late = await asyncio.wait(running, timeout=max(0.0, deadline - self._monotonic()))
            for task in late:
                task.cancel()
            if late:
                log.warning("flushes given up; their records will be read again", count=len(late))
                await asyncio.gather(*late, return_exceptions=True)
