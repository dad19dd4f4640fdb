"""A log as brokers would tell of it, for what only asks them: no socket, no group."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ingest.errors import Unavailable
from ingest.kafka.deadletters import ORIGIN
from ingest.record import Offsets, Partition, Record
from tests.strategies import PlainRecord

LETTERS = "activity.dead-letters"


def letter(
    offset: int, reason: str, projection: str = "client_activity", topic: str = "activity.client"
) -> PlainRecord:
    """A dead letter, but for what it is of no interest here."""
    headers = {
        ORIGIN: f"{topic}:0:{offset}",
        "activity-reason": reason,
        "activity-projection": projection,
    }
    return PlainRecord(b"", LETTERS, headers=[(name, text.encode()) for name, text in headers.items()])


@dataclass
class Kafka:
    """A log as the brokers would tell of it: records at their offsets, holes where there are none."""

    records: list[PlainRecord] = field(default_factory=list)
    firsts: dict[Partition, int] = field(default_factory=dict)
    ends: dict[Partition, int] = field(default_factory=dict)
    commits: list[Offsets] = field(default_factory=list)
    policy: str | None = "delete"
    arriving: list[PlainRecord] = field(default_factory=list)
    """Appended once the log was read."""

    def append(self, topic: str, *values: bytes | PlainRecord) -> None:
        partition = Partition(topic, 0)
        for value in values:
            record = PlainRecord(value) if isinstance(value, bytes) else value
            offset = self.ends.get(partition, self.firsts.get(partition, 0))
            self.records.append(replace(record, topic=topic, offset=offset))
            self.ends[partition] = offset + 1

    def skip(self, topic: str, offsets: int) -> None:
        self.ends[Partition(topic, 0)] = self.ends.get(Partition(topic, 0), 0) + offsets

    async def topics(self, names: Collection[str]) -> Mapping[str, int]:
        return {p.topic: 1 for p in self.ends if p.topic in names}

    async def settings(self, topic: str) -> Mapping[str, str]:
        if self.policy is None:
            raise Unavailable("asking for settings", "kafka")
        return {"cleanup.policy": self.policy}

    async def beginnings(self, partitions: Collection[Partition]) -> Offsets:
        return {p: self.firsts.get(p, 0) for p in partitions}

    async def stable_ends(self, partitions: Collection[Partition]) -> Offsets:
        return {p: self.ends[p] for p in partitions}

    async def committed(self, group: str, partitions: Collection[Partition]) -> Offsets:
        if not self.commits:
            return await self.stable_ends(partitions)
        return self.commits.pop(0) if len(self.commits) > 1 else self.commits[0]

    async def read(
        self, starts: Offsets, ends: Offsets
    ) -> AsyncGenerator[tuple[Partition, Sequence[Record]], None]:
        for partition, start in starts.items():
            found = [r for r in self.records if (r.topic, r.partition) == partition]
            yield partition, [r for r in found if start <= r.offset < ends[partition]]
        arriving, self.arriving = self.arriving, []
        for record in arriving:
            self.append(record.topic, record)
