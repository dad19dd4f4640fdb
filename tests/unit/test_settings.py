"""Settings: where they come from, what is wrong with them, how they are shown."""

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr, field_validator

from ingest import registry
from ingest.errors import Misconfigured
from ingest.projection import Options, pinned
from ingest.settings import Settings, Variable, WorkerSettings, describe, env_example, load
from ingest.settings.variables import without_password

ROOT = Path(__file__).parents[2]


class Fifth(Options):
    """Options of a projection that nothing but this test knows."""

    goal: int = pinned(3, "problems a day", ge=1)
    zones: tuple[str, ...] = ()
    token: SecretStr | None = None

    @field_validator("zones")
    @classmethod
    def _sorted(cls, zones: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(zones))


PROJECTIONS = (("streaks", Fifth), ("fifth", Fifth), ("plain", Options))


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable, no .env, no secret of the machine the tests run on."""
    for name in list(os.environ):
        if name.upper().startswith(("ACTIVITY_", "PG_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv("ACTIVITY_SECRETS_DIR", str(tmp_path / "secrets"))


def read(**variables: str) -> Settings:
    return load(PROJECTIONS, overrides={f"ACTIVITY_{name}": value for name, value in variables.items()})


def wrong(**variables: str) -> list[str]:
    """The lines that say what is wrong, each without its prefix."""
    with pytest.raises(Misconfigured) as caught:
        read(**variables)
    assert "activity-ingest config --help" in caught.value.mend
    return [line.removeprefix("ACTIVITY_") for line in caught.value.message.splitlines()]


# -- where a value comes from ----------------------------------------------------------------------


def test_without_any_variable_the_defaults_hold_and_the_embedded_stack_serves() -> None:
    settings = load(PROJECTIONS)
    assert settings.worker == WorkerSettings()
    assert settings.worker.max_rows == 5000
    assert settings.contract.earliest_time == datetime(2000, 1, 1, tzinfo=UTC)
    assert not settings.kafka.configured
    assert not settings.postgres.configured
    assert settings.origins() == {}


def test_every_default_is_valid() -> None:
    given = {
        v.name: v.default for v in describe(PROJECTIONS) if v.default and v.name != "ACTIVITY_SECRETS_DIR"
    }
    for section in ("POSTGRES__HOST", "POSTGRES__PORT", "KAFKA__SECURITY_PROTOCOL"):
        del given[f"ACTIVITY_{section}"]  # to give these is to name a server
    assert load(PROJECTIONS, overrides=given).redacted() == load(PROJECTIONS).redacted()


def test_the_environment_wins_over_dotenv_and_dotenv_over_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("max_rows", "max_records", "max_bytes"):
        (tmp_path / "secrets" / f"activity_worker__{name}").write_text("2000\n")
    Path(".env").write_text(
        "export ACTIVITY_WORKER__MAX_ROWS=3000\nACTIVITY_WORKER__MAX_RECORDS='3000'\nOTHER=1\n"
    )
    monkeypatch.setenv("ACTIVITY_WORKER__MAX_ROWS", "4000")
    settings = load(PROJECTIONS)
    worker = settings.worker
    assert (worker.max_rows, worker.max_records, worker.max_bytes) == (4000, 3000, 2000)
    assert settings.origins() == {
        "ACTIVITY_WORKER__MAX_ROWS": "environment",
        "ACTIVITY_WORKER__MAX_RECORDS": ".env",
        "ACTIVITY_WORKER__MAX_BYTES": "secrets directory",
    }


def test_an_empty_value_is_no_value_and_hides_one_from_an_earlier_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("ACTIVITY_POSTGRES__DSN=postgresql://db/x\n")
    monkeypatch.setenv("ACTIVITY_POSTGRES__DSN", "")
    assert not load(PROJECTIONS).postgres.configured


def test_a_mounted_secret_may_have_its_name_in_upper_case_and_links_beside_it(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    (secrets / "..data").mkdir()
    (secrets / "unrelated").write_bytes(b"\xff")
    (secrets / "ACTIVITY_POSTGRES__DSN").write_text("postgresql://u:secret@db/x\n")
    dsn = load(PROJECTIONS).postgres.dsn
    assert dsn is not None
    assert dsn.get_secret_value() == "postgresql://u:secret@db/x"


def test_a_named_secrets_directory_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVITY_SECRETS_DIR", "nowhere")
    with pytest.raises(Misconfigured, match="ACTIVITY_SECRETS_DIR=nowhere is not a directory"):
        load(PROJECTIONS)


def test_an_unreadable_dotenv_is_named() -> None:
    Path(".env").write_bytes(b"A=\xff\n")
    with pytest.raises(Misconfigured, match=r"\.env cannot be read"):
        load(PROJECTIONS)


def test_the_usual_postgres_variables_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HOST": "db",
        "PORT": "6432",
        "DATABASE": "app",
        "USER": "ann",
        "PASSWORD": "p",
    }.items():
        monkeypatch.setenv(f"PG_{name}", value)
    postgres = load(PROJECTIONS).postgres
    assert postgres.configured
    assert postgres.address == "postgresql://ann@db:6432/app"
    assert postgres.password == SecretStr("p")
    monkeypatch.setenv("ACTIVITY_POSTGRES__HOST", "other")
    assert load(PROJECTIONS).postgres.host == "other"


def test_a_dsn_sets_the_usual_postgres_variables_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_HOST", "db")
    postgres = read(POSTGRES__DSN="postgresql://elsewhere/x").postgres
    assert postgres.address == "postgresql://elsewhere/x"
    assert postgres.host == "localhost"


def test_a_bad_usual_variable_is_named_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_PORT", "https")
    assert wrong() == ["PG_PORT=https (environment): allowed: whole number, 1 to 65535 (port (also PG_PORT))"]


# -- sections of projections -----------------------------------------------------------------------


def test_a_projection_has_the_workers_settings_with_its_own_over_them() -> None:
    settings = read(WORKER__MAX_ROWS="100", WORKER__FLUSH_INTERVAL="2", STREAKS__FLUSH_INTERVAL="0.5")
    assert settings.projection("streaks").worker.flush_interval == 0.5
    assert settings.projection("streaks").worker.max_rows == 100
    assert settings.projection("plain").worker.flush_interval == 2


def test_a_projection_that_the_engine_does_not_know_brings_its_own_settings() -> None:
    settings = read(FIFTH__GOAL="7", FIFTH__ZONES='["b", "a"]', FIFTH__TOKEN="t", FIFTH__MAX_ROWS="9")
    fifth = settings.projection("fifth")
    assert fifth.options == Fifth(goal=7, zones=("a", "b"), token=SecretStr("t"))
    assert type(fifth.options) is Fifth
    assert fifth.worker.max_rows == 9
    assert settings.projection("streaks").options == Fifth()


def test_a_limit_holds_for_the_worker_and_for_one_projection_alike() -> None:
    lines = wrong(WORKER__MAX_ROWS="0", FIFTH__MAX_ROWS="0", FIFTH__GOAL="0")
    allowed = (
        "(command line): allowed: whole number, 1 to 1000000 (distinct rows at which a batch is written)"
    )
    assert lines == [
        f"WORKER__MAX_ROWS=0 {allowed}",
        "FIFTH__GOAL=0 (command line): allowed: whole number, at least 1 "
        "(problems a day; fixed once rows are stored)",
        f"FIFTH__MAX_ROWS=0 {allowed}",
    ]


def test_settings_that_contradict_each_other_only_together_are_refused() -> None:
    assert wrong(WORKER__BACKOFF_BASE="20", FIFTH__BACKOFF_CAP="10") == [
        "FIFTH__*: backoff_cap 10 is less than backoff_base 20"
    ]


def test_an_option_without_a_default_is_asked_for() -> None:
    class Needy(BaseModel):
        place: str

    with pytest.raises(Misconfigured, match=r"ACTIVITY_NEEDY__PLACE is not set: allowed: text \(place\)"):
        load([("needy", Needy)])


@pytest.mark.parametrize("name", ["kafka", "worker", "projection", "a__b"])
def test_a_projection_cannot_take_the_name_of_something_else(name: str) -> None:
    with pytest.raises(Misconfigured, match=f"projection {name}: its name") as caught:
        load([(name, Options)])
    assert f"consumers/{name}.py" in caught.value.mend


def test_an_option_cannot_take_the_name_of_a_worker_setting() -> None:
    class Taking(Options):
        max_rows: int = 1

    with pytest.raises(Misconfigured, match="its option max_rows"):
        load([("fifth", Taking)])


# -- what is wrong ---------------------------------------------------------------------------------


def test_everything_wrong_is_said_at_once() -> None:
    lines = wrong(WORKER__MAX_ROWS="many", LOG__LEVEL="loud", FIFTH__ZONES="a,b", HTTP__PROT="1")
    assert [re.split(r"[= ]", line)[0] for line in lines] == [
        "HTTP__PROT", "LOG__LEVEL", "WORKER__MAX_ROWS", "FIFTH__ZONES",
    ]  # fmt: skip
    assert "allowed: debug | info | warning | error" in lines[1]
    assert "allowed: JSON array" in lines[3]


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("KAFKA__BOOTSTRAP_SERVER", "KAFKA__BOOTSTRAP_SERVERS"),
        ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA__BOOTSTRAP_SERVERS"),
        ("STREAK__FLUSH_INTERVAL", "STREAKS__FLUSH_INTERVAL"),
        ("POSTGRES__DNS", "POSTGRES__DSN"),
        ("SECRET_DIR", "SECRETS_DIR"),
    ],
)
def test_a_mistyped_name_is_refused_with_the_nearest_one(typo: str, meant: str) -> None:
    (line,) = wrong(**{typo: "hunter2"})
    assert line == f"{typo} (command line): there is no such setting; did you mean ACTIVITY_{meant}?"


def test_a_name_like_no_other_is_refused_without_a_guess() -> None:
    assert wrong(XYZZY="1") == ["XYZZY (command line): there is no such setting"]


def test_variables_that_kubernetes_adds_for_a_service_are_left_alone() -> None:
    read(
        INGEST_SERVICE_HOST="10.0.0.1",
        INGEST_SERVICE_PORT="9464",
        INGEST_SERVICE_PORT_METRICS="9464",
        INGEST_PORT="tcp://10.0.0.1:9464",
        INGEST_PORT_9464_TCP="tcp://10.0.0.1:9464",
        INGEST_PORT_9464_TCP_ADDR="10.0.0.1",
    )
    assert wrong(PG_PORT="5432")[0].startswith("PG_PORT (command line): there is no such setting")


@pytest.mark.parametrize(
    "servers", ["localhost", "host:0", "host:70000", "kafka://host:9092", ":9092", "a:1;b:2"]
)
def test_servers_must_be_host_and_port(servers: str) -> None:
    assert wrong(KAFKA__BOOTSTRAP_SERVERS=servers) == [
        f"KAFKA__BOOTSTRAP_SERVERS={servers} (command line): must be host:port, several separated by commas"
    ]


def test_a_file_that_is_not_there_is_named() -> None:
    (line,) = wrong(
        KAFKA__SSL_CAFILE="ca.pem", KAFKA__BOOTSTRAP_SERVERS="a:1", KAFKA__SECURITY_PROTOCOL="SSL"
    )
    assert line == "KAFKA__SSL_CAFILE=ca.pem (command line): there is no such file"


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"SASL_USERNAME": "u"}, "sasl_username is set, but security_protocol is PLAINTEXT"),
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "security_protocol SASL_SSL needs sasl_mechanism"),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN"},
            "needs sasl_username and sasl_password",
        ),
        (
            {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "OAUTHBEARER", "OAUTH_CLIENT_ID": "c"},
            "needs oauth_token_url and oauth_client_secret",
        ),
        ({"SSL_CAFILE": __file__}, "ssl_cafile is set, but security_protocol PLAINTEXT uses no TLS"),
    ],
)
def test_security_settings_that_do_not_fit_are_refused(variables: Mapping[str, str], why: str) -> None:
    given = {f"KAFKA__{name}": value for name, value in variables.items()}
    (line,) = wrong(KAFKA__BOOTSTRAP_SERVERS="a:1", **given)
    assert line.startswith("KAFKA__*: ")
    assert why in line


def test_credentials_without_a_cluster_are_refused() -> None:
    (line,) = wrong(KAFKA__SECURITY_PROTOCOL="SSL")
    assert line == "KAFKA__*: security_protocol is set, but bootstrap_servers is not"


def test_a_dsn_beside_a_host_is_refused() -> None:
    (line,) = wrong(POSTGRES__DSN="postgresql://db/x", POSTGRES__HOST="db")
    assert line == "POSTGRES__*: dsn and host are both set: give one or the other"


def test_a_time_before_which_nothing_can_have_happened_is_refused() -> None:
    assert "at least 1900-01-01T00:00:00+00:00" in wrong(CONTRACT__EARLIEST_TIME="1899-12-31T00:00:00Z")[0]
    assert "RFC 3339 time with an offset" in wrong(CONTRACT__EARLIEST_TIME="2020-01-01T00:00:00")[0]


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1s", "0"])
def test_seconds_are_plain_positive_numbers(value: str) -> None:
    assert "allowed: number, above 0" in wrong(WORKER__FLUSH_INTERVAL=value)[0]


# -- what is right ---------------------------------------------------------------------------------


def test_words_are_read_in_either_case() -> None:
    settings = read(
        KAFKA__BOOTSTRAP_SERVERS=" a:9092 , b:9092",
        KAFKA__SECURITY_PROTOCOL="sasl_plaintext",
        KAFKA__SASL_MECHANISM="scram-sha-512",
        KAFKA__SASL_USERNAME="u",
        KAFKA__SASL_PASSWORD="p",
        LOG__LEVEL="WARNING",
    )
    assert settings.kafka.bootstrap_servers == "a:9092,b:9092"
    assert settings.kafka.sasl_mechanism == "SCRAM-SHA-512"
    assert settings.log.level == "warning"


@pytest.mark.parametrize(
    "text", ["activity.user=a.b, activity.live=c", '{"activity.user": "a.b", "activity.live": "c"}']
)
def test_topics_are_renamed_by_pairs_or_json(text: str) -> None:
    kafka = read(KAFKA__TOPICS=text).kafka
    assert [kafka.topic(name) for name in ("activity.user", "activity.live", "x")] == ["a.b", "c", "x"]


@pytest.mark.parametrize("text", ["activity.user", "=a", "a=", '{"a": 1}', "{", "[]"])
def test_topics_of_another_form_are_refused(text: str) -> None:
    (line,) = wrong(KAFKA__TOPICS=text)
    assert line.startswith(f"KAFKA__TOPICS={text} (command line): ")


def test_tuning_alone_names_no_server() -> None:
    settings = read(KAFKA__FETCH_MIN_BYTES="1", POSTGRES__POOL_SIZE="2", POSTGRES__PGBOUNCER="true")
    assert not settings.kafka.configured
    assert not settings.postgres.configured
    assert read(POSTGRES__DATABASE="app").postgres.configured


def test_settings_cannot_be_changed() -> None:
    settings = load(PROJECTIONS)
    for section in (settings, settings.kafka, settings.projection("fifth").options):
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, next(iter(type(section).model_fields)), None)


# -- secrets ---------------------------------------------------------------------------------------


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    (tmp_path / "secrets" / "ACTIVITY_FIFTH__TOKEN").write_text("hunter2")
    settings = read(
        POSTGRES__DSN="postgresql://ann:hunter2@db/app",
        POSTGRES__MIGRATE_DSN="postgresql://ann@db/app?password=hunter2&sslmode=require",
        POSTGRES__PASSWORD="hunter2",
    )
    shown = settings.redacted()
    assert shown["ACTIVITY_POSTGRES__DSN"] == "postgresql://ann:********@db/app"
    assert shown["ACTIVITY_POSTGRES__MIGRATE_DSN"] == "postgresql://ann@db/app?sslmode=require"
    assert shown["ACTIVITY_POSTGRES__PASSWORD"] == shown["ACTIVITY_FIFTH__TOKEN"] == "********"
    everything = [
        json.dumps(shown),
        repr(settings),
        str(settings.projection("fifth")),
        settings.postgres.address,
    ]
    assert not [text for text in everything if "hunter2" in text]


@pytest.mark.parametrize(
    "variable",
    [
        "POSTGRES__DSN",
        "POSTGRES__MIGRATE_DSN",
        "KAFKA__SASL_PASSWORD",
        "POSTGRES__PASWORD",
        "KAFKA__OAUTH_CLIENT_SECRET",
    ],
)
def test_no_secret_is_repeated_in_what_is_wrong_with_it(variable: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        read(**{variable: "hunter2"})
    assert "hunter2" not in caught.value.message
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://db/app", "postgresql://db/app"),
        ("postgres://ann@db:1,other:2/app", "postgres://ann@db:1,other:2/app"),
        ("postgresql://ann:p@db/app?host=%2Fvar", "postgresql://ann:********@db/app?host=%2Fvar"),
        ("postgresql:///app?host=/run&Password=p&sslpassword=q", "postgresql:///app?host=/run"),
        ("postgresql://ann:p@ss@db/app", "postgresql://ann:********@db/app"),
        ("postgresql://ann:p/ss@db/app", "postgresql://********"),
        ("postgresql://ann:p?ss@db/app", "postgresql://********"),
        ("postgresql://ann:p#ss@db/app", "postgresql://********"),
        ("postgresql://ann:[p@db/app", "postgresql://********"),
        ("host=db password=p", "postgresql://********"),
    ],
)
def test_a_connection_string_is_shown_without_its_password(dsn: str, shown: str) -> None:
    assert without_password(dsn) == shown


# -- what there is ---------------------------------------------------------------------------------


def test_every_setting_says_what_it_means_and_what_it_may_be() -> None:
    variables = describe(PROJECTIONS)
    assert len({v.name for v in variables}) == len(variables) > 60
    assert not [v.name for v in variables if not (v.allowed and v.meaning and v.name.startswith("ACTIVITY_"))]
    assert Variable(
        name="ACTIVITY_FIFTH__GOAL",
        section="fifth",
        field="goal",
        allowed="whole number, at least 1",
        default="3",
        meaning="problems a day; fixed once rows are stored",
        secret=False,
    ) in variables  # fmt: skip


def test_every_time_and_size_says_its_unit() -> None:
    numbers = [v for v in describe() if v.allowed.startswith(("number", "whole number"))]
    units = re.compile(r"\b(seconds|bytes|rows|records|batches|connections|part|port)\b")
    assert not [v.name for v in numbers if not units.search(v.meaning)]


def test_the_example_with_everything_uncommented_is_accepted_and_changes_nothing() -> None:
    lines = env_example(PROJECTIONS).splitlines()
    given = [line.removeprefix("#") for line in lines if line.startswith("#ACTIVITY_")]
    server = (
        "ACTIVITY_POSTGRES__HOST",
        "ACTIVITY_POSTGRES__PORT",
        "ACTIVITY_KAFKA__SECURITY",
        "ACTIVITY_SECRETS",
    )
    Path(".env").write_text("\n".join(line for line in given if not line.startswith(server)))
    assert load(PROJECTIONS).redacted() == load(PROJECTIONS, env_file=None).redacted()


def test_the_committed_example_is_current() -> None:
    found = [(p.name, p.options) for p in registry.load().projections.values()]
    committed = (ROOT / ".env.example").read_text("utf-8")
    assert committed == env_example(found), "run: activity-ingest config --env-example > .env.example"


def test_no_setting_is_read_anywhere_else() -> None:
    files = {*(ROOT / "ingest").rglob("*.py"), *(ROOT / "consumers").rglob("*.py")}
    others = files - set((ROOT / "ingest" / "settings").rglob("*.py"))
    reading = re.compile(
        r"""(environ(\.get\(|\[)|getenv\()["'](ACTIVITY_|PG_)|^ *(from|import) dotenv""", re.MULTILINE
    )
    assert not [str(f) for f in others if reading.search(f.read_text("utf-8"))]
