"""`activity-ingest show`: all that is known of one client, user or session."""

import click
from click.shell_completion import CompletionItem

from ingest.cli.context import Context
from ingest.cli.options import examples, json_option
from ingest.cli.output import pairs, show_json, table
from ingest.cli.running import run
from ingest.errors import FoundWrong
from ingest.inspect import Answer, kinds, show


def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(kind) for kind in kinds(Context().registry) if kind.startswith(incomplete)]


@click.command(
    "show",
    epilog=examples(
        "activity-ingest show client ARAUC_XALAP",
        "activity-ingest show user user-000123",
        "activity-ingest show session 820062ecae94e386 --json",
    ),
)
@click.argument("kind", shell_complete=complete, metavar="client|user|session")
@click.argument("id")
@json_option
def command(kind: str, id: str, as_json: bool) -> None:
    """Show all that is known of a client, a user or a session; exit 1 where nothing is."""
    answers = run(ask(kind, id))
    if as_json:
        show_json(as_object(answers))
    elif known := [answer for answer in answers if answer.rows]:
        click.echo("\n\n".join("\n".join(told(answer)) for answer in known))
    if not any(answer.rows for answer in answers):
        raise FoundWrong(f"nothing is known of this {kind}")


async def ask(kind: str, id: str) -> list[Answer]:
    context = Context()
    async with context.database() as database:
        return await show(database, context.registry, kind, id)


def as_object(answers: list[Answer]) -> dict[str, dict[str, list[object]]]:
    """{projection: {section: rows}}."""
    found: dict[str, dict[str, list[object]]] = {}
    for answer in answers:
        found.setdefault(answer.projection, {})[answer.section] = list(answer.rows)
    return found


def told(answer: Answer) -> list[str]:
    """One row as names and values, several as a table."""
    title = f"{answer.projection} · {answer.section.replace('_', ' ')}"
    rows = pairs(answer.rows[0]) if len(answer.rows) == 1 else table(answer.rows)
    return [title, *(f"  {line}" for line in rows)]
