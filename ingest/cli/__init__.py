"""The command line: `activity-ingest COMMAND`.

Each command lives in a file of its own and is imported only when it is called, so that `--help` and
completion answer at once. A file offers its command as `command`.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from ingest.cli.failures import NobodyReads, exit_code

PROGRAM = "activity-ingest"


class Entry(NamedTuple):
    """A command: its name, the heading it stands under, and its line there."""

    name: str
    heading: str
    line: str

    @property
    def module(self) -> str:
        return f"ingest.cli.{self.name}"


WORK, LOOK, SET_UP = "Work", "Look", "Set up"
COMMANDS = {
    entry.name: entry
    for entry in (
        Entry("run", WORK, "Read events from Kafka and keep the tables up to date."),
        Entry("publish", WORK, "Publish events from NDJSON files."),
        Entry("simulate", WORK, "Publish realistic traffic."),
        Entry("demo", WORK, "See the whole service work, and the proof that its tables are right."),
        Entry("status", LOOK, "Say what is wrong and which command mends it."),
        Entry("lag", LOOK, "Show how far each projection is behind."),
        Entry("show", LOOK, "Show all that is known of a client, a user or a session."),
        Entry("inactive", LOOK, "List clients or users not seen for some time."),
        Entry("verify", LOOK, "Prove that the tables equal the fold of the log."),
        Entry("doctor", LOOK, "Check settings, Kafka and Postgres, step by step."),
        Entry("stack", SET_UP, "Start and stop the embedded Postgres and broker."),
        Entry("migrate", SET_UP, "Bring the database schema up to date."),
        Entry("topics", SET_UP, "List the topics and create those that are missing."),
        Entry("config", SET_UP, "Show the settings in force."),
        Entry("refold", SET_UP, "Empty a projection's tables and read its topic again."),
        Entry("completion", SET_UP, "Print a shell completion script."),
    )
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and lines, and imports one when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = import_module(entry.module).command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise NobodyReads from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading in (WORK, LOOK, SET_UP):
            with formatter.section(heading):
                formatter.write_dl([(e.name, e.line) for e in COMMANDS.values() if e.heading == heading])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [e for e in COMMANDS.values() if e.name.startswith(incomplete)]
        return [CompletionItem(e.name, help=e.line) for e in names] + click.Command.shell_complete(
            self, ctx, incomplete
        )


def show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"{PROGRAM} {version(PROGRAM)}")
        ctx.exit()


@click.group(
    name=PROGRAM,
    cls=LazyGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"'{PROGRAM} COMMAND --help' has an example of each. "
    "Exit codes: 0 done, 1 found something wrong, 2 set up wrongly, 3 Kafka or Postgres not reachable.",
)
@click.option("--debug", is_flag=True, help="Show the traceback when a command fails.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version.",
)
def cli(debug: bool) -> None:
    """Activity events from Kafka, folded into Postgres tables."""


def main(arguments: Sequence[str] | None = None) -> Any:
    """Run the command line and leave with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(exit_code(lambda: cli.main(args=given, prog_name=PROGRAM, standalone_mode=False), given))
