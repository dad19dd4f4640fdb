import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.errors import Misconfigured, Unavailable
from ingest.kafka import Group
from ingest.projection import Projection
from ingest.record import Offsets, Partition
from ingest.registry import load
from ingest.settings import KafkaSettings
from ingest.status import Facts, Lag, Trouble, gather, judge, summaries

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
PROJECTIONS = list(load().projections.values())
STREAKS = [p for p in PROJECTIONS if p.name == "streaks"]
KAFKA = KafkaSettings(bootstrap_servers="k:9092", topics={"activity.user": "prod.user"})


@dataclass
class Cluster:
    """Brokers with two partitions of each of these topics, of which the second was never committed."""

    there: Mapping[str, int] = field(default_factory=lambda: {"prod.user": 2, "activity.dead-letters": 1})
    members: int | None = 1

    async def topics(self, names: Collection[str]) -> Mapping[str, int]:
        return {name: count for name, count in self.there.items() if name in names}

    async def beginnings(self, partitions: Collection[Partition]) -> Offsets:
        return dict.fromkeys(partitions, 10)

    async def stable_ends(self, partitions: Collection[Partition]) -> Offsets:
        return dict.fromkeys(partitions, 100)

    async def committed(self, group: str, partitions: Collection[Partition]) -> Offsets:
        assert group == "activity-ingest.streaks"
        return {partition: 70 for partition in partitions if partition.number == 0}

    async def group(self, name: str) -> Group:
        if self.members is None:
            raise Unavailable("this cluster does not say", "kafka")
        return Group("Stable", ("worker",) * self.members)


class Tables:
    """A database whose ingest_progress knows both partitions."""

    sql: Mapping[str, str] = {"clock": "clock", "progress": "progress"}

    async def value(self, text: str, *arguments: Any, what: str = "") -> Any:
        return NOW

    async def fetch(self, text: str, *arguments: Any, what: str = "") -> Sequence[Mapping[str, Any]]:
        at = NOW - timedelta(minutes=2)
        return [
            {
                "projection": "streaks",
                "topic": "prod.user",
                "partition": n,
                "next_offset": 71,
                "read_up_to": at,
            }
            for n in (0, 1)
        ]


class Down:
    """Refuses whoever comes."""

    sql: Mapping[str, str] = Tables.sql

    async def __aenter__(self) -> Any:
        raise Unavailable("Kafka at k:9092 is not ready", "kafka")

    async def __aexit__(self, *raised: object) -> None: ...

    async def value(self, text: str, *arguments: Any, what: str = "") -> Any:
        raise Misconfigured("Postgres: no such role", "create it")

    async def fetch(self, text: str, *arguments: Any, what: str = "") -> Sequence[Mapping[str, Any]]:
        raise AssertionError("not asked after the first refusal")


def found(
    brokers: AbstractAsyncContextManager[Any],
    tables: Any = None,
    pending: int = 0,
    of: Sequence[Projection] = STREAKS,
) -> Facts:
    async def count() -> int:
        return pending

    return asyncio.run(gather(brokers, tables or Tables(), count, of, KAFKA))


def lag(count: int, behind: timedelta | None = None, number: int = 0) -> Lag:
    return Lag("streaks", "t", number, 0, count, count, 0, None if behind is None else NOW - behind)


def facts(*partitions: Lag, workers: int | None = 1) -> Facts:
    return Facts(partitions={"streaks": [*partitions]}, members={"streaks": workers}, clock=NOW, pending=0)


def test_each_partition_tells_where_its_group_and_its_tables_are() -> None:
    first, second = found(nullcontext(Cluster())).partitions["streaks"]
    up_to = NOW - timedelta(minutes=2)
    assert first == Lag("streaks", "prod.user", 0, 70, 100, 30, 71, up_to)
    assert second == Lag("streaks", "prod.user", 1, None, 100, 90, 71, up_to)


def test_dead_letters_workers_and_the_least_read_up_to_are_told() -> None:
    known = found(nullcontext(Cluster()))
    (line,) = summaries(known, STREAKS)
    assert known.dead_letters == 90
    assert line == ("streaks", 1, 2, 120, NOW - timedelta(minutes=2), timedelta(minutes=2))
    assert judge(known, STREAKS) == []


def test_as_of_is_unknown_while_one_partition_is() -> None:
    (line,) = summaries(facts(lag(0, timedelta(seconds=1)), lag(0, None, 1)), STREAKS)
    assert (line.as_of, line.behind) == (None, None)


def test_a_cluster_that_does_not_tell_members_is_no_trouble() -> None:
    known = found(nullcontext(Cluster(members=None)))
    assert known.members == {"streaks": None}
    assert judge(known, STREAKS) == []


def test_missing_topics_are_named_with_the_command_that_makes_them() -> None:
    known = found(nullcontext(Cluster(there={"prod.user": 2})))
    assert judge(known, STREAKS) == [
        Trouble("there is no topic activity.dead-letters", "activity-ingest topics --create")
    ]


def test_a_schema_that_is_not_there_yet_hides_nothing_else() -> None:
    known = found(nullcontext(Cluster()), pending=3)
    assert judge(known, STREAKS) == [Trouble("3 migrations are pending", "activity-ingest migrate")]
    assert [part.lag for part in known.partitions["streaks"]] == [30, 90]


def test_where_kafka_does_not_answer_postgres_is_still_asked() -> None:
    known = found(Down(), pending=1)
    assert judge(known, STREAKS) == [
        Trouble("Kafka at k:9092 is not ready", "activity-ingest doctor"),
        Trouble("1 migrations are pending", "activity-ingest migrate"),
    ]


def test_where_postgres_refuses_us_kafka_is_still_asked() -> None:
    known = found(nullcontext(Cluster()), Down())
    assert judge(known, STREAKS) == [Trouble("Postgres: no such role", "create it")]
    assert [part.lag for part in known.partitions["streaks"]] == [30, 90]


@pytest.mark.parametrize(
    ("count", "workers", "behind", "mend"),
    [
        (0, 0, timedelta(days=1), None),
        (5, 0, timedelta(), "activity-ingest run"),
        (5, 1, timedelta(minutes=1), None),
        (5, 1, timedelta(minutes=6), "start another worker: activity-ingest run"),
        (5, None, timedelta(minutes=1), None),
    ],
)
def test_a_projection_is_in_trouble_when_nobody_reads_what_waits_or_workers_do_not_keep_up(
    count: int, workers: int | None, behind: timedelta, mend: str | None
) -> None:
    troubles = judge(facts(lag(count, behind), workers=workers), STREAKS)
    assert [trouble.mend for trouble in troubles] == ([mend] if mend else [])


def test_where_some_have_workers_the_others_are_named() -> None:
    known = facts(lag(5), workers=0)
    known.members |= {p.name: 1 for p in PROJECTIONS if p not in STREAKS}
    assert judge(known, PROJECTIONS) == [
        Trouble("no worker for streaks, and 5 records wait", "activity-ingest run streaks")
    ]
