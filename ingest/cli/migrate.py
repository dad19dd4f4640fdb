"""`activity-ingest migrate`: bring the database schema up to date, or say what is pending."""

import click

from ingest.cli.context import Context
from ingest.cli.options import examples, json_option
from ingest.cli.output import show_json
from ingest.cli.running import run
from ingest.errors import FoundWrong
from ingest.migrate import Step, check, migrate
from ingest.postgres.pins import put_settings
from ingest.projection import pinned_names


@click.command(
    "migrate",
    epilog=examples(
        "activity-ingest migrate", "activity-ingest migrate --check   # in a deploy, before the workers"
    ),
)
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 1 if anything is pending.")
@json_option
def command(only_check: bool, as_json: bool) -> None:
    """Bring the database schema up to date; any number may do so at once.

    Settings on which stored rows depend are stored with it the first time.
    """
    context = Context()
    steps = run(check(context.postgres, context.registry.files) if only_check else bring_up(context, as_json))
    if as_json:
        show_json([{"file": step.file, "version": step.version, "title": step.title} for step in steps])
    elif only_check:
        click.echo("\n".join(f"pending: {step}" for step in steps) or "the schema is up to date")
    elif not steps:
        click.echo("the schema was up to date")
    if only_check and steps:
        raise FoundWrong(f"{len(steps)} migrations are pending: activity-ingest migrate")


async def bring_up(context: Context, quiet: bool) -> list[Step]:
    """Migrate, then store the settings that SQL reads. Raises Misconfigured where stored ones differ."""
    done = await migrate(
        context.postgres,
        context.registry.files,
        report=lambda step: None if quiet else click.echo(f"migrated: {step}"),
    )
    async with context.database() as database:
        for name, projection in context.registry.projections.items():
            options = context.settings.projection(name).options
            await put_settings(database, name, options.model_dump(), pinned_names(projection.options))
    return done
