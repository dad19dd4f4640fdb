"""`activity-ingest demo`: the whole service in about a minute, and the proof that its tables are right."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from ingest.cli.context import Context, be_quiet
from ingest.cli.options import examples, json_option
from ingest.cli.output import Progress, coloured, is_terminal, pairs, say, show_json, table
from ingest.demo import Outcome, Plan, View, play
from ingest.errors import FoundWrong

FOLDER = Path(".stack") / "demo"
SAY_EVERY_S = 3.0
RATE, SHORTEST_S, LONGEST_S = 2_500, 6.0, 20.0


@click.command(
    "demo",
    epilog=examples(
        "activity-ingest demo", "activity-ingest demo --keep", "activity-ingest demo --events 5000"
    ),
)
@click.option("--keep", is_flag=True, help="Leave servers and worker running and print their addresses.")
@click.option("--events", type=click.IntRange(100), default=50_000, show_default=True, help="About how many.")
@click.option("--users", type=click.IntRange(1), default=2_000, show_default=True, help="How many users.")
@click.option("--clients", type=click.IntRange(1), default=400, show_default=True, help="How many clients.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same traffic.")
@json_option
def command(keep: bool, events: int, users: int, clients: int, seed: int, as_json: bool) -> None:
    """See the whole service work, on servers of its own under .stack/demo.

    Publishes realistic traffic, stops the worker in mid-stream, starts it again, drains, and proves
    that the tables equal the fold of the log; exit 1 where they do not. Needs the extra [embedded].
    """
    be_quiet("error")
    plan = Plan(
        folder=FOLDER.absolute(), events=events, users=users, clients=clients, seed=seed, keep=keep,
        seconds=min(LONGEST_S, max(SHORTEST_S, events / RATE)),
    )  # fmt: skip
    stage = Stage()
    try:
        outcome = play(plan, Context().registry, stage.show)
    finally:
        stage.clear()
    if as_json:
        show_json(plain(outcome))
    else:
        click.echo("\n".join(told(outcome)))
    if not outcome.equal:
        raise FoundWrong("the tables differ from the fold of the log, see above")


class Stage:
    """The view: one line redrawn on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._progress = Progress()
        self._said = 0.0
        self._act = ""

    def show(self, view: View) -> None:
        now = time.monotonic()
        if is_terminal(sys.stderr):
            self._progress.note(line(view))
        elif view.act != self._act or now - self._said >= SAY_EVERY_S:
            self._said, self._act = now, view.act
            say(line(view))

    def clear(self) -> None:
        self._progress.clear()


def line(view: View) -> str:
    lag = "-" if view.lag is None else f"{view.lag:,}"
    flush = "-" if view.flush is None else f"{view.flush * 1000:.0f} ms"
    return (
        f"{view.act:<22} published {view.published:>6,}/{view.expected:,}  applied {view.applied:>6,}"
        f"  lag {lag:>6}  buffer {view.buffer:>5,} rows  flush {flush:>6}"
        f"  dead letters {view.dead_letters:,}"
    )


def told(outcome: Outcome) -> Iterator[str]:
    """The report."""
    yield from (f"{name:<16} {text}" for name, text in summary(outcome).items())
    yield ""
    yield from table([{"table": name, "rows": rows} for name, rows in outcome.rows.items()])
    for title, rows in outcome.samples.items():
        yield ""
        yield title
        yield from (f"  {text}" for text in (pairs(rows[0]) if len(rows) == 1 else table(rows)))
    yield ""
    for report in outcome.reports:
        verdict = coloured(f"{report.verdict:<8}", "green" if report.ok else "red")
        yield f"{verdict} {report.projection}: {report.events:,} events; {report.why}"
        yield from (f"    {difference}" for difference in report.differences)
        yield from (f"    {text}" for text in (*report.notes, *report.hints))
    yield f"tables equal the fold of the log: {'yes' if outcome.equal else 'NO'}"
    yield ""
    yield from where_next(outcome)


def summary(outcome: Outcome) -> dict[str, str]:
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in outcome.rejected.items())
    return {
        "events in": f"{outcome.published:,}, {outcome.distinct:,} of them distinct",
        "rejected": f"{sum(outcome.rejected.values()):,}: {rejected}",
        "statements sent": f"{outcome.statements:,} in {outcome.flushes:,} flushes",
        "rows": f"{outcome.rows_written:,} written, {outcome.rows_suppressed:,} would not have changed",
        "events/s": f"{outcome.published / max(outcome.seconds, 0.001):,.0f} over {outcome.seconds:.1f} s, "
        f"with the worker away for {outcome.restart:.1f} s",
        "flush": f"p50 {_ms(outcome.flush_p50)}, p99 {_ms(outcome.flush_p99)}",
        "freshness": f"p50 {_ms(outcome.freshness_p50)}, p99 {_ms(outcome.freshness_p99)} "
        f"from an event's time to its row, {outcome.probes} probes, restart included",
    }


def where_next(outcome: Outcome) -> Iterator[str]:
    if outcome.addresses:
        yield "still running:"
        yield from (f"  {text}" for text in pairs(outcome.addresses))
        yield "then for example: activity-ingest status, activity-ingest verify, activity-ingest show user ID"
        yield "to end it: kill the worker's pid, then activity-ingest stack down in that folder"
    else:
        yield "next: activity-ingest demo --keep to look around, activity-ingest --help, README.md"


def plain(outcome: Outcome) -> dict[str, object]:
    """For JSON."""
    fields = (
        "published", "distinct", "statements", "rows_written", "rows_suppressed", "seconds", "flushes",
        "flush_p50", "flush_p99", "freshness_p50", "freshness_p99", "probes", "restart", "rejected",
        "rows", "samples", "addresses", "equal",
    )  # fmt: skip
    return {**{f: getattr(outcome, f) for f in fields}, "reports": [r.plain() for r in outcome.reports]}


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"
