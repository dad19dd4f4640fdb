import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ingest.cli import COMMANDS, cli
from ingest.cli.failures import exit_code, line
from ingest.cli.options import parse_duration
from ingest.errors import (
    FoundWrong,
    IngestError,
    LostOffsets,
    Misconfigured,
    TimedOut,
    Unavailable,
    Unstorable,
)

ROOT = Path(__file__).parents[2]


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command of the group that there is, groups' own commands included."""
    context = click.Context(cli)
    for name in COMMANDS:
        if find_spec(COMMANDS[name].module) is None:
            continue
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {part}", inner) for part, inner in command.commands.items())


ALL = list(commands())
NAMES = [name for name, _ in ALL]


def raising(error: BaseException) -> Any:
    def command() -> None:
        raise error

    return command


def test_every_command_in_the_table_has_its_file() -> None:
    assert [name for name, entry in COMMANDS.items() if find_spec(entry.module) is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_each_command_has_an_example_that_calls_it(name: str) -> None:
    result = CliRunner().invoke(cli, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert f"activity-ingest {name}" in result.output.partition("Examples:")[2]


@pytest.mark.parametrize(("name", "command"), ALL, ids=NAMES)
def test_each_option_of_each_command_says_what_it_is_for(name: str, command: click.Command) -> None:
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize(("name", "command"), ALL, ids=NAMES)
def test_each_command_says_in_a_sentence_what_it_does(name: str, command: click.Command) -> None:
    first = (command.help or "").partition("\n\n")[0].strip()
    assert first.endswith(".")
    assert len(first) > 20


def test_asking_for_help_imports_no_more_than_click_and_the_standard_library() -> None:
    script = (
        "import sys; sys.argv = ['activity-ingest', '--help']\n"
        "from ingest.cli import main\n"
        "try: main()\n"
        "except SystemExit: print([m for m in sys.modules if m in "
        "('msgspec', 'pydantic', 'asyncpg', 'aiokafka', 'structlog', 'asyncio', 'uvloop')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_the_overview_names_every_command_once() -> None:
    output = CliRunner().invoke(cli, ["--help"]).output
    assert [name for name in COMMANDS if output.count(f"\n  {name} ") != 1] == []


def test_an_unknown_command_is_a_mistake_in_the_set_up() -> None:
    assert CliRunner().invoke(cli, ["lagg"]).exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_each_shell(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert "_ACTIVITY_INGEST_COMPLETE" in result.output


def test_completion_offers_the_commands_without_importing_them() -> None:
    items = cli.shell_complete(click.Context(cli), "st")
    assert [(item.value, item.help) for item in items] == [
        ("status", COMMANDS["status"].line),
        ("stack", COMMANDS["stack"].line),
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FoundWrong("3 rows differ"), 1),
        (Unstorable("bad row", "22001"), 1),
        (Misconfigured("no broker is named", "name one"), 2),
        (LostOffsets("offset 7 is gone", "choose"), 2),
        (Unavailable("Kafka does not answer", "kafka"), 3),
        (TimedOut("too slow"), 3),
        (KeyError("bug"), 70),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (click.UsageError("no such option"), 2),
        (click.exceptions.Exit(1), 1),
    ],
)
def test_each_error_has_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(error), []) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_command_that_is_done_leaves_with_zero() -> None:
    assert exit_code(lambda: None, []) == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            Misconfigured("topic x does not exist", "create it"),
            "activity-ingest: topic x does not exist (mend: create it)",
        ),
        (FoundWrong("nothing is known of this user"), "activity-ingest: nothing is known of this user"),
        (IngestError("odd"), "activity-ingest: odd"),
        (ValueError("x"), "activity-ingest: ValueError: x (mend: this is a bug: report what --debug shows)"),
        (
            Misconfigured("a is wrong\nb too", "mend it"),
            "activity-ingest: a is wrong\n  b too\n  mend: mend it",
        ),
    ],
)
def test_an_error_is_told_in_one_line_with_its_mend_or_in_one_line_for_each_fault(
    error: Exception, said: str
) -> None:
    assert line(error) == said


def test_the_traceback_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code(raising(Misconfigured("wrong", "mend")), ["--debug", "lag"])
    assert "Traceback" in capsys.readouterr().err


def test_the_log_level_debug_asks_for_the_traceback_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIVITY_LOG__LEVEL", "debug")
    exit_code(raising(Misconfigured("wrong", "mend")), ["lag"])
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    script = "from ingest.cli import main; main(['simulate', '--events', '2000', '--output', '-'])"
    command = f'{sys.executable} -c "{script}" | head -n 1 > /dev/null; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("141", "")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86_400),
        ("90m", 5_400),
        ("30d", 2_592_000),
        ("1h30m", 5_400),
        ("45s", 45),
        ("1.5s", 1.5),
        ("2D", 172_800),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "1h30", "30m1h", "-1h", "1 h", "1w", "999999999999999d"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
