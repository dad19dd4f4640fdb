"""What README.md and tests/README.md say of the code is so."""

import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path

import click
import pytest

from ingest import registry
from ingest.cli import COMMANDS
from ingest.cli.failures import BUG, CODES, INTERRUPTED
from ingest.contract import Limits
from ingest.kafka.deadletters import OURS
from ingest.metrics import METRICS
from ingest.publish import Checker, Line
from ingest.record import Reason
from ingest.settings import describe, load
from ingest.settings.environment import PG
from ingest.settings.worker import WorkerSettings
from tests.readme import README, ROOT, TABLES, blocks, made, text

PROJECTIONS = [(p.name, p.options) for p in registry.load().projections.values()]
TESTS = ROOT / "tests"


def section(title: str) -> str:
    """From a heading to the next of its rank."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text(), re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def first_cells(of: str) -> list[str]:
    """The first column of the tables in a text, without their heads."""
    rows = re.findall(r"^\| (.*?) \|", of, re.MULTILINE)
    return [row for row in rows if row.startswith("`") or row.isdigit()]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_made_from_the_code_is_current(name: str) -> None:
    assert dict(made())[name] == TABLES[name](), "python -m tests.readme writes it anew"


def test_every_table_made_from_the_code_is_there_once() -> None:
    assert sorted(name for name, _ in made()) == sorted(TABLES)


def test_every_reason_is_explained_but_the_one_that_no_command_gives_yet() -> None:
    reasons = re.findall(
        r"^\| `(\w+)` \| \w", section("The wire contract").split("| reason |")[1], re.MULTILINE
    )
    assert reasons == [reason.value for reason in Reason if reason is not Reason.SKIPPED]


def test_every_header_of_a_dead_letter_is_explained() -> None:
    cells = first_cells(section("Dead letters"))
    assert sorted(word for cell in cells for word in words(cell)) == sorted(OURS)


def test_every_command_is_in_the_table_of_commands() -> None:
    commands = section("The command line").split("| exit code |")[0]
    assert sorted(words(cell)[0].split()[0] for cell in first_cells(commands)) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_options_that_the_table_names(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}\b.*$", section("The command line"), re.MULTILINE)
    command = import_module(COMMANDS[name].module).command
    assert isinstance(command, click.Command)
    known = {option for part in command.params for option in (*part.opts, *part.secondary_opts)}
    assert set(re.findall(r"`(--[\w-]+)", row)) <= known


def test_every_exit_code_is_explained() -> None:
    codes = first_cells(section("The command line").split("| exit code |")[1])
    assert codes == [str(code) for code in (0, *sorted(code for _, code in CODES), BUG, INTERRUPTED)]


def test_every_word_of_the_makefile_is_explained() -> None:
    makefile = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = [w for cell in first_cells(section("Development")) for w in words(cell)]
    assert sorted(named) == sorted(f"make {word}" for word in makefile if word != "help")


def test_only_settings_that_there_are_are_named() -> None:
    known = {variable.name for variable in describe(PROJECTIONS)}
    known |= {
        f"ACTIVITY_{name}__{field}".upper()
        for name, _ in PROJECTIONS
        for field in WorkerSettings.model_fields
    }
    named = set(re.findall(r"\bACTIVITY_\w+", text())) - {"ACTIVITY_WORKER__"}
    assert named <= known
    assert set(re.findall(r"`(PG_\w+)`", text())) == set(PG)


def test_only_metrics_that_there_are_are_named() -> None:
    assert set(re.findall(r"\bactivity_ingest_\w+", text())) <= {metric.full_name for metric in METRICS}


def test_only_commands_that_there_are_are_named() -> None:
    assert set(re.findall(r"\bactivity-ingest ([a-z]+)", text())) <= set(COMMANDS)


def test_links_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", h).replace(" ", "-").lower() for h in re.findall(r"^#+ (.*)$", text(), re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text()):
        assert target.startswith("https://") or target[1:] in anchors or (README.parent / target).exists(), (
            target
        )


def test_every_setting_shown_for_own_servers_is_accepted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks("ini")
    for name in re.findall(r"=(\S+\.pem)$", text(), re.MULTILINE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for block in found:
        variables = dict(line.split("=", 1) for line in block.text.splitlines())
        settings = load(PROJECTIONS, overrides=variables, env_file=None)
        assert settings.kafka.configured or settings.postgres.configured
    assert len(found) >= 4


def shown_events() -> Iterator[str]:
    for line in text().splitlines():
        yield from re.findall(r'\{"specversion".*\}\}', line)


def test_every_event_shown_is_one_but_the_one_shown_to_be_bad() -> None:
    checker = Checker(registry.load().events, Limits())
    lines = [Line(event.encode(), "README.md", number) for number, event in enumerate(shown_events(), 1)]
    good, rejects = checker.check(lines, datetime(2100, 1, 1, tzinfo=UTC))
    assert len(good) >= 5
    assert [b'"yesterday"' in (reject.record.value or b"") for reject in rejects] == [True]


@cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_test_that_the_table_of_traps_names_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", (TESTS / "README.md").read_text("utf-8"))
    assert len(named) > 30
    assert [f"{file}::{name}" for file, name in named if name not in functions(TESTS / file)] == []
