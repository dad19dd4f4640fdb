"""The doctor: each check's wrong state made for real, and its mend."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from ingest.doctor import CHECKS, Finding, Level, Patient, brokers, examine, exit_code, machine
from ingest.errors import Misconfigured
from ingest.kafka import Connection, Topic, create_topics
from ingest.postgres.pins import put_settings
from ingest.projection import pinned_names
from ingest.record import LOG_APPEND_TIME
from ingest.registry import load
from ingest.settings import Settings
from ingest.settings import load as load_settings
from ingest.topics import create
from tests.conftest import create_database, database_name, drop_database, execute
from tests.integration.postgres_tools import opened
from tests.strategies import PlainRecord

pytestmark = pytest.mark.integration

REGISTRY = load()
NOWHERE = "127.0.0.1:1"
Examined = dict[str, list[Finding]]


def settings(servers: str | None, dsn: str | None, **more: str) -> Settings:
    named = {"KAFKA__BOOTSTRAP_SERVERS": servers, "POSTGRES__DSN": dsn, **more}
    overrides = {f"ACTIVITY_{name}": value for name, value in named.items() if value is not None}
    options = [(p.name, p.options) for p in REGISTRY.projections.values()]
    return load_settings(options, overrides=overrides, env_file=None)


def examined(read: Callable[[], Settings] | Settings, **more: Any) -> Examined:
    """What each check found."""

    async def all_of_it() -> list[Finding]:
        reading = read if callable(read) else lambda: read
        patient = Patient(lambda: REGISTRY, reading, **{"patience": 2.0, **more})
        return [finding async for finding in examine(patient)]

    found: Examined = {}
    for finding in asyncio.run(all_of_it()):
        found.setdefault(finding.check, []).append(finding)
    assert list(found) == [check.name for check in CHECKS]
    return found


def levels(found: Examined, check: str) -> set[Level]:
    return {finding.level for finding in found[check]}


def code(found: Examined) -> int:
    return exit_code([finding for findings in found.values() for finding in findings])


def the_wrong(found: Examined) -> Finding:
    """The only thing that is wrong."""
    (only,) = [f for findings in found.values() for f in findings if f.level is Level.WRONG]
    return only


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    """Topics of this module's own."""
    suffix = secrets.token_hex(4)
    return {
        "KAFKA__TOPICS": ",".join(f"{topic}={topic}.{suffix}" for topic in REGISTRY.topics),
        "KAFKA__DEAD_LETTER_TOPIC": f"dead.{suffix}",
    }


@pytest.fixture(scope="module")
def servers(broker: str, names: dict[str, str]) -> str:
    """Brokers that have all topics."""
    asyncio.run(create(Connection(settings(broker, None, **names).kafka), REGISTRY, partitions=2))
    return broker


async def pin(dsn: str) -> None:
    given = settings(None, dsn)
    async with opened(dsn) as database:
        for name, projection in REGISTRY.projections.items():
            values = given.projection(name).options.model_dump()
            await put_settings(database, name, values, pinned_names(projection.options))


def test_nothing_is_wrong_with_what_was_set_up_as_told(
    servers: str, names: dict[str, str], migrated_dsn: str
) -> None:
    asyncio.run(pin(migrated_dsn))
    found = examined(settings(servers, migrated_dsn, **names))
    assert code(found) == 0
    assert [c for c in found if levels(found, c) != {Level.OK}] == ["broker clock", "durability"]
    assert "no record with a broker's stamp" in found["broker clock"][0].what


def test_the_tests_own_database_is_said_to_lose_rows_in_a_crash(migrated_dsn: str) -> None:
    found = examined(settings(NOWHERE, migrated_dsn))
    assert [f.what.split()[0] for f in found["durability"]] == [
        "fsync",
        "full_page_writes",
        "synchronous_commit",
    ]
    assert levels(found, "durability") == {Level.WARNING}


def test_every_bad_setting_is_told_and_what_hangs_on_them_is_skipped() -> None:
    found = examined(lambda: settings(None, None, WORKER__MAX_ROWS="0", KAFKA__NO_SUCH="1"))
    assert [f.level for f in found["settings"]] == [Level.WRONG, Level.WRONG]
    assert code(found) == 2
    assert levels(found, "codecs") == levels(found, "event loop") == {Level.OK}
    assert {f.what for f in found["database"]} == {"needs settings to be right first"}
    assert levels(found, "next offsets") == {Level.SKIPPED}


