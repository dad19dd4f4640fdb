"""`activity-ingest status`: one screen that says what is wrong and which command mends it."""

import click

from ingest.cli.context import Context
from ingest.cli.options import examples, json_option
from ingest.cli.output import coloured, show_json, table
from ingest.cli.running import run
from ingest.errors import FoundWrong
from ingest.migrate import check
from ingest.status import Facts, gather, judge, summaries

PATIENCE_S = 5.0


@click.command("status", epilog=examples("activity-ingest status", "activity-ingest status --json"))
@json_option
def command(as_json: bool) -> None:
    """Say what is wrong and which command mends it; exit 1 where something is.

    Where Kafka or Postgres does not answer, the other half is still shown.
    """
    context = Context()
    facts = run(look(context))
    projections = list(context.registry.projections.values())
    troubles = judge(facts, projections)
    rows = [summary._asdict() for summary in summaries(facts, projections)]
    if as_json:
        wrong = [trouble._asdict() for trouble in troubles]
        plain = [row | {"behind": row["behind"] and row["behind"].total_seconds()} for row in rows]
        show_json({"projections": plain, "dead_letters": facts.dead_letters, "wrong": wrong})
    else:
        click.echo(f"Kafka     {context.kafka.bootstrap_servers}\nPostgres  {context.postgres.address}\n")
        letters = "unknown" if facts.dead_letters is None else f"{facts.dead_letters:,}"
        click.echo("\n".join(table(rows)) + f"\n\ndead letters  {letters}\n")
        for trouble in troubles:
            click.echo(f"{coloured('wrong', 'red')}  {trouble.what}\n  mend {trouble.mend}")
    if troubles:
        raise FoundWrong(f"{len(troubles)} things are wrong" if len(troubles) > 1 else "1 thing is wrong")
    if not as_json:
        click.echo(coloured("nothing is wrong", "green"))


async def look(context: Context) -> Facts:
    async with context.database() as database:

        async def pending() -> int:
            return len(await check(context.postgres, context.registry.files))

        projections = list(context.registry.projections.values())
        return await gather(context.lookup(PATIENCE_S), database, pending, projections, context.kafka)
