"""`activity-ingest verify`: prove that the tables equal the fold of the log."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import click

from ingest.cli.context import Context
from ingest.cli.options import Duration, examples, json_option, projections_argument
from ingest.cli.output import Progress, coloured, show_json
from ingest.cli.running import run
from ingest.errors import FoundWrong
from ingest.kafka.client import Connection
from ingest.kafka.reader import LogReader
from ingest.verify import Report, Subject, TableReport, Terms, verify

COLOURS = {"equal": "green", "covered": "green", "differs": "red", "behind": "yellow"}
MARGIN = " " * 9


@click.command(
    "verify",
    epilog=examples(
        "activity-ingest verify",
        "activity-ingest verify streaks live_activity --json",
        "activity-ingest verify --no-wait --covered",
    ),
)
@projections_argument
@click.option(
    "--wait/--no-wait",
    default=True,
    help="Wait until the workers have caught up; else exit 1 if they have not.",
)
@click.option("--timeout", type=Duration(), default="10m", show_default=True, help="How long to wait.")
@click.option(
    "--covered", is_flag=True, help="Tables held rows before the log began: prove that they contain it."
)
@json_option
def command(projections: Sequence[str], wait: bool, timeout: timedelta, covered: bool, as_json: bool) -> None:
    """Prove that the tables equal the fold of the log; exit 1 and say where they differ.

    Every record is read again and folded by a second, slower account that shares no merge code with
    the workers. Where the log is whole each row must equal it; where its beginning is gone, each row
    must contain what is left of it. The answer may name clients and users.
    """
    reports = run(prove(projections, wait, timeout, covered))
    if as_json:
        show_json([report.plain() for report in reports])
    else:
        click.echo("\n".join(line for report in reports for line in lines(report)))
    if wrong := [report.projection for report in reports if not report.ok]:
        raise FoundWrong(f"not proved: {', '.join(wrong)}")


async def prove(names: Sequence[str], wait: bool, timeout: timedelta, covered: bool) -> list[Report]:
    context = Context()
    chosen = context.registry.select(names)
    connection = Connection(context.kafka)
    progress = Progress()
    reports = []
    async with context.database() as database, context.lookup() as lookup:
        for projection in chosen:

            def told(phase: str, done: int, total: int, name: str = projection.name) -> None:
                progress.note(f"{name}: {phase}, {done:,} of {total:,}")

            terms = Terms(wait=wait, timeout=timeout.total_seconds(), covered=covered, progress=told)
            subject = Subject.of(projection, context.registry, context.settings)
            try:
                reports.append(
                    await verify(
                        subject, lookup, lambda a, b: LogReader(connection, a, b).chunks(), database, terms
                    )
                )
            finally:
                progress.clear()
    return reports


def lines(report: Report) -> Iterator[str]:
    """What a person reads of one projection."""
    verdict = coloured(f"{report.verdict:<8}", COLOURS[report.verdict])
    yield f"{verdict} {report.projection}: {counted(report)}"
    for line in details(report):
        yield MARGIN + line


def counted(report: Report) -> str:
    if report.behind:
        return f"{report.behind:,} records behind"
    keys = ", ".join(f"{count:,} rows of {table}" for table, count in report.keys.items())
    return f"{report.events:,} events, {keys}, {report.seconds:.1f} s"


def details(report: Report) -> Iterator[str]:
    if report.behind:
        yield report.why
    else:
        yield f"{'proved' if report.ok else 'compared for'} {report.proof}: {report.why}"
    if report.dead_letters:
        by_reason = ", ".join(f"{count:,} {reason}" for reason, count in report.dead_letters.items())
        yield f"dead letters: {by_reason}"
    yield from (line for table in report.tables for line in of_table(table))
    yield from (f"  {difference}" for difference in report.differences)
    if report.lost:
        origins = ", ".join(report.lost_origins)
        yield f"{report.lost:,} records were rejected but not dead-lettered: {origins}"
    yield from (*report.notes, *report.hints)


def of_table(table: TableReport) -> Iterator[str]:
    if table.bounded:
        yield f"{table.name}: {table.bounded:,} rows hold events that they need not hold"
    if table.different:
        counts = (table.missing, "missing"), (table.extra, "unexplained"), (table.unequal, "unequal")
        yield f"{table.name}: " + ", ".join(f"{count:,} rows {what}" for count, what in counts if count)
