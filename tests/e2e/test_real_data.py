"""Real events through the command line, a worker killed half-way, and tables held against the files."""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.world import PROJECTIONS, TOPIC_OF, World

pytestmark = [pytest.mark.e2e, pytest.mark.realdata, pytest.mark.slow]

THROTTLE = timedelta(minutes=5)
GOAL = 3
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Run(NamedTuple):
    """Active days in a row."""

    last: date
    current: int
    longest: int


def events(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.ndjson.gz")):
        with gzip.open(file) as lines:
            yield from map(json.loads, lines)


class Figures:
    """What the tables must hold, by the simplest means."""

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self.clients: dict[str, list[datetime]] = defaultdict(list)
        self.times: dict[str, list[datetime]] = defaultdict(list)
        self.solved: dict[tuple[str, date], set[str]] = defaultdict(set)
        for event in events(folder):
            self.count += 1
            self._note(event, event["data"])

    def _note(self, event: dict[str, Any], data: dict[str, Any]) -> None:
        time = datetime.fromisoformat(event["time"])
        if event["type"] == "client.seen":
            self.clients[data["client_id"]].append(time)
            return
        # These events' zone is the offset that their time is written with, so the day can be read off.
        assert data["timezone"] == event["time"][19:]
        self.times[data["user_id"]].append(time)
        day = self.solved[data["user_id"], date.fromisoformat(event["time"][:10])]
        if event["type"] == "learning.problem_solved":
            day.add(data["problem_id"])

    def client_activity(self) -> set[tuple[Any, ...]]:
        return {(client, max(times), min(times)) for client, times in self.clients.items()}

    def user_activity(self) -> set[tuple[Any, ...]]:
        last = {user: max(times) for user, times in self.times.items()}
        return {(user, None, time - (time - EPOCH) % THROTTLE) for user, time in last.items()}

    def daily_activity(self) -> set[tuple[Any, ...]]:
        found = self.solved.items()
        return {(*day, "complete" if len(ids) >= GOAL else "partial", len(ids)) for day, ids in found}

    def streaks(self) -> set[tuple[Any, ...]]:
        days: dict[str, list[date]] = defaultdict(list)
        for user, day in self.solved:
            days[user].append(day)
        return {(user, *run_of(sorted(found))) for user, found in days.items()}


def run_of(days: list[date]) -> Run:
    current = longest = 1
    for earlier, later in pairwise(days):
        current = current + 1 if later - earlier == timedelta(days=1) else 1
        longest = max(longest, current)
    return Run(days[-1], current, longest)


TABLES = {
    "client_activity": "client_id, last_seen, created_at",
    "user_activity": "user_id, last_login_time, last_active_time",
    "daily_activity": "user_id, activity_date, status, problems_solved",
    "streaks": "user_id, last_activity_date, current_streak, max_streak",
}


def lag(world: World) -> int:
    """Records that the groups have not committed yet."""
    return sum(
        sum(world.ends(topic).values()) - sum(world.committed(name).values())
        for name, topic in TOPIC_OF.items()
    )


def test_recorded_events_become_the_rows_that_the_files_call_for_though_a_worker_is_killed(
    mortal_world: World, recorded_events: Path
) -> None:
    world, figures = mortal_world, Figures(recorded_events)
    files = sorted(str(file) for file in recorded_events.glob("*.ndjson.gz"))
    published = world.json("publish", *files)
    assert published == {**published, "lines": figures.count, "published": figures.count, "refused": {}}

    with world.running("run", "--until-caught-up") as worker, world.database() as session:
        some = "select exists (select from client_activity) and exists (select from streaks)"
        worker.until(lambda: session.value(some), "rows of both topics")
        with session.locked("streaks"):
            worker.until(lambda: session.blocks("streaks"), "a flush in the middle")
            worker.kill()
    assert lag(world) > 0
    world.catch_up()
    assert lag(world) == 0

    reports = {report["projection"]: report for report in world.verify()}
    assert {*reports} == {*PROJECTIONS}
    assert all(report["proved"] == "equality" for report in reports.values())
    for table, columns in TABLES.items():
        stored, expected = {*world.rows(f"select {columns} from {table}")}, getattr(figures, table)()
        assert len(stored) == len(expected) == reports_rows(reports, table)
        assert sorted(stored - expected)[:3] == sorted(expected - stored)[:3] == []


def reports_rows(reports: dict[str, Any], table: str) -> int:
    """How many rows verify says the log calls for."""
    return int(next(report["keys"][table] for report in reports.values() if table in report["keys"]))
