"""`activity-ingest verify`: prove that the tables equal the fold of the log."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import timedelta
from time import monotonic

import click

from ingest.cli.context import Context
from ingest.cli.options import Duration, examples, json_option, projections_argument
from ingest.cli.output import Progress, coloured, show_json
from ingest.cli.running import run
from ingest.errors import FoundWrong
from ingest.kafka import Connection, LogReader
from ingest.record import Offsets, Partition, Record
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
@click.option("--timeout", type=Duration(), default="10m", show_default=True, help="How long to wait in all.")
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
    reports = run(prove(projections, wait, timeout, covered, silent=as_json))
    if as_json:
        show_json([report.plain() for report in reports])
    if wrong := [report.projection for report in reports if not report.ok]:
        raise FoundWrong(f"not proved: {', '.join(wrong)}")


async def prove(
    names: Sequence[str], wait: bool, timeout: timedelta, covered: bool, silent: bool
) -> list[Report]:
    """One report after the other, each shown as it comes; `timeout` is for all of them together."""
    context = Context()
    chosen = context.registry.select(names)
    connection = Connection(context.kafka)
    progress = Progress()
    until = monotonic() + timeout.total_seconds()
    reports = []

    def read(starts: Offsets, ends: Offsets) -> AsyncGenerator[tuple[Partition, Sequence[Record]], None]:
        return LogReader(connection, starts, ends).chunks()

    async with context.database() as database, context.lookup() as lookup:
        for projection in chosen:

            def told(phase: str, done: int, total: int, name: str = projection.name) -> None:
                progress.note(f"{name}: {phase}, {done:,} of {total:,}")

            subject = Subject.of(projection, context.registry, context.settings)
            terms = Terms(wait=wait, timeout=max(0, until - monotonic()), covered=covered, progress=told)
            try:
                reports.append(await verify(subject, lookup, read, database, terms))
            finally:
                progress.clear()
            if not silent:
                click.echo("\n".join(lines(reports[-1])))
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