def test_the_mend_of_settings_that_cannot_be_had_is_handed_on() -> None:
    def read() -> Settings:
        raise Misconfigured("the embedded stack is not running", "activity-ingest stack up")

    assert the_wrong(examined(read)).mend == "activity-ingest stack up"


def test_a_half_of_the_set_up_that_is_missing_is_named(servers: str, migrated_dsn: str) -> None:
    no_kafka, no_postgres = examined(settings(None, migrated_dsn)), examined(settings(servers, None))
    assert no_kafka["broker names"][0].mend == "set ACTIVITY_KAFKA__BOOTSTRAP_SERVERS"
    assert levels(no_kafka, "schema") == {Level.OK}
    assert no_postgres["database"][0].mend == "set ACTIVITY_POSTGRES__DSN"
    assert levels(no_postgres, "broker login") == {Level.OK}
    assert code(no_kafka) == code(no_postgres) == 2


def test_a_name_that_does_not_resolve_is_not_reachable(migrated_dsn: str) -> None:
    found = examined(settings("no-such-host.invalid:9092", migrated_dsn))
    assert (code(found), levels(found, "broker names")) == (3, {Level.WRONG})
    assert levels(found, "broker ports") == {Level.SKIPPED}


def test_one_bad_broker_among_good_ones_is_a_warning(
    servers: str, names: dict[str, str], migrated_dsn: str
) -> None:
    found = examined(settings(f"{NOWHERE},{servers}", migrated_dsn, **names))
    assert levels(found, "broker ports") == {Level.OK, Level.WARNING}
    assert levels(found, "topics") == {Level.OK}


def test_a_port_where_nothing_listens_is_not_reachable(migrated_dsn: str) -> None:
    found = examined(settings(NOWHERE, migrated_dsn))
    assert the_wrong(found).check == "broker ports"
    assert code(found) == 3
    assert levels(found, "database") == {Level.OK}


def test_a_listener_that_is_no_broker_is_not_reachable(migrated_dsn: str) -> None:
    found = examined(settings(urlsplit(migrated_dsn).netloc.rpartition("@")[2], migrated_dsn))
    assert (the_wrong(found).check, code(found)) == ("broker login", 3)


def test_topics_that_are_missing_are_named_and_not_made(broker: str, migrated_dsn: str) -> None:
    suffix = secrets.token_hex(4)
    topics = ",".join(f"{topic}={topic}.{suffix}" for topic in REGISTRY.topics)
    given = settings(broker, migrated_dsn, KAFKA__TOPICS=topics, KAFKA__DEAD_LETTER_TOPIC=f"dead.{suffix}")
    for _ in range(2):
        found = examined(given)
        assert len(found["topics"]) == 4
        assert {f.mend for f in found["topics"]} == {"activity-ingest topics --create"}
        assert (code(found), levels(found, "partition leaders")) == (2, {Level.SKIPPED})


