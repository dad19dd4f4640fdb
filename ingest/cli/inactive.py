"""`activity-ingest inactive`: clients or users not seen for some time."""

from datetime import datetime, timedelta

import click
from click.shell_completion import CompletionItem

from ingest.cli.context import Context
from ingest.cli.options import Duration, examples, json_option
from ingest.cli.output import cell, say, show_rows
from ingest.cli.running import run
from ingest.errors import Unavailable
from ingest.inspect import Silence, asked_of, groups, inactive
from ingest.postgres import Database
from ingest.postgres.inspect import clock
from ingest.postgres.progress import as_of

BROKER_PATIENCE_S = 5.0


def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(group) for group in groups(Context().registry) if group.startswith(incomplete)]


@click.command(
    "inactive",
    epilog=examples(
        "activity-ingest inactive clients --for 24h",
        "activity-ingest inactive users --for 30d --limit 1000 --json",
    ),
)
@click.argument("group", shell_complete=complete, metavar="clients|users")
@click.option(
    "--for",
    "silent_for",
    type=Duration(),
    default="24h",
    show_default=True,
    help="How long: 24h, 30d, 1h30m.",
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Rows at most.")
@json_option
def command(group: str, silent_for: timedelta, limit: int, as_json: bool) -> None:
    """List clients or users not seen for some time, the longest silent first.

    Time is counted from the moment up to which events were read, so that a backlog is not mistaken
    for silence.
    """
    silence = run(ask(group, silent_for, limit))
    show_rows(silence.rows, as_json, f"no {group} silent since {cell(silence.cutoff)}")
    if silence.more:
        say(f"… and more: see them with --limit {limit * 10}")


async def ask(group: str, silent_for: timedelta, limit: int) -> Silence:
    context = Context()
    projection = asked_of(context.registry, group)
    async with context.database() as database:
        now = await read_up_to(context, database, projection)
        return await inactive(database, context.registry.sql[projection], group, now, silent_for, limit)


async def read_up_to(context: Context, database: Database, projection: str) -> datetime:
    """The moment up to which the projection's events were read; now where nobody can say."""
    topic = context.settings.kafka.topic(context.registry.projections[projection].topic)
    moment = None
    try:
        async with context.lookup(BROKER_PATIENCE_S) as lookup:
            partitions = (await lookup.topics([topic])).get(topic, 0)
        moment = await as_of(database, projection, topic, partitions)
    except Unavailable as error:
        say(f"cannot tell how far {topic} was read: {error.message}")
    if moment is None:
        say("counted from now: a backlog would look like silence")
        return await clock(database)
    return moment
