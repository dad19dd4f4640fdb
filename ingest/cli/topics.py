"""`activity-ingest topics`: which topics there are, and making those that are missing."""

from collections.abc import Sequence

import click

from ingest.cli.context import Context
from ingest.cli.options import examples, json_option
from ingest.cli.output import show_rows
from ingest.cli.running import run
from ingest.errors import FoundWrong
from ingest.kafka import Connection
from ingest.topics import PARTITIONS, Found, create, look


@click.command(
    "topics",
    epilog=examples(
        "activity-ingest topics",
        "activity-ingest topics --create",
        "activity-ingest topics --create --partitions 12 --replication 3",
    ),
)
@click.option("--create", "make", is_flag=True, help="Make those that do not exist.")
@click.option(
    "--partitions",
    type=click.IntRange(1),
    help=f"Of each topic of events that is made  [default: {PARTITIONS}]",
)
@click.option(
    "--replication",
    type=click.IntRange(1),
    help="Replicas of what is made  [default: as many as brokers, 3 at most]",
)
@json_option
def command(make: bool, partitions: int | None, replication: int | None, as_json: bool) -> None:
    """List the topics and create those that are missing; exit 1 where any is.

    Topics of events are made with timestamps by the broker, the one of dead letters with unlimited
    retention and room for headers. Topics that exist are left as they are.
    """
    context = Context()
    made = run(create(Connection(context.kafka), context.registry, partitions, replication)) if make else []
    found = run(list_topics(context))
    rows = [topic._asdict() | ({"made": topic.topic in made} if make else {}) for topic in found]
    show_rows(rows, as_json, "")
    if lacking := [topic.topic for topic in found if not topic.partitions]:
        raise FoundWrong(f"there is no topic {', '.join(lacking)}: activity-ingest topics --create")


async def list_topics(context: Context) -> Sequence[Found]:
    async with context.lookup() as lookup:
        return await look(lookup, context.registry, context.kafka)
