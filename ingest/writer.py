"""Makes one flush durable, whatever it takes: waits out an outage, halves what is too slow, and
splits what Postgres refuses until the offending records stand alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import structlog

from ingest.batch import Flush
from ingest.contract import Decoder
from ingest.errors import TimedOut, Unavailable, Unstorable
from ingest.metrics import ProjectionMetrics
from ingest.ports import DeadLetters, Progress, Sink, Source, Written
from ingest.projection import Projection
from ingest.record import Reason, Record, Reject
from ingest.retry import Attempts, Backoff, Bisection
from ingest.splitting import bare, entities, fold, names, only, touching

T = TypeVar("T")
log = structlog.get_logger()


class Abandoned(Exception):
    """The flush was given up on purpose: its records will be read again by whoever owns them next."""


class Patience:
    """Whether a failed attempt may still be followed by another."""

    def __init__(self) -> None:
        self._over = asyncio.Event()

    def end(self) -> None:
        """From now on a first failure is the last."""
        self._over.set()

    async def wait(self, seconds: float) -> None:
        """Wait before the next attempt; raises Abandoned once there is to be none."""
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return
        raise Abandoned


class TooSlow(Exception):
    """Three time-outs in a row, and the flush can be halved."""


@dataclass(slots=True)
class Outcome:
    """What became of a flush: rows written, and rejects that only Postgres found."""

    rows: int = 0
    suppressed: int = 0
    statements: int = 0
    rejects: list[Reject] = field(default_factory=list)

    def add(self, written: Written) -> None:
        self.rows += written.rows
        self.suppressed += written.suppressed
        self.statements += written.statements


@dataclass(slots=True)
class Writer:
    """Stores flushes of one projection. `troubles` holds the causes that keep it waiting now."""

    projection: Projection
    options: Any
    decoder: Decoder
    source: Source
    sink: Sink
    dead_letters: DeadLetters
    metrics: ProjectionMetrics
    backoff: Backoff
    now: Callable[[], datetime]
    random: Callable[[], float]
    troubles: dict[int, str] = field(default_factory=dict)

    async def store(
        self, flush: Flush, progress: Callable[[], Sequence[Progress]], patience: Patience
    ) -> Outcome:
        """Returns when everything in `flush` is durable: rows, rejects and `progress()`.

        Raises Abandoned when `patience` ended first, and Misconfigured when an operator must act.
        """
        outcome = Outcome()
        await self._publish(flush.rejects, patience)
        try:
            outcome.add(await self._insist(flush, progress, patience, flush.row_count > 1))
        except (TooSlow, Unstorable):
            await self._store_in_parts(flush, outcome, patience)
            outcome.add(await self._insist(bare(flush), progress, patience, False))
        return outcome

    async def _store_in_parts(self, flush: Flush, outcome: Outcome, patience: Patience) -> None:
        refused = await self._store_entities(flush, outcome, patience)
        if not refused:
            return
        ends = {p: flush.offsets[p] for p in flush.starts}  # quiet partitions ride along without a start
        read = await self._retry(lambda: self.source.read_again(flush.starts, ends), patience)
        guilty = touching(self.projection, self.options, self.decoder, read, self.now(), refused)
        told = entities(fold(self.projection, self.options, self.decoder, guilty, self.now()))
        if gone := refused - told:
            log.error("refused rows have no records left in the log", projection=self.projection.name)
            self.metrics.vanished(len(gone))
        await self._store_records(guilty, outcome, patience)
        await self._publish(outcome.rejects, patience)

    async def _store_entities(self, flush: Flush, outcome: Outcome, patience: Patience) -> set[Any]:
        """Stores what can be stored; returns the entities whose rows were refused."""
        refused: set[Any] = set()
        bisection = Bisection(names(flush))
        tried = True  # the whole, just now
        while part := bisection.part:
            if tried or not await self._stored(only(flush, set(part)), outcome, patience):
                if (alone := bisection.refused()) is not None:
                    refused.add(alone)
            else:
                bisection.stored()
            tried = False
        return refused

    async def _stored(self, flush: Flush, outcome: Outcome, patience: Patience) -> bool:
        """Whether the rows could be stored as they are."""
        try:
            outcome.add(await self._insist(flush, tuple, patience, flush.row_count > 1))
        except (TooSlow, Unstorable):
            return False
        return True

    async def _store_records(self, records: Sequence[Record], outcome: Outcome, patience: Patience) -> None:
        """Stores what can be stored; the records that stand alone and are refused become rejects."""
        bisection = Bisection(records)
        while part := bisection.part:
            flush = fold(self.projection, self.options, self.decoder, part, self.now())
            try:
                outcome.add(await self._insist(flush, tuple, patience, len(part) > 1))
                bisection.stored()
            except TooSlow:
                bisection.refused()
            except Unstorable as error:
                if (alone := bisection.refused()) is not None:
                    reject = Reject(alone, Reason.UNSTORABLE, error.message, error.sqlstate, error.constraint)
                    outcome.rejects.append(reject)

    async def _publish(self, rejects: Sequence[Reject], patience: Patience) -> None:
        if rejects:
            await self._retry(lambda: self.dead_letters.publish(rejects, self.projection.name), patience)
            self.metrics.dead_letters(rejects)

    async def _insist(
        self, flush: Flush, progress: Callable[[], Sequence[Progress]], patience: Patience, splittable: bool
    ) -> Written:
        return await self._retry(lambda: self.sink.write(flush, progress()), patience, splittable)

    async def _retry(
        self, attempt: Callable[[], Awaitable[T]], patience: Patience, splittable: bool = False
    ) -> T:
        """`attempt` again and again; raises TooSlow after three time-outs in a row of a splittable flush."""
        attempts = Attempts(self.backoff)
        try:
            while True:
                try:
                    return await attempt()
                except Unavailable as error:
                    delay = attempts.failed(0.0, self.random, timed_out=isinstance(error, TimedOut))
                    self._note(attempts, error)
                    if splittable and attempts.must_halve:
                        raise TooSlow from error
                await patience.wait(delay)
        finally:
            self.troubles.pop(id(attempts), None)

    def _note(self, attempts: Attempts, error: Unavailable) -> None:
        self.metrics.retry(error.cause)
        if attempts.failures == 1:
            name = self.projection.name
            log.warning("waiting to retry", projection=name, cause=error.cause, error=error.message)
        self.troubles[id(attempts)] = error.cause
