"""Workers that die or are told to go at the worst moments; the tables are right all the same."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from signal import SIGTERM

import pytest

from tests.e2e.process import Process
from tests.e2e.world import PROJECTIONS, TOPIC_OF, World, start_servers, stop_server

pytestmark = pytest.mark.e2e

HOARDING = {
    "ACTIVITY_WORKER__FLUSH_INTERVAL": "3600",
    "ACTIVITY_WORKER__MAX_ROWS": "1000000",
    "ACTIVITY_WORKER__DRAIN_TIMEOUT": "3600",
}
"""A worker with these writes nothing of a few thousand events before it is told to go."""
DURABLE = "select coalesce(sum(next_offset), 0)::bigint as records from ingest_progress"
AS_MANY = f"select records >= $1 from ({DURABLE}) as durable"


@contextmanager
def traffic(world: World) -> Iterator[Process]:
    """Events of every kind, bad ones among them, for as long as the block lasts."""
    with world.running("simulate", "--events", "1000000", "--rate", "1000", "--seed", "11") as process:
        yield process
        process.alive()


def fill_buffer(world: World, worker: Process) -> None:
    """Returns when the worker holds all of some events in memory, and none of them is stored."""
    assert world.cli("simulate", "--events", "2000", "--seed", "12").returncode == 0
    for name, topic in TOPIC_OF.items():
        wanted = sum(world.ends(topic).values())
        assert wanted > 0
        worker.until_metric("buffer_records", wanted, projection=name)
    assert world.value(DURABLE) == 0
    assert world.value("select count(*) from client_activity") == 0


@pytest.mark.slow
def test_a_worker_killed_at_any_moment_leaves_nothing_wrong(world: World) -> None:
    random = Random(20261121)
    with traffic(world), world.database() as session:
        with world.running() as worker:
            worker.until_logged("started")
        with world.running() as worker, session.locked("streaks"):
            worker.until(lambda: session.blocks("streaks"), "a flush in the middle")
            worker.kill()
        for _ in range(2):
            with world.running() as worker:
                moment = session.value(DURABLE) + random.randrange(1, 2000)
                worker.until(partial(session.value, AS_MANY, moment), "more durable records")
                worker.kill()
    with world.running() as worker:
        world.verify()
        assert worker.terminate() == 0


def test_sigterm_writes_and_commits_what_is_held_and_leaves(world: World) -> None:
    with world.running(**HOARDING) as worker:
        fill_buffer(world, worker)
        assert worker.terminate() == 0
    lags = world.json("lag")
    assert {lag["projection"] for lag in lags} == {*PROJECTIONS}
    assert all((lag["lag"], lag["committed"] or 0) == (0, lag["end"]) for lag in lags)
    world.verify("--no-wait")


def test_a_second_sigterm_ends_a_drain_that_cannot_succeed(mortal_world: World, stack_root: Path) -> None:
    world = mortal_world
    with world.running(**HOARDING) as worker:
        fill_buffer(world, worker)
        stop_server(stack_root, "postgres")
        worker.send(SIGTERM)
        worker.until_logged("waiting to retry")
        worker.alive()
        assert worker.terminate() == 128 + SIGTERM
    start_servers(stack_root)
    assert world.value(DURABLE) == 0
    world.catch_up()
    world.verify()


@pytest.mark.slow
def test_a_second_worker_takes_its_share_in_mid_stream_and_the_first_may_go(world: World) -> None:
    everything = 4 * len(PROJECTIONS)
    with ExitStack() as workers:
        first = workers.enter_context(world.running())
        with traffic(world):
            first.until(lambda: world.value(DURABLE) > 0, "durable records")
            second = workers.enter_context(world.running())
            for worker in (first, second):
                worker.until_metric("assigned_partitions", everything / 2)
            for name in PROJECTIONS:
                second.until_counted("records_total", projection=name, outcome="applied")
            assert first.terminate() == 0
            second.until_metric("assigned_partitions", everything)
        world.verify()
        assert second.terminate() == 0
