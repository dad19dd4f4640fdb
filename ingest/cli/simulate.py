"""`activity-ingest simulate`: realistic traffic, published or written as NDJSON."""

from datetime import UTC, datetime
from typing import IO

import click

from ingest.cli.context import Context
from ingest.cli.options import examples
from ingest.cli.output import Progress
from ingest.cli.running import run
from ingest.publish import Failures
from ingest.simulate import Simulation, simulate

SHARE = click.FloatRange(0, 1)
EVENTS = 50_000
EVENTS_A_DAY = 60  # of one user alone


@click.command(
    "simulate",
    epilog=examples(
        "activity-ingest simulate",
        "activity-ingest simulate --users 50 --clients 10 --events 2000 --rate 100",
        "activity-ingest simulate --user-id ana --simulate-days 14",
        "activity-ingest simulate --events 1000 --seed 7 --output events.ndjson",
    ),
)
@click.option(
    "--users", type=click.IntRange(0), default=2_000, show_default=True, help="How many users there are."
)
@click.option(
    "--clients", type=click.IntRange(0), default=400, show_default=True, help="How many clients there are."
)
@click.option("--user-id", help="Simulate this one user, who comes nearly every day, and nobody else.")
@click.option(
    "--simulate-days", "days", type=click.IntRange(1), default=14, show_default=True, help="Days up to now."
)
@click.option(
    "--events",
    type=click.IntRange(0),
    help=f"About how many  [default: {EVENTS}, or {EVENTS_A_DAY} a day with --user-id]",
)
@click.option("--duplicates", type=SHARE, default=0.02, show_default=True, help="Share that is sent twice.")
@click.option(
    "--disorder",
    type=SHARE,
    default=0.05,
    show_default=True,
    help="Share that is late, by seconds or by days.",
)
@click.option("--invalid", type=SHARE, help="Share that is wrong  [default: 0.01, or 0 with --user-id]")
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="The same seed, options and --end make the same bytes.",
)
@click.option(
    "--end",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"]),
    help="When the days end, in UTC  [default: now]",
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Events a second at most.")
@click.option(
    "--output", type=click.File("wb", lazy=True), metavar="FILE|-", help="Write NDJSON instead of publishing."
)
def command(
    users: int, clients: int, user_id: str | None, days: int, events: int | None, duplicates: float,
    disorder: float, invalid: float | None, seed: int, end: datetime | None, rate: float | None,
    output: IO[bytes] | None,
) -> None:  # fmt: skip
    """Publish realistic traffic: users and clients, days and nights, live sessions.

    Most of it lies shortly before the end, so that there is something to see at once. Some events come
    twice, late or out of order, and some are invalid in every way a worker must survive.
    """
    alone = user_id is not None
    simulation = Simulation(
        end=end.replace(tzinfo=UTC) if end else datetime.now(UTC),
        users=1 if alone else users,
        clients=0 if alone else clients,
        user_id=user_id,
        days=days,
        events=(EVENTS_A_DAY * days if alone else EVENTS) if events is None else events,
        duplicates=duplicates,
        disorder=disorder,
        invalid=(0.0 if alone else 0.01) if invalid is None else invalid,
        seed=seed,
    )
    if output is not None:
        write(simulation, output)
    else:
        published = run(publish(simulation, rate))
        click.echo(f"published {published:,} events")


def write(simulation: Simulation, output: IO[bytes]) -> None:
    """One line each; what a line cannot hold is written as it can be told."""
    for message in simulate(simulation):
        output.write(message.value + b"\n")


async def publish(simulation: Simulation, rate: float | None) -> int:
    progress, failures = Progress(), Failures()
    try:
        async with Context().outbox(failures, rate) as outbox:
            for message in simulate(simulation):
                await outbox.send(message.topic, message.key, message.value)
                progress.update(outbox.sent, "events", f" of {simulation.events:,}")
            await outbox.finish()
            return outbox.acknowledged
    finally:
        progress.clear()