def test_topics_that_lose_events_are_found(broker: str, migrated_dsn: str) -> None:
    suffix = secrets.token_hex(4)
    bad = {
        "activity.client": {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"},
        "activity.live": {"retention.ms": "60000", "message.timestamp.type": "LogAppendTime"},
        "activity.user": {"message.timestamp.type": "CreateTime"},
        "dead": {"max.message.bytes": "1000", "retention.ms": "5"},
    }
    made = [Topic(f"{name}.{suffix}", 1, 1, told) for name, told in bad.items()]
    topics = ",".join(f"{topic}={topic}.{suffix}" for topic in REGISTRY.topics)
    given = settings(broker, migrated_dsn, KAFKA__TOPICS=topics, KAFKA__DEAD_LETTER_TOPIC=f"dead.{suffix}")
    asyncio.run(create_topics(Connection(given.kafka), made))
    found = examined(given)
    assert [f.level for f in found["topic settings"]] == [Level.WRONG, Level.WARNING, Level.WARNING]
    for finding, setting in zip(
        found["topic settings"],
        ("cleanup.policy=delete", "retention.ms=604800000", "message.timestamp.type=LogAppendTime"),
        strict=True,
    ):
        assert finding.mend.endswith(f"--add-config {setting}")
    assert [f.mend.split()[-1] for f in found["dead letters"]] == [
        "max.message.bytes=2097176",
        "retention.ms=-1",
    ]
    assert code(found) == 2


def test_a_database_that_does_not_answer_is_not_reachable(servers: str, names: dict[str, str]) -> None:
    found = examined(settings(servers, f"postgresql://x@{NOWHERE}/y", **names))
    assert (the_wrong(found).check, code(found)) == ("database", 3)


@pytest.mark.parametrize("change", [{"netloc": "activity:wrong@{}"}, {"path": "/no_such_database"}])
def test_a_database_that_refuses_us_is_set_up_wrongly(change: dict[str, str], migrated_dsn: str) -> None:
    parts = urlsplit(migrated_dsn)
    where = parts.netloc.rpartition("@")[2]
    dsn = parts._replace(**{name: value.format(where) for name, value in change.items()}).geturl()
    found = examined(settings(None, dsn))
    assert found["database"][0].code == 2
    assert "wrong" not in found["database"][0].what


def test_an_empty_database_needs_migrations_and_no_rights_yet(postgres_dsn: str) -> None:
    found = examined(settings(None, postgres_dsn))
    assert found["schema"][0].mend == "activity-ingest migrate"
    assert levels(found, "rights") == levels(found, "pinned settings") == {Level.SKIPPED}


def test_a_migration_that_is_pending_is_named(migrated_dsn: str) -> None:
    asyncio.run(execute(migrated_dsn, "delete from ingest_migration where file = 'streaks'"))
    (finding,) = examined(settings(None, migrated_dsn))["schema"]
    assert "1 migrations are pending, streaks 1" in finding.what
    assert (finding.level, finding.code) == (Level.WRONG, 2)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("update ingest_migration set checksum = 'x' where file = 'streaks'", "was edited"),
        (
            "insert into ingest_migration values ('streaks', 99, 't', 99, 'x')",
            "takes workers that know version 99",
        ),
    ],
)
def test_a_schema_that_does_not_fit_this_worker_is_refused(
    statement: str, said: str, migrated_dsn: str
) -> None:
    asyncio.run(execute(migrated_dsn, statement))
    (finding,) = examined(settings(None, migrated_dsn))["schema"]
    assert said in finding.what
    assert (finding.level, finding.code) == (Level.WRONG, 2)


@asynccontextmanager
async def login(dsn: str, *grants: str) -> AsyncIterator[str]:
    """The DSN of a user who has these rights alone."""
    user = f"user_{secrets.token_hex(4)}"
    await execute(dsn, f"create role {user} login password 'p'")
    try:
        for grant in grants:
            await execute(dsn, grant.format(user))
        where = urlsplit(dsn).netloc.rpartition("@")[2]
        yield urlsplit(dsn)._replace(netloc=f"{user}:p@{where}").geturl()
    finally:
        await execute(dsn, f"drop owned by {user}; drop role {user}")


async def findings_of(dsn: str, check: str) -> Sequence[Finding]:
    return (await asyncio.to_thread(examined, settings(None, dsn)))[check]


async def test_a_missing_right_is_named_and_its_mend_mends_it(migrated_dsn: str) -> None:
    grants = (
        "grant all on all tables in schema public to {}",
        "revoke insert, delete on client_activity from {}",
        "revoke select on daily_activity from {}",
    )
    async with login(migrated_dsn, *grants) as dsn:
        found = await findings_of(dsn, "rights")
        assert [f.what.partition(" may not ")[2] for f in found] == [
            "insert, delete client_activity",
            "select daily_activity",
        ]
        for finding in found:
            await execute(migrated_dsn, finding.mend)
        assert [f.level for f in await findings_of(dsn, "rights")] == [Level.OK]


async def test_a_user_who_may_not_create_tables_cannot_migrate(postgres_dsn: str) -> None:
    async with login(postgres_dsn) as dsn:
        found = await findings_of(dsn, "schema")
        assert "may not create tables in schema public" in found[0].what
        await execute(postgres_dsn, found[0].mend)
        assert [f.mend for f in await findings_of(dsn, "schema")] == ["activity-ingest migrate"]


def test_a_search_path_that_leads_nowhere_is_found(migrated_dsn: str) -> None:
    (finding,) = examined(settings(None, f"{migrated_dsn}&search_path=nowhere"))["database version"]
    assert (finding.level, finding.code) == (Level.WRONG, 2)
    assert "names no schema" in finding.what


