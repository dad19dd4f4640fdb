"""`activity-ingest refold`: empty a projection's tables and have its topic read again."""

import sys

import click

from ingest.cli.context import Context
from ingest.cli.options import complete_projection, examples, json_option
from ingest.cli.output import is_terminal, say, show_json
from ingest.cli.running import run
from ingest.errors import Misconfigured
from ingest.kafka import Connection
from ingest.refold import Outlook, empty, look, refold


@click.command(
    "refold",
    epilog=examples("activity-ingest refold streaks --dry-run", "activity-ingest refold streaks --yes"),
)
@click.argument("projection", shell_complete=complete_projection)
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def command(projection: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Empty the tables of PROJECTION; the next worker fills them from the beginning of the log.

    Needed to change a setting that stored rows depend on. Says first what the log no longer has: that
    is lost. All workers of the projection must have been stopped.
    """
    run(ask_and_refold(projection, dry_run, yes, as_json))


async def ask_and_refold(name: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    context = Context()
    (projection,) = context.registry.select([name])
    sql = context.registry.sql[name]
    empty(sql.queries, name)
    async with context.database() as database, context.lookup() as lookup:
        outlook = await look(lookup, projection, context.kafka.topic(projection.topic))
        if not as_json:
            say(told(name, outlook))
        if not dry_run:
            confirm(name, yes)
            await refold(Connection(context.kafka), database, projection, sql, outlook)
    if as_json:
        show_json({"projection": name, "gone": outlook.gone, "records": outlook.records, "done": not dry_run})
    elif not dry_run:
        click.echo(f"{name} is empty; activity-ingest run {name} fills it again")


def told(name: str, outlook: Outlook) -> str:
    kept = f"{outlook.records:,} records of the log will be read again"
    lost = f"; {outlook.gone:,} older ones are gone, and what only they told is lost" if outlook.gone else ""
    thinned = "; the topic is compacted, so earlier events of a key may be gone" if outlook.compacted else ""
    return f"{name}: {kept}{lost}{thinned}"


def confirm(name: str, yes: bool) -> None:
    """Ask on a terminal; elsewhere only --yes goes on. Raises Misconfigured or click.Abort."""
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise Misconfigured(f"this empties the tables of {name}", "say so with --yes")
    click.confirm(f"empty the tables of {name}?", abort=True, err=True)
