"""Reads the log, and what was dead-lettered of it, into the projection's reference."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from math import ceil
from typing import Any

from ingest.projection import Key
from ingest.record import Offsets, Partition, Record
from ingest.verify.judge import Judge
from ingest.verify.letters import Letters
from ingest.verify.ports import Brokers, Read
from ingest.verify.shares import Share
from ingest.verify.terms import Subject, Terms


class TooMuch(Exception):
    """The facts outgrow the memory granted; `shares` is how many it may take to fold them all."""

    def __init__(self, shares: int) -> None:
        super().__init__(shares)
        self.shares = shares


class Folding:
    """One share of the log: its reference holds what the rows must hold, `judge.may` what they may.

    `records` and `events` count all that was read and may be in the rows, of any share.
    """

    def __init__(
        self,
        subject: Subject,
        brokers: Brokers,
        read: Read,
        terms: Terms,
        letters: Letters,
        now: datetime,
        index: int = 0,
        count: int = 1,
    ) -> None:
        self._subject, self._brokers, self._read, self._terms = subject, brokers, read, terms
        self._share = Share(lambda: subject.projection.reference(subject.options), index, count)
        self._reference = self._share.make()
        self._memory = terms.memory()
        self.letters, self.now = letters, now
        self.judge = Judge(subject.decoder, letters, now, subject.skew)
        self.records = self.events = 0

    @property
    def shares(self) -> int:
        return self._share.count

    def again(self, index: int, count: int) -> "Folding":
        """The same for another share, to be read from the start."""
        given = (self._subject, self._brokers, self._read, self._terms, self.letters, self.now)
        return Folding(*given, index, count)

    async def must(self, starts: Offsets, ends: Offsets, total: int, limited: bool = False) -> None:
        """Fold records that are durable; of `total` records. Raises TooMuch where `limited`."""
        add = self._reference.add
        async with aclosing(chunks(self._read, starts, ends)) as log:
            async for partition, records in log:
                events = self.judge.must(partition, records)
                for event in self._share.events(events):
                    add(event)
                self.events += len(events)
                self.records += len(records)
                self._terms.progress("reading the log", self.records, total)
                if limited and self._terms.memory() - self._memory > self._terms.memory_limit:
                    raise TooMuch(self.shares * max(2, ceil(total / self.records)))

    async def may(self, starts: Offsets, ends: Offsets) -> None:
        """Set records aside that may be in the rows or not."""
        async with aclosing(chunks(self._read, starts, ends)) as log:
            async for _, records in log:
                self.judge.tail(records)
                self.records += len(records)

    def expected(self) -> dict[str, dict[Key, tuple[Any, ...]]]:
        """The rows of this share by table."""
        return {table: self._share.expected(rows) for table, rows in self._reference.rows().items()}

    def ours(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """Of stored rows those of this share."""
        return self._share.rows(rows)

    def fold_optional(self) -> None:
        """From now on `expected` tells all that the rows may hold."""
        for event in self._share.events(self.judge.may):
            self._reference.add(event)

    def within(self, table: str, less: tuple[Any, ...], more: tuple[Any, ...]) -> bool:
        """Whether merging `less` into `more` changes nothing."""
        return self._reference.within(table, less, more)

    def forget(self) -> None:
        """Let go of the facts."""
        self._reference = self._share.make()


class LetterBox:
    """The dead-letter topic, read on and on into `letters`."""

    def __init__(self, subject: Subject, brokers: Brokers, read: Read) -> None:
        self._topic, self._brokers, self._read = subject.dead_letter_topic, brokers, read
        self._read_up_to: Offsets = {}
        self.letters = Letters(subject.projection.name)

    async def read_on(self) -> None:
        """Take note of what was dead-lettered since the last time."""
        count = (await self._brokers.topics([self._topic])).get(self._topic, 0)
        partitions = [Partition(self._topic, number) for number in range(count)]
        first = await self._brokers.beginnings(partitions)
        ends = await self._brokers.stable_ends(partitions)
        self.letters.whole = self.letters.whole and not any(first.values())
        starts = {p: max(start, self._read_up_to.get(p, start)) for p, start in first.items()}
        async with aclosing(chunks(self._read, starts, ends)) as log:
            async for _, records in log:
                self.letters.add(records)
        self._read_up_to = ends


async def chunks(
    read: Read, starts: Offsets, ends: Offsets
) -> AsyncGenerator[tuple[Partition, Sequence[Record]], None]:
    """What there is between starts and ends; nothing is asked where that is nothing."""
    due = {p: start for p, start in starts.items() if start < ends.get(p, 0)}
    if due:
        async with aclosing(read(due, {p: ends[p] for p in due})) as log:
            async for chunk in log:
                yield chunk
