"""Every metric there is: dashboards and alert rules are written against this table.

Label values come from bounded sets only; no id ever becomes one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, TypeAlias

from ingest.record import Reason

PREFIX = "activity_ingest_"
DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
AGES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
TRIGGERS = ("rows", "records", "bytes", "interval", "idle", "revoke", "drain")

Labels: TypeAlias = Mapping[str, tuple[str, ...]]
"""Label -> the values known beforehand."""


@dataclass(frozen=True, slots=True)
class MetricDef:
    """One metric: `name` without the prefix, `more` its labels after `projection`, buckets in seconds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    more: Labels = field(default_factory=dict)
    per_projection: bool = True
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as scraped."""
        return PREFIX + self.name

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in order."""
        return ("projection", *self.more) if self.per_projection else tuple(self.more)

    @property
    def known(self) -> list[tuple[str, ...]]:
        """Values of `more` whose counters exist from the start, at zero.

        A rate over a series that appears with its first failure misses that failure.
        """
        return list(product(*self.more.values())) if self.kind == "counter" and self.more else []


def _gauge(name: str, text: str, *labels: str) -> MetricDef:
    return MetricDef(name, "gauge", text, dict.fromkeys(labels, ()))


def _counter(name: str, text: str, **labels: tuple[str, ...]) -> MetricDef:
    return MetricDef(name, "counter", text, labels)


def _histogram(name: str, text: str, buckets: tuple[float, ...]) -> MetricDef:
    return MetricDef(name, "histogram", text, buckets=buckets)


def _global(kind: Literal["counter", "gauge"], name: str, text: str, *labels: str) -> MetricDef:
    return MetricDef(name, kind, text, dict.fromkeys(labels, ()), per_projection=False)


METRICS: tuple[MetricDef, ...] = (
    _gauge("buffer_rows", "Distinct rows in the batch being filled."),
    _gauge("buffer_records", "Records folded into the batch being filled."),
    _histogram("flush_duration_seconds", "Time to make a flush durable, retries included.", DURATIONS),
    _counter(
        "flushes_total",
        "Flushes by what closed the batch and how they ended.",
        trigger=TRIGGERS,
        outcome=("ok", "failed", "abandoned"),
    ),
    _counter(
        "records_total",
        "Records by what became of them; coalesced ones merged into a row that another record wrote.",
        outcome=("applied", "coalesced", "skipped", "rejected"),
    ),
    _counter("rows_written_total", "Rows inserted or updated."),
    _counter("rows_suppressed_total", "Rows not written because they would not change."),
    _counter("statements_total", "SQL statements sent by flushes."),
    _counter(
        "dead_letters_total",
        "Records acknowledged by the dead-letter topic, by reason.",
        reason=tuple(reason.value for reason in Reason),
    ),
    _counter("dead_letters_truncated_total", "Dead letters written without a value: its size was refused."),
    _counter("vanished_entities_total", "Refused rows whose records the log no longer had to dead-letter."),
    _counter("retries_total", "Attempts that failed and were made again, by cause.", cause=()),
    _counter("paused_seconds_total", "Seconds in which nothing was fetched because the buffer was full."),
    _counter(
        "commits_total", "Offset commits to Kafka by how they ended.", outcome=("ok", "fenced", "failed")
    ),
    _counter("rebalances_total", "Assignments received from the consumer group."),
    _gauge("assigned_partitions", "Partitions assigned to this worker."),
    _gauge("consumer_lag", "Records from the next offset to the partition's end.", "topic", "partition"),
    _counter("restored_rewinds_total", "Partitions read again because Postgres knew less than Kafka."),
    _counter("lost_offsets_total", "Partitions whose next offset the broker no longer has."),
    _histogram("freshness_seconds", "Age of events, a sample of each flush, once they are durable.", AGES),
    _gauge("last_flush_timestamp_seconds", "When records were last made durable, as a Unix time."),
    _gauge("as_of_seconds", "How far behind the clock the least advanced partition was read."),
    _counter("sweeps_total", "Looks for rows that timed out, by how they ended.", outcome=("ok", "failed")),
    _counter("sessions_expired_total", "Live sessions ended because nothing more was heard from them."),
    _gauge("live_sessions", "Active live sessions by what is done in them.", "activity_type"),
    _gauge("users_active", "Users with an active live session."),
    # Not `job`: Prometheus gives every target a label of that name and would rename ours.
    _gauge("task_last_success_timestamp_seconds", "When a periodic task last succeeded, Unix time.", "task"),
    _global("counter", "client_log_suppressed_total", "Repeated log lines of libraries left out.", "logger"),
    _global("gauge", "ready", "Whether /readyz says yes (1) or no (0)."),
    _global("gauge", "build_info", "Always 1; its labels tell the version.", "version", "python"),
)


def reference_table() -> str:
    """Every metric as a Markdown table."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.full_name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"
