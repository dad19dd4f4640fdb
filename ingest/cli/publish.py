"""`activity-ingest publish`: events from NDJSON files to Kafka."""

import io
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import IO

import click

from ingest.cli.context import Context
from ingest.cli.options import examples, json_option
from ingest.cli.output import Progress, say, show_json
from ingest.cli.running import run
from ingest.errors import FoundWrong
from ingest.publish import (
    DAMAGED,
    Checker,
    Complaints,
    Failures,
    Outcome,
    chunks,
    in_background,
    publish_file,
    tell_undelivered,
)

STDIN = "stdin"


@click.command(
    "publish",
    epilog=examples(
        "activity-ingest publish events.ndjson more.ndjson.gz",
        "tail -f events.ndjson | activity-ingest publish -",
        "activity-ingest publish --dry-run events.ndjson",
    ),
)
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    metavar="FILE...|-",
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Events a second at most.")
@click.option("--dry-run", is_flag=True, help="Only check the lines; Kafka is not needed.")
@json_option
def command(files: Sequence[str], rate: float | None, dry_run: bool, as_json: bool) -> None:
    """Publish events from NDJSON files, plain or gzip, or from standard input.

    Each line is one CloudEvents 1.0 event in JSON. Good lines are published byte for byte, to the
    topic of their type and under the key of their user or client. Bad ones are named on stderr as
    file:line: reason: detail, and the command then leaves with exit code 1.
    """
    progress = Progress()

    def complain(text: str) -> None:
        progress.clear()
        say(text)

    complaints, outcome = Complaints(complain), Outcome()
    try:
        run(publish(files, rate, dry_run, complaints, outcome, progress))
    finally:
        progress.clear()
        complaints.finish()
        report(outcome, complaints.counts, dry_run, as_json)
    if damaged := complaints.counts.pop(DAMAGED, 0):
        raise FoundWrong(f"{damaged} of {len(files)} files could not be read to the end")
    if refused := complaints.counts.total():
        raise FoundWrong(f"{refused:,} of {outcome.lines:,} lines were refused")


async def publish(
    files: Sequence[str],
    rate: float | None,
    dry_run: bool,
    complaints: Complaints,
    outcome: Outcome,
    progress: Progress,
) -> None:
    context = Context()
    checker = Checker(context.registry.events, context.limits)
    sender = nullcontext() if dry_run else context.outbox(Failures(tell_undelivered(complaints)), rate)
    async with sender as outbox:
        try:
            for file in files:
                name = STDIN if file == "-" else file
                with opened(file) as stream:
                    await publish_file(
                        name,
                        in_background(chunks(stream, name, context.limits.max_event_bytes)),
                        checker,
                        outbox,
                        complaints,
                        outcome,
                        clock=lambda: datetime.now(UTC),
                        on_progress=lambda so_far: progress.update(so_far.lines, "lines"),
                    )
            if outbox is not None:
                await outbox.finish()
        finally:
            outcome.published = outbox.acknowledged if outbox else 0


def opened(file: str) -> IO[bytes]:
    # Standard input without Python's buffer: its lock would be held by a reader when we are interrupted.
    return io.FileIO(0, closefd=False) if file == "-" else open(file, "rb")


def report(outcome: Outcome, refused: Mapping[str, int], dry_run: bool, as_json: bool) -> None:
    """What was done, as the command's answer."""
    if as_json:
        counts = {"lines": outcome.lines, "good": outcome.good, "published": outcome.published}
        show_json({**counts, "refused": dict(refused)})
        return
    done = f"{outcome.good:,} lines are good" if dry_run else f"published {outcome.published:,} events"
    wrong = ", ".join(f"{reason} {count:,}" for reason, count in sorted(refused.items()))
    click.echo(f"{done}; refused: {wrong}" if wrong else done)
