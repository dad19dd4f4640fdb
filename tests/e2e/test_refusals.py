"""What a worker refuses to start or to go on with: one line that names the mend, and an exit code."""

import socket
from pathlib import Path

import pytest

from ingest import stack
from tests.e2e.world import Produced, World, own_world, start_servers, stop_server

pytestmark = pytest.mark.e2e

SEEN = (
    b'{"specversion":"1.0","id":"1","source":"/t","type":"client.seen","time":"%s","data":{"client_id":"c"}}'
)
EARLY, LATE = b"2026-05-04T10:00:00Z", b"2026-05-04T11:00:00Z"
LATEST = "select max(last_seen) = $1::text::timestamptz from client_activity"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(world: World, **variables: str) -> tuple[int, str]:
    """The exit code of `run`, and the one line it leaves on stderr that is not from the log."""
    done = world.cli("run", **variables)
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    return done.returncode, line


def test_without_tables_it_names_migrate(bare_world: World) -> None:
    bare_world.create_topics()
    code, line = refused(bare_world)
    assert code == 2
    assert "activity-ingest migrate" in line


def test_without_topics_it_names_topics_create(world_without_topics: World) -> None:
    code, line = refused(world_without_topics)
    assert code == 2
    assert "activity-ingest topics --create" in line
    assert any(topic in line for topic in world_without_topics.topics.values())


@pytest.mark.parametrize("variable", ["ACTIVITY_POSTGRES__DSN", "ACTIVITY_KAFKA__BOOTSTRAP_SERVERS"])
def test_without_a_server_it_says_which_address_does_not_answer(world: World, variable: str) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    value = f"postgresql://u:secret@{nobody}/d" if "DSN" in variable else nobody
    code, line = refused(world, **{variable: value, "ACTIVITY_POSTGRES__CONNECT_TIMEOUT": "2"})
    assert code == 3
    assert nobody in line
    assert "secret" not in line


def test_a_setting_that_the_stored_rows_were_not_made_with_is_refused(world: World) -> None:
    assert world.cli("migrate").returncode == 0
    code, line = refused(world, ACTIVITY_STREAKS__DAILY_GOAL="5")
    assert code == 2
    assert "daily_goal" in line
    assert "ACTIVITY_STREAKS__DAILY_GOAL=3" in line


def test_offsets_that_the_log_no_longer_has_stop_it_unless_it_was_told_where_to_go_on(
    stack_root: Path, tmp_path: Path
) -> None:
    world = own_world(stack_root, tmp_path)
    world.produce([Produced("activity.client", SEEN % EARLY, b"c")] * 20)
    world.catch_up()
    stop_server(stack_root, "broker")
    assert start_servers(stack_root) == stack.Stack(world.dsn, world.broker)
    world.create_topics()
    world.produce([Produced("activity.client", SEEN % LATE, b"c")])

    code, line = refused(world)
    assert code == 2
    assert "ACTIVITY_KAFKA__OFFSET_RESET" in line
    assert world.value(LATEST, EARLY.decode())
    with world.running("run", ACTIVITY_KAFKA__OFFSET_RESET="earliest") as worker:
        worker.until(lambda: world.value(LATEST, LATE.decode()), "the row from the new log")
        assert worker.metric("lost_offsets_total", projection="client_activity") == 1
        assert any("no longer has an offset" in event for event in worker.events)
        assert worker.terminate() == 0
    assert sum(world.committed("client_activity").values()) == 1
