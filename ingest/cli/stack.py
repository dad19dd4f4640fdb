"""`activity-ingest stack`: the embedded Postgres and broker under `.stack/` of the present folder."""

from pathlib import Path
from shlex import quote

import click

from ingest import stack
from ingest.cli.options import examples, json_option
from ingest.cli.output import Progress, say, show_json, show_rows
from ingest.errors import FoundWrong

HERE = Path()


@click.group("stack", epilog=examples("activity-ingest stack up", 'eval "$(activity-ingest stack env)"'))
def command() -> None:
    """Start and stop the embedded Postgres and broker.

    They live under .stack/ of the present folder and listen on this machine only. The database
    keeps its data when it stops; the broker keeps its topics in memory and loses them.
    """


@command.command(epilog=examples("activity-ingest stack up"))
def up() -> None:
    """Start what does not run yet; return when both answer."""
    progress = Progress()
    progress.note("starting Postgres and the broker …")
    try:
        stack.up(HERE)
    finally:
        progress.clear()
    for server in stack.status(HERE):
        click.echo(f"{server.name} answers on 127.0.0.1:{server.port}")
    say('for this shell: eval "$(activity-ingest stack env)"')


@command.command(epilog=examples("activity-ingest stack down"))
def down() -> None:
    """Stop both. The database keeps its data, the broker's topics are gone."""
    stopped = stack.down(HERE)
    click.echo(f"stopped {' and '.join(stopped)}" if stopped else "nothing was running")


@command.command(epilog=examples("activity-ingest stack status", "activity-ingest stack status --json"))
@json_option
def status(as_json: bool) -> None:
    """Say what runs and where; exit 1 unless both do."""
    servers = stack.status(HERE)
    rows = [
        {"server": s.name, "state": s.state, "pid": s.pid, "port": s.port, "log": str(s.log)} for s in servers
    ]
    show_rows(rows, as_json, "")
    if any(server.state != "running" for server in servers):
        raise FoundWrong("the embedded stack is not running: activity-ingest stack up")


@command.command(epilog=examples('eval "$(activity-ingest stack env)"', "activity-ingest stack env --json"))
@json_option
def env(as_json: bool) -> None:
    """Print the variables that point a shell, and every command in it, at this stack.

    They hold the database's password.
    """
    variables = stack.env(HERE)
    if as_json:
        show_json(variables)
    else:
        click.echo("\n".join(f"export {name}={quote(value)}" for name, value in variables.items()))