def test_a_database_of_another_encoding_is_refused(postgres_dsn: str) -> None:
    dsn = create_database(postgres_dsn)
    try:
        drop_database(postgres_dsn, dsn)
        options = "template template0 encoding 'SQL_ASCII' locale_provider libc locale 'C'"
        asyncio.run(execute(postgres_dsn, f'create database "{database_name(dsn)}" {options}'))
        (finding,) = examined(settings(None, dsn))["database version"]
    finally:
        drop_database(postgres_dsn, dsn)
    assert (finding.level, finding.code) == (Level.WRONG, 2)
    assert "SQL_ASCII" in finding.what


def test_rows_made_under_another_pinned_setting_are_found_with_the_variable(migrated_dsn: str) -> None:
    asyncio.run(pin(migrated_dsn))
    asyncio.run(
        execute(migrated_dsn, "update ingest_setting set value = '60' where name = 'activity_throttle'")
    )
    (finding,) = examined(settings(None, migrated_dsn))["pinned settings"]
    assert finding.mend == "set ACTIVITY_USER_ACTIVITY__ACTIVITY_THROTTLE=60"
    mended = settings(None, migrated_dsn, USER_ACTIVITY__ACTIVITY_THROTTLE="60")
    assert levels(examined(mended), "pinned settings") == {Level.OK}


@pytest.mark.parametrize(("seconds", "level"), [(0, Level.OK), (-10, Level.WARNING), (3600, Level.WRONG)])
def test_a_clock_that_is_off_is_found(seconds: int, level: Level, migrated_dsn: str) -> None:
    found = examined(
        settings(NOWHERE, migrated_dsn), clock=lambda: datetime.now(UTC) + timedelta(seconds=seconds)
    )
    assert levels(found, "database clock") == {level}


@pytest.mark.parametrize(("seconds", "level"), [(-5, Level.OK), (10, Level.WARNING), (3600, Level.WRONG)])
def test_a_broker_whose_stamps_lie_ahead_is_found(
    seconds: int,
    level: Level,
    servers: str,
    names: dict[str, str],
    migrated_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stamp = int((datetime.now(UTC).timestamp() + seconds) * 1000)

    class Stamped:
        def __init__(self, *given: Any, **more: Any) -> None:
            pass

        async def chunks(self) -> AsyncIterator[tuple[None, list[PlainRecord]]]:
            yield None, [PlainRecord(timestamp=stamp, timestamp_type=LOG_APPEND_TIME)]

    monkeypatch.setattr(brokers, "LogReader", Stamped)
    assert levels(examined(settings(servers, migrated_dsn, **names)), "broker clock") == {level}


def test_offsets_that_the_log_does_not_have_are_found(
    servers: str, names: dict[str, str], migrated_dsn: str
) -> None:
    given = settings(servers, migrated_dsn, **names)
    topic = given.kafka.topic("activity.live")
    progress = f"insert into ingest_progress values ('live_activity', '{topic}', 1, 70, now())"
    asyncio.run(execute(migrated_dsn, progress))
    (finding,) = examined(given)["next offsets"]
    assert (finding.level, finding.code) == (Level.WRONG, 2)
    assert f"{topic}:1" in finding.what


def test_a_codec_that_is_missing_is_wrong_before_the_first_batch_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> Any:
        if name == "cramjam":
            raise ImportError(name)
        return __import__(name)

    monkeypatch.setattr(machine, "import_module", absent)
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    found = examined(settings(None, None))
    assert "snappy, lz4, zstd cannot" in found["codecs"][0].what
    assert levels(found, "event loop") == {Level.WARNING}


@pytest.mark.e2e
@pytest.mark.parametrize(("kafka", "expected"), [(NOWHERE, 3), ("", 2)])
def test_the_command_answers_in_json_and_leaves_with_the_first_code(
    kafka: str, expected: int, migrated_dsn: str, tmp_path: Any
) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), "ACTIVITY_POSTGRES__DSN": migrated_dsn}
    command = [sys.executable, "-m", "ingest", "doctor", "--json"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=env | {"ACTIVITY_KAFKA__BOOTSTRAP_SERVERS": kafka},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (expected, "")
    assert list(dict.fromkeys(f["check"] for f in found)) == [check.name for check in CHECKS]
