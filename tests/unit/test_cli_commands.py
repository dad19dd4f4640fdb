import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingest.cli import cli, context
from ingest.cli.context import Context
from ingest.cli.failures import exit_code
from ingest.errors import Misconfigured
from ingest.settings import describe

GOOD = (
    b'{"specversion":"1.0","id":"1","source":"/t","type":"client.seen",'
    b'"time":"2026-03-10T12:00:00Z","data":{"client_id":"C1"}}\n'
)


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with nothing in it and an environment that configures nothing."""
    monkeypatch.chdir(tmp_path)
    # Logging belongs to the process, and this one is the tests'.
    monkeypatch.setattr(context, "be_quiet", lambda level: None)
    for name in ("ACTIVITY_KAFKA__BOOTSTRAP_SERVERS", "ACTIVITY_POSTGRES__DSN", "PG_HOST", "PG_DATABASE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Calls a command as `main` does: its exit code, what it answered and what it remarked."""

    def call(*arguments: str) -> tuple[int, str, str]:
        done = exit_code(
            lambda: cli.main(args=list(arguments), prog_name="activity-ingest", standalone_mode=False),
            arguments,
        )
        return done, *capsys.readouterr()

    return call


Call = Callable[..., tuple[int, str, str]]


def config(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["config", *arguments])


def test_the_help_of_config_lists_every_setting_with_its_meaning() -> None:
    output = " ".join(config("--help").output.split())
    variables = describe([(p.name, p.options) for p in Context().registry.projections.values()])
    assert len(variables) > 60
    for variable in variables:
        assert variable.name in output
        assert " ".join(variable.meaning.split())[:20] in output


def test_config_shows_what_was_set_and_where_and_hides_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVITY_POSTGRES__DSN", "postgresql://me:secret@db/activity")
    monkeypatch.setenv("ACTIVITY_WORKER__FLUSH_INTERVAL", "0.2")
    result = config()
    assert "ACTIVITY_WORKER__FLUSH_INTERVAL" in result.output
    assert "environment" in result.output
    assert "secret" not in result.output
    shown = json.loads(config("--json").output)
    assert shown["ACTIVITY_WORKER__FLUSH_INTERVAL"] == {"value": "0.2", "from": "environment"}
    assert shown["ACTIVITY_HTTP__PORT"] == {"value": "9464", "from": "default"}


def test_config_writes_an_example_of_an_env_file() -> None:
    assert "#ACTIVITY_KAFKA__BOOTSTRAP_SERVERS=" in config("--env-example").output


def test_a_bad_setting_is_one_line_and_exit_code_two(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVITY_HTTP__PORT", "http")
    code, out, err = call("config")
    assert (code, out) == (2, "")
    assert err.startswith("activity-ingest: ACTIVITY_HTTP__PORT=http (environment): ")
    assert "mend: " in err
    assert len(err.splitlines()) == 1


def test_where_nothing_is_configured_and_nothing_runs_both_ways_out_are_named(call: Call) -> None:
    code, _, err = call("lag")
    assert code == 2
    assert "neither Kafka nor Postgres is configured" in err
    assert "activity-ingest stack up" in err
    assert "ACTIVITY_POSTGRES__DSN" in err


def test_half_a_configuration_names_the_half_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVITY_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")
    half = Context()
    assert half.kafka.bootstrap_servers == "127.0.0.1:9"
    with pytest.raises(Misconfigured, match="database") as raised:
        _ = half.postgres
    assert "ACTIVITY_POSTGRES__DSN" in raised.value.mend


def test_kafka_that_is_not_reachable_is_exit_code_three_in_one_line(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACTIVITY_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv("ACTIVITY_KAFKA__REQUEST_TIMEOUT", "1")
    (tmp_path / "events.ndjson").write_bytes(GOOD)
    code, out, err = call("publish", "events.ndjson")
    assert (code, out) == (3, "published 0 events\n")
    assert len(err.splitlines()) == 1
    assert "127.0.0.1:9" in err


def test_publish_checks_files_without_kafka_and_names_each_bad_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(GOOD + b"{broken\n\n" + GOOD.replace(b"C1", b""))
    (tmp_path / "b.gz").write_bytes(gzip.compress(GOOD * 3 + b'{"type":"client.lost"}\n'))
    code, out, err = call("publish", "--dry-run", "a.ndjson", "b.gz")
    assert (code, out) == (1, "4 lines are good; refused: invalid 1, malformed 1, unknown_type 1\n")
    told = err.splitlines()
    assert [line.split(": ")[:2] for line in told[:3]] == [
        ["a.ndjson:2", "malformed"],
        ["a.ndjson:4", "invalid"],
        ["b.gz:4", "unknown_type"],
    ]
    assert told[3:] == ["activity-ingest: 3 of 7 lines were refused"]


def test_publish_answers_in_json(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(GOOD + b"{broken\n")
    code, out, _ = call("publish", "--dry-run", "--json", "a.ndjson")
    assert code == 1
    assert json.loads(out) == {"lines": 2, "good": 1, "published": 0, "refused": {"malformed": 1}}


def test_future_is_judged_by_the_limits_in_the_settings(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.ndjson").write_bytes(GOOD)
    monkeypatch.setenv("ACTIVITY_CONTRACT__EARLIEST_TIME", "2026-04-01T00:00:00Z")
    code, _, err = call("publish", "--dry-run", "a.ndjson")
    assert code == 1
    assert err.startswith("a.ndjson:1: past: time: before 2026-04-01")


def test_a_file_that_does_not_exist_is_said_before_anything_is_published(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(GOOD)
    code, out, err = call("publish", "a.ndjson", "b.ndjson")
    assert (code, out) == (2, "")
    assert "b.ndjson" in err


def test_simulate_writes_the_same_file_for_the_same_seed_and_end(call: Call, tmp_path: Path) -> None:
    for name in ("a", "b"):
        wanted = ("--events", "500", "--users", "20", "--clients", "5", "--seed", "7", "--end", "2026-03-10")
        assert call("simulate", *wanted, "--output", name)[0] == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len((tmp_path / "a").read_bytes().splitlines()) == pytest.approx(500, rel=0.1)


def test_simulate_of_one_user_makes_only_valid_events_of_that_user(call: Call) -> None:
    wanted = ("--user-id", "ana", "--simulate-days", "3", "--end", "2026-03-10", "--output", "f")
    assert call("simulate", *wanted)[0] == 0
    code, out, _ = call("publish", "--dry-run", "f")
    assert code == 0
    events = [json.loads(line) for line in Path("f").read_bytes().splitlines()]
    assert {event["data"]["user_id"] for event in events} == {"ana"}
    assert out == f"{len(events)} lines are good\n"


def test_the_stack_tells_its_state_and_leaves_with_one_unless_it_runs(call: Call) -> None:
    code, out, err = call("stack", "status", "--json")
    assert code == 1
    assert [(server["server"], server["state"]) for server in json.loads(out)] == [
        ("postgres", "stopped"),
        ("broker", "stopped"),
    ]
    assert "activity-ingest stack up" in err
    assert call("stack", "down")[:2] == (0, "nothing was running\n")
    assert call("stack", "env")[0] == 2
