"""Reads the log, and what was dead-lettered of it, into the projection's reference."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from ingest.record import Offsets, Partition, Record
from ingest.verify.judge import Judge
from ingest.verify.letters import Letters
from ingest.verify.ports import Brokers, Read
from ingest.verify.terms import Subject, Terms


class Folding:
    """`reference` holds the events that the rows must hold; `judge.may` those they may.

    `records` and `events` count what was read and what was folded.
    """

    def __init__(self, subject: Subject, brokers: Brokers, read: Read, terms: Terms) -> None:
        self._brokers, self._read = brokers, read
        self._dead_letter_topic = subject.dead_letter_topic
        self._progress: Callable[[str, int, int], None] = terms.progress
        self.letters = Letters(subject.projection.name)
        self.judge = Judge(subject.decoder, self.letters, terms.clock(), subject.skew)
        self.reference: Any = subject.projection.reference(subject.options)
        self.records = self.events = 0
        self._letters_read: Offsets = {}

    async def read_letters(self) -> None:
        """Take note of what was dead-lettered since the last time."""
        topic = self._dead_letter_topic
        count = (await self._brokers.topics([topic])).get(topic, 0)
        partitions = [Partition(topic, number) for number in range(count)]
        first = await self._brokers.beginnings(partitions)
        ends = await self._brokers.stable_ends(partitions)
        self.letters.whole = self.letters.whole and not any(first.values())
        starts = {p: max(start, self._letters_read.get(p, start)) for p, start in first.items()}
        async for _, records in self._chunks(starts, ends):
            self.letters.add(records)
        self._letters_read = ends

    async def must(self, starts: Offsets, ends: Offsets, total: int) -> None:
        """Fold records that are durable; of `total` records, for the progress."""
        add = self.reference.add
        async for partition, records in self._chunks(starts, ends):
            events = self.judge.must(partition, records)
            for event in events:
                add(event)
            self.events += len(events)
            self.records += len(records)
            self._progress("reading the log", self.records, total)

    async def may(self, starts: Offsets, ends: Offsets) -> None:
        """Set records aside that may be in the rows or not."""
        async for _, records in self._chunks(starts, ends):
            self.judge.tail(records)
            self.records += len(records)

    def fold_optional(self) -> None:
        """From now on the reference holds all that the rows may hold."""
        for event in self.judge.may:
            self.reference.add(event)

    async def _chunks(
        self, starts: Offsets, ends: Offsets
    ) -> AsyncIterator[tuple[Partition, Sequence[Record]]]:
        due = {p: start for p, start in starts.items() if start < ends.get(p, 0)}
        if due:
            async for partition, records in self._read(due, {p: ends[p] for p in due}):
                yield partition, records
