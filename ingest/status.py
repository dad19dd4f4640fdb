"""How far each projection is, what is wrong, and which command mends it.

`gather` asks Kafka and Postgres and goes on where one of them does not answer; `judge` is pure.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from ingest.errors import IngestError, Misconfigured
from ingest.kafka.lookup import Group
from ingest.projection import Projection
from ingest.record import Offsets, Partition
from ingest.settings import KafkaSettings

BEHIND = timedelta(minutes=5)  # a worker this far behind the clock does not keep up


class Brokers(Protocol):
    """What is asked of Kafka here."""

    async def topics(self, names: Collection[str]) -> Mapping[str, int]: ...
    async def beginnings(self, partitions: Collection[Partition]) -> Offsets: ...
    async def stable_ends(self, partitions: Collection[Partition]) -> Offsets: ...
    async def committed(self, group: str, partitions: Collection[Partition]) -> Offsets: ...
    async def group(self, name: str) -> Group: ...


class Database(Protocol):
    """What is asked of Postgres here."""

    @property
    def sql(self) -> Mapping[str, str]: ...

    async def fetch(self, text: str, *arguments: Any, what: str = "") -> Sequence[Mapping[str, Any]]: ...
    async def value(self, text: str, *arguments: Any, what: str = "") -> Any: ...


class Stored(NamedTuple):
    """A row of ingest_progress, but for its key."""

    next_offset: int | None = None
    read_up_to: datetime | None = None


class Lag(NamedTuple):
    """One partition as one projection reads it. `lag` counts the records after the group's commit."""

    projection: str
    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int
    next_offset: int | None
    read_up_to: datetime | None


class Trouble(NamedTuple):
    """What is wrong and the command or step that mends it."""

    what: str
    mend: str


@dataclass(slots=True, kw_only=True)
class Facts:
    """What is known; None where nobody could say."""

    partitions: dict[str, list[Lag]] = field(default_factory=dict)  # by projection, of topics that exist
    missing_topics: list[str] = field(default_factory=list)
    members: dict[str, int | None] = field(default_factory=dict)  # workers in each projection's group
    pending: int | None = None  # migrations
    clock: datetime | None = None
    dead_letters: int | None = None
    refused: list[Trouble] = field(default_factory=list)  # whoever did not answer


class Summary(NamedTuple):
    """One projection in a line."""

    projection: str
    workers: int | None
    partitions: int
    lag: int
    as_of: datetime | None
    behind: timedelta | None


def group_of(projection: str) -> str:
    """The consumer group that reads for a projection."""
    return f"activity-ingest.{projection}"


async def stored_progress(database: Database) -> dict[tuple[str, Partition], Stored]:
    """Every row of ingest_progress by projection and partition."""
    rows = await database.fetch(database.sql["progress"], what="ingest_progress")
    return {
        (r["projection"], Partition(r["topic"], r["partition"])): Stored(r["next_offset"], r["read_up_to"])
        for r in rows
    }


async def lags(
    brokers: Brokers, stored: Mapping[tuple[str, Partition], Stored], projection: str, topic: str
) -> list[Lag]:
    """Every partition of the topic, in order; none where the topic does not exist."""
    count = (await brokers.topics([topic])).get(topic, 0)
    partitions = [Partition(topic, number) for number in range(count)]
    begins, ends = await brokers.beginnings(partitions), await brokers.stable_ends(partitions)
    commits = await brokers.committed(group_of(projection), partitions)
    found = []
    for p in partitions:
        committed, end = commits.get(p), ends[p]
        behind = max(0, end - max(begins[p], committed or 0))
        progress = stored.get((projection, p), Stored())
        found.append(Lag(projection, topic, p.number, committed, end, behind, *progress))
    return found


def summaries(facts: Facts, projections: Sequence[Projection]) -> list[Summary]:
    """A line for each projection."""
    found = []
    for projection in projections:
        parts = facts.partitions.get(projection.name, [])
        moments = [part.read_up_to for part in parts]
        as_of = min((m for m in moments if m), default=None) if None not in moments else None
        behind = facts.clock - as_of if facts.clock and as_of else None
        workers = facts.members.get(projection.name)
        found.append(Summary(projection.name, workers, len(parts), sum(p.lag for p in parts), as_of, behind))
    return found


def judge(facts: Facts, projections: Sequence[Projection]) -> list[Trouble]:
    """What is wrong, the causes before what follows from them."""
    troubles = list(facts.refused)
    if facts.missing_topics:
        named = ", ".join(facts.missing_topics)
        troubles.append(Trouble(f"there is no topic {named}", "activity-ingest topics --create"))
    if facts.pending:
        troubles.append(Trouble(f"{facts.pending} migrations are pending", "activity-ingest migrate"))
    lines = summaries(facts, projections)
    if alone := [line for line in lines if line.workers == 0 and line.lag]:
        names = [line.projection for line in alone]
        what = f"no worker for {', '.join(names)}, and {sum(line.lag for line in alone):,} records wait"
        wanted = [] if len(alone) == len(lines) else names
        troubles.append(Trouble(what, " ".join(["activity-ingest run", *wanted])))
    for line in lines:
        if line.workers and line.behind and line.behind > BEHIND:
            minutes = int(line.behind.total_seconds() // 60)
            what = f"{line.projection}: {minutes:,} minutes behind, and {line.lag:,} records wait"
            troubles.append(Trouble(what, "start another worker: activity-ingest run"))
    return troubles


async def gather(
    brokers: AbstractAsyncContextManager[Brokers],
    database: Database,
    pending: Callable[[], Awaitable[int]],
    projections: Sequence[Projection],
    kafka: KafkaSettings,
) -> Facts:
    """Everything that can be found out now; whoever does not answer is among `refused`."""
    facts = Facts()
    stored: Mapping[tuple[str, Partition], Stored] = {}
    try:
        facts.pending = await pending()
        facts.clock = await database.value(database.sql["clock"])
        stored = {} if facts.pending else await stored_progress(database)
    except IngestError as error:
        facts.refused.append(refusal(error))
    try:
        async with brokers as answering:
            await _ask(answering, facts, stored, projections, kafka)
    except IngestError as error:
        facts.refused.append(refusal(error))
    return facts


async def _ask(
    brokers: Brokers,
    facts: Facts,
    stored: Mapping[tuple[str, Partition], Stored],
    projections: Sequence[Projection],
    kafka: KafkaSettings,
) -> None:
    wanted = sorted({kafka.topic(p.topic) for p in projections} | {kafka.dead_letter_topic})
    there = await brokers.topics(wanted)
    facts.missing_topics = [topic for topic in wanted if topic not in there]
    for projection in projections:
        topic = kafka.topic(projection.topic)
        facts.partitions[projection.name] = await lags(brokers, stored, projection.name, topic)
        facts.members[projection.name] = await _members(brokers, projection.name)
    letters = [Partition(kafka.dead_letter_topic, n) for n in range(there.get(kafka.dead_letter_topic, 0))]
    begins, ends = await brokers.beginnings(letters), await brokers.stable_ends(letters)
    facts.dead_letters = sum(ends[p] - begins[p] for p in letters)


async def _members(brokers: Brokers, projection: str) -> int | None:
    """Workers in the projection's group; None where this cluster does not say."""
    try:
        return len((await brokers.group(group_of(projection))).members)
    except IngestError:
        return None


def refusal(error: IngestError) -> Trouble:
    """Somebody who did not answer, as trouble."""
    return Trouble(
        error.message, error.mend if isinstance(error, Misconfigured) else "activity-ingest doctor"
    )
