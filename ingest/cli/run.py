"""activity-ingest run"""

import click

from ingest.cli.context import Context
from ingest.cli.options import examples, projections_argument


@click.command(
    name="run",
    epilog=examples(
        "activity-ingest run",
        "activity-ingest run streaks live_activity",
        "activity-ingest run --until-caught-up",
    ),
)
@projections_argument
@click.option(
    "--until-caught-up",
    is_flag=True,
    help="Stop once everything that is in the topics now has been committed.",
)
@click.option("--migrate", is_flag=True, help="Bring the database schema up to date first.")
def command(projections: tuple[str, ...], until_caught_up: bool, migrate: bool) -> None:
    """Read events from Kafka and keep the tables of the projections up to date; all where none is named."""
    from ingest import logs, service
    from ingest.cli.migrate import bring_up
    from ingest.cli.running import run

    context = Context(start=True)
    settings = context.settings
    chosen = context.registry.select(projections)
    logs.configure(settings.log.level, settings.log.format)
    if migrate:
        run(bring_up(context, quiet=True))
    run(service.run(context.registry, settings, chosen, until_caught_up=until_caught_up))
