"""Postgres is gone for a while under load. ACTIVITY_TEST_OUTAGE: how many seconds' worth of events."""

import os
from pathlib import Path

import pytest

from tests.e2e.process import PATIENCE
from tests.e2e.world import DEAD_LETTERS, LOGICAL, PROJECTIONS, World, start_servers, stop_server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SECONDS = int(os.environ.get("ACTIVITY_TEST_OUTAGE") or 8)
RATE = 5_000
TRAFFIC = ("simulate", "--events", "10000000", "--rate", str(RATE), "--users", "5000", "--invalid", "0")
MOST_MEMORY = 200_000_000
STEADY = {
    # Long enough that a machine with other things to do is no reason to be thrown out of the group.
    "ACTIVITY_KAFKA__SESSION_TIMEOUT": "6",
    "ACTIVITY_WORKER__BACKOFF_CAP": "2",
}


def published(world: World) -> int:
    return sum(world.ends(*LOGICAL).values())


def test_an_outage_of_postgres_costs_nothing_but_time(mortal_world: World, stack_root: Path) -> None:
    world = mortal_world
    with world.running(**STEADY) as worker, world.running(*TRAFFIC) as traffic:
        worker.until_ready()
        for name in PROJECTIONS:
            worker.until_counted("records_total", projection=name, outcome="applied")
        retries = worker.metric("retries_total")
        stop_server(stack_root, "postgres")
        goal = published(world) + SECONDS * RATE
        worker.until(lambda: worker.get("/readyz").status == 503, "not ready")

        def outage_is_over() -> bool:
            ready, live = worker.get("/readyz"), worker.get("/livez")
            assert (ready.status, "Postgres" in ready.text, live.status) == (503, True, 200), ready.text
            traffic.alive()
            return published(world) >= goal and worker.metric("paused_seconds_total") > 0

        worker.until(outage_is_over, f"{SECONDS * RATE} events, and a pause", PATIENCE + 5 * SECONDS)
        assert worker.metric("retries_total") > retries
        start_servers(stack_root)
        worker.until_ready()
        traffic.kill()
        for name in PROJECTIONS:
            world.until_read(name, worker)
        worker.until_metric("consumer_lag", 0)
        assert worker.get("/readyz").status == 200
        assert worker.metric("rebalances_total") == len(PROJECTIONS)
        assert worker.metric("dead_letters_total") == sum(world.ends(DEAD_LETTERS).values()) == 0
        assert worker.peak_memory < MOST_MEMORY
        world.verify("--no-wait")
        assert worker.terminate() == 0
