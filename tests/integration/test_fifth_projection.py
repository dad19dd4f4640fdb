"""A fifth projection is two files in a folder of its own: nothing else knows that it exists."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ingest.contract import Limits
from ingest.migrate import migrate
from ingest.record import Reason, Reject
from ingest.registry import Registry, load
from tests.e2e.world import World, shared_world
from tests.laws.harness import PROJECTIONS
from tests.strategies import NOW, PlainRecord

pytestmark = pytest.mark.integration

FIXTURE = Path(__file__).parents[1] / "fixtures" / "fifth"
NAME, TOPIC = "course_activity", "activity.course"
MONDAY = datetime(2026, 3, 9, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The two files, far from the checkout."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "elsewhere"))


@pytest.fixture
def registry(folder: Path) -> Registry:
    return load([folder])


def progressed(
    user: str, course: str, percent: object, minutes: int, device: str | None = None
) -> dict[str, Any]:
    data = {"user_id": user, "course_id": course, "percent": percent, "device": device}
    return {
        "specversion": "1.0",
        "id": f"{user}/{course}/{minutes}",
        "source": "/courses",
        "type": "course.progressed",
        "time": (MONDAY + timedelta(minutes=minutes)).isoformat(),
        "data": data,
    }


def test_the_registry_finds_it_with_its_topic_type_and_tables(registry: Registry) -> None:
    assert NAME not in load().projections
    assert [name for name in registry.projections if name not in load().projections] == [NAME]
    assert TOPIC in registry.topics
    assert registry.catalogue["course.progressed"] == TOPIC
    assert registry.sql[NAME].migrations[0].creates == ("course_progress", "course_device")


def test_other_projections_learn_of_its_type_from_the_contract(registry: Registry) -> None:
    record = PlainRecord(json.dumps(progressed("u", "c", 5, 0)).encode())
    for name, reason in ((NAME, None), ("streaks", Reason.WRONG_TOPIC)):
        found = registry.decoder(registry.projections[name], Limits()).decode(record, NOW)
        assert (found.reason if isinstance(found, Reject) else None) == reason


def test_a_limit_of_its_own_type_is_the_contracts_limit(registry: Registry) -> None:
    record = PlainRecord(json.dumps(progressed("u", "c", 101, 0)).encode())
    found = registry.decoder(registry.projections[NAME], Limits()).decode(record, NOW)
    assert isinstance(found, Reject)
    assert (found.reason, found.detail[:12]) == (Reason.INVALID, "data.percent")


def test_the_laws_are_proved_for_it() -> None:
    assert NAME in PROJECTIONS


async def test_its_tables_are_made_beside_those_that_are_there(migrated_dsn: str, registry: Registry) -> None:
    before = await relations(migrated_dsn)
    await migrate(migrated_dsn, registry.files)
    assert await relations(migrated_dsn) - before == {"course_progress", "course_device"}


async def relations(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    try:
        query = "select tablename::text from pg_tables where schemaname = 'public'"
        return {row["tablename"] for row in await connection.fetch(query)}
    finally:
        await connection.close()


@pytest.mark.e2e
def test_its_events_become_rows_and_verify_tells_right_ones_from_wrong(
    folder: Path, tmp_path: Path, broker: str, migrated_dsn: str, topic_names: Callable[[str], str]
) -> None:
    world = with_the_fifth(shared_world(tmp_path, broker, migrated_dsn, topic_names), folder, topic_names)
    assert world.cli("migrate", "--check").returncode != 0
    for arguments in (("migrate",), ("topics", "--create"), ("migrate", "--check")):
        done = world.cli(*arguments)
        assert done.returncode == 0, done.stderr
    file = tmp_path / "events.ndjson"
    file.write_text("".join(json.dumps(one) + "\n" for one in EVENTS))
    done = world.cli("publish", str(file))
    assert (done.returncode, ":6: invalid" in done.stderr) == (1, True), done.stderr
    done = world.cli("run", NAME, "--until-caught-up")
    assert done.returncode == 0, done.stderr[-2000:]
    (report,) = world.verify(NAME)
    assert report["projection"] == NAME
    courses = world.rows("select * from course_progress order by user_id, course_id")
    assert courses == [
        ("ä", "c", 100, at(9), at(3)),
        ("ä", "d", 7, at(1), None),
        ("😀", "c", 0, at(0), None),
    ]
    devices = world.rows("select * from course_device order by user_id, device")
    assert devices == [("ä", "phone", at(9)), ("ä", "tv", at(3))]
    with world.database() as session:
        session.execute("update course_progress set percent = 99 where percent = 100")
    done = world.cli("verify", NAME)
    assert done.returncode == 1
    assert "course_progress" in done.stdout + done.stderr


def at(minutes: int) -> datetime:
    return MONDAY + timedelta(minutes=minutes)


EVENTS = [
    progressed("ä", "c", 40, 9, "phone"),
    progressed("ä", "c", 100, 3, "tv"),
    progressed("ä", "d", 7, 1),
    progressed("ä", "c", 100, 5, "phone"),
    progressed("😀", "c", 0, 0),
    progressed("😀", "c", "half", 0),
    progressed("ä", "c", 40, 9, "phone"),
]


def with_the_fifth(world: World, folder: Path, topic_names: Callable[[str], str]) -> World:
    """`world` as an operator sets it up for one more folder of projections."""
    topics = f"{world.variables['ACTIVITY_KAFKA__TOPICS']},{TOPIC}={topic_names(TOPIC)}"
    world.variables.update(ACTIVITY_PROJECTION_PATH=str(folder), ACTIVITY_KAFKA__TOPICS=topics)
    return world
