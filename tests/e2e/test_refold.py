"""Changing a setting that stored rows depend on: the tables are emptied and the log is read again."""

import pytest

from tests.e2e.conftest import EAGER
from tests.e2e.world import Produced, World

pytestmark = pytest.mark.e2e

SOLVED = (
    '{"specversion":"1.0","id":"%s","source":"/t","type":"learning.problem_solved",'
    '"time":"2026-05-04T10:00:00Z","data":{"user_id":"ana","problem_id":"%s"}}'
)
STATUS = "select status from daily_activity where user_id = 'ana'"
EASIER = {"ACTIVITY_STREAKS__DAILY_GOAL": "2"}


def solve(world: World, count: int) -> None:
    world.produce(Produced("activity.user", (SOLVED % (n, n)).encode(), b"ana") for n in range(count))


def test_after_a_refold_the_rows_are_those_of_the_new_setting(world: World) -> None:
    solve(world, 2)
    assert world.cli("run", "streaks", "--until-caught-up", **EAGER).returncode == 0
    assert world.value(STATUS) == "partial"

    refused = world.cli("run", "streaks", "--until-caught-up", **EASIER)
    assert refused.returncode == 2
    assert "activity-ingest refold streaks" in refused.stderr

    assert world.cli("refold", "streaks").returncode == 2, "without a terminal it wants --yes"
    assert world.cli("refold", "streaks", "--dry-run").returncode == 0
    assert world.value(STATUS) == "partial"

    assert world.cli("refold", "streaks", "--yes").returncode == 0
    assert world.value(STATUS) is None
    assert world.cli("verify", "streaks", "--no-wait").returncode == 1, "nothing was read yet"

    assert world.cli("run", "streaks", "--until-caught-up", **EAGER, **EASIER).returncode == 0
    assert world.value(STATUS) == "complete"
    assert world.cli("verify", "streaks", **EASIER).returncode == 0


def test_a_refold_is_refused_while_workers_are_running(world: World) -> None:
    solve(world, 1)
    with world.running("run", "streaks", **EAGER) as worker:
        worker.until_ready()
        refused = world.cli("refold", "streaks", "--yes")
    assert refused.returncode == 2
    assert "running" in refused.stderr


def test_a_database_that_lost_its_rows_gets_them_back_before_a_worker_calls_itself_caught_up(
    world: World,
) -> None:
    solve(world, 2)
    assert world.cli("run", "streaks", "--until-caught-up", **EAGER).returncode == 0
    with world.database() as database:
        database.execute("truncate streaks, streak_run, daily_total, daily_item")
        database.execute("delete from ingest_progress")

    done = world.cli("run", "streaks", "--until-caught-up", **EAGER)

    assert done.returncode == 0
    assert world.value("select problems_solved from daily_activity where user_id = 'ana'") == 2
