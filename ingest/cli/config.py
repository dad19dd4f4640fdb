"""`activity-ingest config`: the settings in force, and in its help every setting there is."""

from itertools import groupby

import click

from ingest.cli.context import Context
from ingest.cli.options import examples, json_option
from ingest.cli.output import show_json, show_rows


class Described(click.Command):
    """A command whose help lists every setting with its unit, its meaning and its default."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        for section, variables in groupby(Context().describe(), key=lambda variable: variable.section):
            with formatter.section(f"Settings: {section}" if section else "Settings"):
                formatter.write_dl(
                    [
                        (v.name, f"{v.meaning} ({v.allowed}; default: {v.default or 'none'})")
                        for v in variables
                    ]
                )


@click.command(
    "config",
    cls=Described,
    epilog=examples(
        "activity-ingest config",
        "ACTIVITY_WORKER__FLUSH_INTERVAL=0.2 activity-ingest config --json",
        "activity-ingest config --env-example > .env",
    ),
)
@click.option("--env-example", is_flag=True, help="Print a .env file with every setting and its default.")
@click.option("--all", "show_all", is_flag=True, help="Show settings that have their default, too.")
@json_option
def command(env_example: bool, show_all: bool, as_json: bool) -> None:
    """Show the settings in force and where each was set; secrets stay hidden.

    Settings come from the environment, from .env in the present folder, or from files in the secrets
    directory; the environment wins.
    """
    context = Context()
    if env_example:
        click.echo(context.env_example(), nl=False)
        return
    settings = context.configured
    origins = settings.origins()
    rows = [
        {"setting": name, "value": value, "from": origins.get(name, "default")}
        for name, value in settings.redacted().items()
        if show_all or as_json or name in origins
    ]
    if as_json:
        show_json({row["setting"]: {"value": row["value"], "from": row["from"]} for row in rows})
    else:
        show_rows(rows, False, "every setting has its default: see them with --all")
