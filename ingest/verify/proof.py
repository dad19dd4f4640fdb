"""The steps of a proof: wait for the workers, fold the log, look at one snapshot, compare.

The log is read before the snapshot is taken, so that no transaction stays open meanwhile. What came
in between must be in the rows up to where the snapshot says that it is durable; from there to the
end of the log, as asked for after the snapshot was taken, it may be in the rows or not.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ingest.errors import IngestError, Misconfigured
from ingest.postgres.pins import plain, variable
from ingest.projection import Key, pinned_names
from ingest.record import Offsets, Partition
from ingest.verify.compare import Comparison, column_names
from ingest.verify.folding import Folding, LetterBox, TooMuch
from ingest.verify.ports import Brokers, Read, Snapshots, Stored
from ingest.verify.report import Proof, Report, TableReport
from ingest.verify.terms import Subject, Terms

LOOK_S = 0.25  # between two looks at the group's commits
NO_WORKER = "is a worker running? activity-ingest run {} --until-caught-up"
RESTORED = (
    "Postgres stands behind the group's commits: if it was restored from a backup,"
    " start a worker and try again"
)
ADOPTED = (
    "rows may hold what was there before the first event:"
    " activity-ingest verify --covered proves that they contain the log"
)
TRUNCATED = "the dead-letter topic has lost its oldest records: whether every reject is there cannot be told"
VALID_NOW = "{} dead-lettered records are valid now; the rows are expected to hold them: publish them again"


async def verify(
    subject: Subject, brokers: Brokers, read: Read, database: Snapshots, terms: Terms | None = None
) -> Report:
    """Prove or refute that the projection's tables hold its log.

    Raises Unavailable where Kafka or Postgres cannot be reached, Misconfigured where a topic or a
    table is missing.
    """
    with _uncollected():
        return await _Proof(subject, brokers, read, database, terms or Terms()).run()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Millions of remembered facts and no cycle among them: the collector would double the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(slots=True)
class _Span:
    """Offsets of the log: its beginning, the noted ends, what is durable, what may have been read.

    `progress` is what Postgres says was durable.
    """

    first: Offsets
    noted: Offsets
    durable: Offsets = field(default_factory=dict)
    last: Offsets = field(default_factory=dict)
    progress: Offsets = field(default_factory=dict)

    @property
    def offsets(self) -> int:
        return sum(end - self.first.get(p, 0) for p, end in (self.last or self.noted).items())

    @property
    def meanwhile(self) -> int:
        """Offsets of which it is not known whether they are in the rows."""
        return sum(end - self.durable[p] for p, end in self.last.items())

    @property
    def restored(self) -> bool:
        """Whether Postgres knows of less than was committed."""
        return any(self.progress.get(p, 0) < end for p, end in self.noted.items() if end > self.first[p])


class _Proof:
    def __init__(
        self, subject: Subject, brokers: Brokers, read: Read, database: Snapshots, terms: Terms
    ) -> None:
        self.subject, self.brokers, self.database, self.terms = subject, brokers, database, terms
        self.read = read
        self.letter_box = LetterBox(subject, brokers, read)
        self.started = terms.monotonic()

    async def run(self) -> Report:
        partitions = await self._partitions()
        span = _Span(await self.brokers.beginnings(partitions), await self.brokers.stable_ends(partitions))
        if behind := await self._behind(span):
            return self._waiting(behind)
        await self.letter_box.read_on()
        folding = await self._folded(span)
        async with self.database.snapshot() as (stored, _):
            await self._same_settings(stored)
            await self._go_on(span, folding, stored)
            proof, why = await self._kind(span, folding.records)
            tables = await self._compare(proof, folding, stored)
            for index in range(1, folding.shares):
                another = folding.again(index, folding.shares)
                await another.must(span.first, span.durable, span.offsets)
                await another.may(span.durable, span.last)
                more = await self._compare(proof, another, stored)
                tables = [table + part for table, part in zip(tables, more, strict=True)]
        return self._report(proof, why, folding, tables, span)

    async def _folded(self, span: _Span) -> Folding:
        """The log up to the noted ends, or the first of as many shares as memory calls for."""
        given = self.subject, self.brokers, self.read, self.terms
        folding = Folding(*given, self.letter_box.letters, self.terms.clock())
        while True:
            try:
                await folding.must(span.first, span.noted, span.offsets, limited=True)
                return folding
            except TooMuch as error:
                shares = error.shares
            folding.forget()
            folding = folding.again(0, shares)

    async def _partitions(self) -> list[Partition]:
        topic = self.subject.topic
        count = (await self.brokers.topics([topic])).get(topic)
        if count is None:
            raise Misconfigured(f"topic {topic} does not exist", "activity-ingest topics --create")
        return [Partition(topic, number) for number in range(count)]

    async def _behind(self, span: _Span) -> int:
        """Records below the noted ends that the group has not committed when waiting is over."""
        limit = self.terms.monotonic() + (self.terms.timeout or 0)
        while True:
            committed = await self.brokers.committed(self.subject.group, list(span.noted))
            stands = {p: max(first, committed.get(p, first)) for p, first in span.first.items()}
            behind = sum(max(0, end - stands[p]) for p, end in span.noted.items())
            late = self.terms.timeout is not None and self.terms.monotonic() >= limit
            if not behind or not self.terms.wait or late:
                return behind
            self.terms.progress("waiting for the workers", span.offsets - behind, span.offsets)
            await self.terms.sleep(LOOK_S)

    async def _same_settings(self, stored: Stored) -> None:
        """The rows were made under the stored settings; under others they would only seem wrong."""
        projection, ours = self.subject.projection, self.subject.options.model_dump()
        for row in await stored.fetch(self.database.sql["settings"], projection.name):
            name, value = row["name"], row["value"]
            if name in pinned_names(projection.options) and plain(ours[name]) != value:
                raise Misconfigured(
                    f"{projection.name}: {name} is {plain(ours[name])} here, the rows were made with {value}",
                    f"set {variable(projection.name, name)}={value}",
                )

    async def _go_on(self, span: _Span, folding: Folding, stored: Stored) -> None:
        """Fold what became durable since the ends were noted, and set aside what may have."""
        partitions = await self._partitions()
        rows = await stored.fetch(
            self.database.sql["start_offsets"],
            self.subject.projection.name,
            self.subject.topic,
            [p.number for p in partitions],
        )
        span.progress = {Partition(self.subject.topic, row["partition"]): row["next_offset"] for row in rows}
        span.last = await self.brokers.stable_ends(partitions)
        noted = {p: span.noted.get(p, 0) for p in partitions}
        span.durable = {p: min(max(noted[p], span.progress.get(p, 0)), end) for p, end in span.last.items()}
        if span.last != span.noted:
            await self.letter_box.read_on()
            await folding.must(noted, span.durable, span.offsets)
            await folding.may(span.durable, span.last)

    async def _kind(self, span: _Span, records: int) -> tuple[Proof, str]:
        """What can be proved of this log, and why."""
        topic = self.subject.topic
        if self.terms.covered:
            return Proof.COVERAGE, "no more was asked for"
        now_first = await self.brokers.beginnings(list(span.last))
        for partition, end in sorted(span.last.items()):
            name = f"{topic}:{partition.number}"
            first = max(now_first[partition], span.first.get(partition, 0))
            if first > 0:
                return Proof.COVERAGE, f"{name} begins at offset {first}: what came before it is gone"
            if (read := span.progress.get(partition, 0)) > end:
                return (
                    Proof.COVERAGE,
                    f"{name} ends at {end}, but was once read to {read}: the topic was made anew",
                )
        if holes := span.offsets - records:
            policy = await self._policy()
            if policy is None or "compact" in policy:
                what = "is compacted" if policy else "may be compacted (the broker does not say)"
                return Proof.COVERAGE, f"{topic} {what}: {holes} of its offsets hold no record"
        why = "the log is whole: it begins at offset 0 and is not compacted"
        if span.meanwhile:
            why += f"; {span.meanwhile} records came meanwhile and may be in the rows or not"
        return Proof.EQUALITY, why

    async def _policy(self) -> str | None:
        with suppress(IngestError):
            return (await self.brokers.settings(self.subject.topic)).get("cleanup.policy")
        return None

    async def _compare(self, proof: Proof, folding: Folding, stored: Stored) -> list[TableReport]:
        """The tables of one share; a second look, with optional events in, where a row calls for it."""
        expected = self._expected(folding)
        comparisons = [
            Comparison(table, column_names(text), expected.pop(table, {}), proof, folding.within)
            for table, text in self.subject.verifies.items()
        ]
        for comparison in comparisons:
            done = 0
            async for rows in stored.stream(self.subject.verifies[comparison.table]):
                comparison.rows(folding.ours(rows))
                done += len(rows)
                self.terms.progress(f"comparing {comparison.table}", done, comparison.keys)
            comparison.finish()
        reports = self._second_look(comparisons, folding)
        folding.forget()
        return reports

    def _expected(self, folding: Folding) -> dict[str, dict[Key, tuple[Any, ...]]]:
        expected = folding.expected()
        if strangers := expected.keys() - self.subject.verifies.keys():
            name = self.subject.projection.name
            raise Misconfigured(
                f"the reference of {name} tells of {min(strangers)}, which nothing selects",
                f"add '-- verify {min(strangers)}' to sql/{name}.sql",
            )
        return expected

    def _second_look(self, comparisons: Sequence[Comparison], folding: Folding) -> list[TableReport]:
        if not folding.judge.may or not any(c.suspects for c in comparisons):
            return [comparison.report() for comparison in comparisons]
        folding.fold_optional()
        most = folding.expected()
        return [comparison.report(most.get(comparison.table, {})) for comparison in comparisons]

    def _waiting(self, behind: int) -> Report:
        name = self.subject.projection.name
        return Report(
            projection=name,
            why=f"group {self.subject.group} has {behind:,} records yet to commit",
            behind=behind,
            hints=[NO_WORKER.format(name)],
            seconds=self.terms.monotonic() - self.started,
        )

    def _report(
        self, proof: Proof, why: str, folding: Folding, tables: list[TableReport], span: _Span
    ) -> Report:
        judge, letters = folding.judge, folding.letters
        wrong = any(table.different for table in tables)
        more = proof is Proof.EQUALITY and any(table.extra or table.unequal for table in tables)
        notes = [(not letters.whole, TRUNCATED), (judge.valid_letters, VALID_NOW.format(judge.valid_letters))]
        hints = [(wrong and span.restored, RESTORED), (more, ADOPTED)]
        return Report(
            projection=self.subject.projection.name,
            proof=proof,
            why=why,
            events=folding.events,
            optional=len(judge.may),
            tables=tables,
            dead_letters=letters.by_reason(self.subject.topic),
            lost=judge.lost.total(),
            lost_origins=judge.lost_origins,
            notes=[text for due, text in notes if due],
            hints=[text for due, text in hints if due],
            seconds=self.terms.monotonic() - self.started,
        )
