"""Verify against real tables: it accepts what the sink has written, and finds each thing that is spoilt."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.batch import Batch
from ingest.contract import (
    ClientSeen,
    CourseViewed,
    Event,
    LessonCompleted,
    LessonViewed,
    LiveEnded,
    LiveHeartbeat,
    ProblemSolved,
    ProblemViewed,
    SessionRefreshed,
    StreakImported,
    UserActive,
    UserLoggedIn,
)
from ingest.errors import Misconfigured, Unavailable
from ingest.kafka import Connection, LogReader, Lookup, Publisher
from ingest.ports import Progress
from ingest.postgres import Database, PostgresSink
from ingest.postgres.pins import put_settings
from ingest.projection import Projection, pinned_names
from ingest.record import Offsets, Partition, Record
from ingest.registry import load
from ingest.service import run
from ingest.settings import Settings
from ingest.settings import load as load_settings
from ingest.topics import create
from ingest.verify import Proof, Report, Subject, Terms, verify
from tests.integration.postgres_tools import opened
from tests.kafka import QUICK
from tests.strategies import PlainRecord, event
from tests.toldlog import Kafka

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)
REGISTRY = load()
PROJECTIONS = tuple(REGISTRY.projections)
SETTINGS: Settings = load_settings(
    [(p.name, p.options) for p in REGISTRY.projections.values()], env_file=None
)


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def user(kind: type[Event], time: datetime, name: str = "ann", **data: Any) -> bytes:
    return event(kind, time, user_id=name, **data)


def beat(time: datetime, session: str = "s1", **data: Any) -> bytes:
    return user(LiveHeartbeat, time, session_id=session, activity_type="watching", **data)


LOGS: dict[str, Sequence[bytes]] = {
    "activity.client": (
        event(ClientSeen, ago(minutes=3), client_id="web"),
        event(ClientSeen, ago(days=3), client_id="web"),
        event(ClientSeen, ago(hours=3), client_id="tv"),
    ),
    "activity.user": (
        user(UserLoggedIn, ago(days=2)),
        user(SessionRefreshed, ago(days=1), timezone="Asia/Kathmandu"),
        user(UserActive, ago(minutes=9), "bob", timezone="-03:30"),
        *(user(ProblemSolved, ago(days=2), problem_id=f"p{n % 3}") for n in range(5)),
        user(ProblemViewed, ago(days=2), problem_id="p9"),
        user(LessonViewed, ago(days=2), lesson_id="l1"),
        user(LessonCompleted, ago(days=2), lesson_id="l0"),
        user(CourseViewed, ago(days=2), course_id="c"),
        event(StreakImported, ago(days=1), user_id="cid", current_streak=4, max_streak=9,
              last_activity_date=ago(days=5).date()),
    ),
    "activity.live": (
        beat(ago(minutes=5), content_title="Dune", current_position=10),
        beat(ago(minutes=4), content_title="Dune", current_position=70),
        beat(ago(days=1), "s2", country="MX"),
        user(LiveEnded, ago(hours=23), session_id="s2"),
        user(LiveEnded, ago(hours=2), "bob", session_id="s3"),
    ),
}  # fmt: skip


def told(name: str) -> Kafka:
    topic = REGISTRY.projections[name].topic
    kafka = Kafka()
    kafka.append(topic, *(PlainRecord(value) for value in LOGS[topic]))
    return kafka


async def store(database: Database, name: str, records: Sequence[PlainRecord]) -> None:
    """What a worker does with these records."""
    projection, options = REGISTRY.projections[name], SETTINGS.projection(name).options
    partition = Partition(projection.topic, 0)
    await put_settings(database, name, options.model_dump(), pinned_names(projection.options))
    batch = Batch(projection, options, Subject.of(projection, REGISTRY, SETTINGS).decoder, generation=1)
    batch.add(partition, records, NOW, 0.0)
    sink = PostgresSink(database, projection, REGISTRY.sql[name])
    await sink.write(batch.close("test"), [Progress(partition, len(records), NOW)])


async def prove(database: Database, name: str, kafka: Kafka) -> Report:
    subject = Subject.of(REGISTRY.projections[name], REGISTRY, SETTINGS)
    return await verify(subject, kafka, kafka.read, database, Terms(wait=False))


async def change(database: Database, statement: str) -> None:
    async with database.transaction() as transaction:
        assert await transaction.execute(statement) in ("UPDATE 1", "DELETE 1", "INSERT 0 1")


@pytest.mark.parametrize("name", PROJECTIONS)
async def test_what_a_worker_wrote_is_proved_equal(name: str, migrated_dsn: str) -> None:
    kafka = told(name)
    async with opened(migrated_dsn) as database:
        await store(database, name, kafka.records)
        found = await prove(database, name, kafka)
    assert (found.verdict, found.proof) == ("equal", Proof.EQUALITY)
    assert found.keys.keys() == REGISTRY.sql[name].verifies.keys()
    assert all(found.keys.values())


@pytest.mark.parametrize(
    ("name", "statement", "table", "column"),
    [
        ("client_activity", "update client_activity set last_seen = now() where client_id = 'tv'",
         "client_activity", "last_seen"),
        ("user_activity", "update user_activity set last_login_time = null where user_id = 'ann'",
         "user_activity", "last_login_time"),
        ("streaks", "update streaks set max_streak = 10 where user_id = 'cid'", "streaks", "max_streak"),
        ("streaks", "update streaks set zone = 'UTC' where user_id = 'bob'", "streaks", "zone"),
        ("streaks", "update daily_total set problems_solved = 4 where problems_solved = 3",
         "daily_activity", "problems_solved"),
        ("streaks", "update daily_item set item_id = 'l2' where item_id = 'l1'",
         "daily_activity", "lesson_ids"),
        ("live_activity", "update live_activity set current_position = 10 where session_id = 's1'",
         "live_activity", "current_position"),
        ("live_activity", "update live_activity set is_active = true where session_id = 's2'",
         "live_activity", "is_active_fits_the_clock"),
    ],
)  # fmt: skip
async def test_a_spoilt_column_is_named(
    name: str, statement: str, table: str, column: str, migrated_dsn: str
) -> None:
    kafka = told(name)
    async with opened(migrated_dsn) as database:
        await store(database, name, kafka.records)
        await change(database, statement)
        found = await prove(database, name, kafka)
    assert found.verdict == "differs"
    assert [(d.table, d.column) for d in found.differences] == [(table, column)]
    assert found.differences[0].stored != found.differences[0].expected


@pytest.mark.parametrize(
    ("name", "statement", "table"),
    [
        ("client_activity", "delete from client_activity where client_id = 'tv'", "client_activity"),
        ("user_activity", "delete from user_activity where user_id = 'ann'", "user_activity"),
        ("streaks", "delete from streaks where user_id = 'ann'", "streaks"),
        ("streaks", "delete from daily_total where user_id = 'bob'", "daily_activity"),
        ("live_activity", "delete from live_activity where session_id = 's2'", "live_activity"),
    ],
)
async def test_a_row_that_was_taken_away_is_missed(
    name: str, statement: str, table: str, migrated_dsn: str
) -> None:
    kafka = told(name)
    async with opened(migrated_dsn) as database:
        await store(database, name, kafka.records)
        await change(database, statement)
        found = await prove(database, name, kafka)
    assert {t.name: t.missing for t in found.tables if t.different} == {table: 1}


@pytest.mark.parametrize(
    ("name", "statement", "table"),
    [
        ("client_activity", "insert into client_activity values ('new', now(), now())", "client_activity"),
        ("user_activity", "insert into user_activity values ('new', now(), now())", "user_activity"),
        ("streaks", "insert into streaks values ('new', now(), 1, 1)", "streaks"),
        ("streaks", "insert into daily_total values ('ann', '2020-01-01', 0, 1)", "daily_activity"),
        ("live_activity", "insert into live_activity (user_id, session_id, started_at, last_heartbeat,"
         " created_at, updated_at, is_active) values ('new', 's', 1, 1, 1, 1, false)", "live_activity"),
    ],
)  # fmt: skip
async def test_a_row_that_no_event_made_is_found(
    name: str, statement: str, table: str, migrated_dsn: str
) -> None:
    kafka = told(name)
    async with opened(migrated_dsn) as database:
        await store(database, name, kafka.records)
        await change(database, statement)
        found = await prove(database, name, kafka)
    assert {t.name: t.extra for t in found.tables if t.different} == {table: 1}


@pytest.mark.parametrize("name", PROJECTIONS)
async def test_of_a_log_without_its_beginning_the_rows_are_proved_to_hold_the_rest(
    name: str, migrated_dsn: str
) -> None:
    kafka = told(name)
    async with opened(migrated_dsn) as database:
        await store(database, name, kafka.records)
        kafka.firsts[Partition(REGISTRY.projections[name].topic, 0)] = 2
        found = await prove(database, name, kafka)
    assert (found.verdict, found.proof) == ("covered", Proof.COVERAGE)
    assert "what came before it is gone" in found.why


@pytest.mark.parametrize("name", PROJECTIONS)
async def test_rows_that_lack_the_last_event_do_not_even_hold_the_rest(name: str, migrated_dsn: str) -> None:
    kafka = told(name)
    topic = REGISTRY.projections[name].topic
    async with opened(migrated_dsn) as database:
        await store(database, name, kafka.records)
        kafka.append(topic, *(PlainRecord(LOGS[topic][0].replace(b"web", b"car").replace(b"ann", b"eve")),))
        kafka.firsts[Partition(topic, 0)] = 2
        found = await prove(database, name, kafka)
    assert found.verdict == "differs"


async def test_a_database_without_the_tables_is_set_up_wrongly(postgres_dsn: str) -> None:
    async with opened(postgres_dsn) as database:
        with pytest.raises(Misconfigured, match="does not exist"):
            await prove(database, "client_activity", told("client_activity"))


async def test_a_database_that_does_not_answer_is_unavailable() -> None:
    async with opened("postgresql://nobody@127.0.0.1:1/none") as database:
        with pytest.raises(Unavailable):
            await prove(database, "client_activity", told("client_activity"))


@pytest.mark.e2e
async def test_a_running_worker_is_waited_for_and_its_tables_are_proved_from_the_brokers(
    broker: str, migrated_dsn: str, topic_names: Callable[[str], str]
) -> None:
    overrides = of_brokers(broker, migrated_dsn, topic_names)
    options = [(p.name, p.options) for p in REGISTRY.projections.values()]
    settings = load_settings(options, overrides=overrides, env_file=None)
    connection = Connection(settings.kafka)
    await create(connection, REGISTRY, partitions=3)
    await publish(connection, settings, 500)
    chosen = REGISTRY.select(["user_activity", "streaks"])
    working = asyncio.create_task(run(REGISTRY, settings, chosen, until_caught_up=True))
    async with Lookup(connection) as lookup, opened(migrated_dsn) as database:

        def read(starts: Offsets, ends: Offsets) -> AsyncGenerator[tuple[Partition, Sequence[Record]], None]:
            return LogReader(connection, starts, ends).chunks()

        async def proved(projection: Projection) -> Report:
            subject = Subject.of(projection, REGISTRY, settings)
            return await verify(subject, lookup, read, database, Terms(timeout=60))

        reports = [await proved(projection) for projection in chosen]
        await working
        for report in reports:
            assert (report.verdict, report.proof) == ("equal", Proof.EQUALITY), report
            assert report.dead_letters == {"invalid": 5, "malformed": 5}
        await change(database, "update user_activity set last_active_time = now() where user_id = 'u7'")
        assert [d.key for d in (await proved(chosen[0])).differences] == [("u7",)]
    for names, code, verdicts in ((["user_activity"], 1, ["differs"]), (["streaks"], 0, ["equal"])):
        done = await asyncio.to_thread(command, overrides, *names)
        found = json.loads(done.stdout)
        assert (done.returncode, [report["verdict"] for report in found]) == (code, verdicts), done.stderr
    told = (await asyncio.to_thread(command, overrides, "user_activity", as_json=False)).stdout
    assert "user_activity 'u7': last_active_time is" in told


def command(env: Mapping[str, str], *names: str, as_json: bool = True) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "ingest", "verify", *names, *(["--json"] if as_json else [])]
    given = {**os.environ, **env}
    return subprocess.run(arguments, env=given, capture_output=True, text=True, check=False)


@pytest.mark.e2e
def test_the_command_says_when_nothing_can_be_reached() -> None:
    nowhere = {"KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "POSTGRES__DSN": "postgresql://x@127.0.0.1:1/y"}
    done = command({f"ACTIVITY_{name}": value for name, value in nowhere.items()})
    assert done.returncode == 3
    assert done.stderr.startswith("activity-ingest: connecting to Kafka at 127.0.0.1:1")
    assert len(done.stderr.splitlines()) == 1


def of_brokers(broker: str, dsn: str, topic_names: Callable[[str], str]) -> dict[str, str]:
    return {
        "ACTIVITY_KAFKA__BOOTSTRAP_SERVERS": broker,
        "ACTIVITY_KAFKA__TOPICS": ",".join(f"{t}={topic_names(t)}" for t in REGISTRY.topics),
        "ACTIVITY_KAFKA__DEAD_LETTER_TOPIC": topic_names("activity.dead-letters"),
        "ACTIVITY_POSTGRES__DSN": dsn,
        "ACTIVITY_KAFKA__SESSION_TIMEOUT": str(QUICK["session_timeout"]),
        "ACTIVITY_HTTP__ENABLED": "false",
        "ACTIVITY_WORKER__FLUSH_INTERVAL": "0.2",
    }


async def publish(connection: Connection, settings: Settings, count: int) -> None:
    topic = settings.kafka.topic("activity.user")
    async with Publisher(connection, [topic]) as publisher:
        for n in range(count):
            name, time = f"u{n % 50}", ago(hours=n % 300)
            kinds = (
                user(UserActive, time, name),
                user(ProblemSolved, time, name, problem_id=f"p{n % 7}"),
                user(UserLoggedIn, time, name, timezone="Asia/Kathmandu"),
            )
            await publisher.send(topic, name.encode(), kinds[n % 3], [])
        for _ in range(5):
            await publisher.send(topic, None, b"nonsense", [])
            await publisher.send(topic, None, user(UserActive, NOW, ""), [])
        await publisher.flush()
