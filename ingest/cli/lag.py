"""`activity-ingest lag`: how far each projection is behind, partition by partition."""

import asyncio
import sys
from collections.abc import Sequence

import click

from ingest.cli.context import Context
from ingest.cli.options import examples, json_option, projections_argument
from ingest.cli.output import is_terminal, show_json, show_rows
from ingest.cli.running import run
from ingest.kafka.lookup import Lookup
from ingest.postgres import Database
from ingest.projection import Projection
from ingest.status import Lag, lags, stored_progress

CLEAR = "\x1b[H\x1b[2J"


@click.command(
    "lag",
    epilog=examples(
        "activity-ingest lag", "activity-ingest lag --watch", "activity-ingest lag streaks --json"
    ),
)
@projections_argument
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between.",
)
@json_option
def command(projections: Sequence[str], watch: bool, every: float, as_json: bool) -> None:
    """Show how far each projection is behind, for all of them or those named.

    committed: where its group reads on. end: where the topic ends. next offset, read up to: what
    Postgres says of the rows it has.
    """
    run(follow(projections, every if watch else None, as_json))


async def follow(names: Sequence[str], every: float | None, as_json: bool) -> None:
    context = Context()
    chosen = context.registry.select(names)
    async with context.database() as database, context.lookup() as lookup:
        while True:
            found = await ask(context, chosen, lookup, database)
            if every is None:
                return show(found, as_json)
            if not as_json and is_terminal(sys.stdout):
                click.echo(CLEAR, nl=False)
            show(found, as_json)
            await asyncio.sleep(every)


async def ask(
    context: Context, projections: Sequence[Projection], lookup: Lookup, database: Database
) -> list[Lag]:
    stored = await stored_progress(database)
    kafka = context.kafka
    return [lag for p in projections for lag in await lags(lookup, stored, p.name, kafka.topic(p.topic))]


def show(found: Sequence[Lag], as_json: bool) -> None:
    if as_json:
        show_json([lag._asdict() for lag in found])
    else:
        show_rows([lag._asdict() for lag in found], False, "no topic yet: activity-ingest topics --create")
