"""The metrics of one process, and how each part of it tells what it did."""

import sys
from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics import disable_created_metrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from ingest.batch import Flush
from ingest.metrics.table import METRICS, MetricDef
from ingest.record import Partition, Reject

MOST_LABELS = 100  # of a gauge counted by SQL; what is beyond is summed under "other"

T = TypeVar("T", Counter, Gauge, Histogram)


class Series(dict[Any, T], Generic[T]):
    """Series of one metric by the labels after `first`; resolved once each, since `labels` is slow.

    A key is the value of the one further label, or a tuple of several.
    """

    def __init__(self, family: T, *first: str) -> None:
        super().__init__()
        self._family: T = family
        self._first = first

    def __missing__(self, key: Any) -> T:
        series: T = self._family.labels(*self._first, *_values(key))
        self[key] = series
        return series

    def keep_only(self, keys: Iterable[Any]) -> None:
        """Forget the series of all other keys, so that a scrape does not repeat their last values."""
        for key in self.keys() - set(keys):
            del self[key]
            self._family.remove(*self._first, *_values(key))


def _values(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


class Stored(Protocol):
    """What storing a flush did, as the writer tells it."""

    rows: int
    suppressed: int
    statements: int

    @property
    def rejects(self) -> Sequence[Reject]: ...


class Metrics:
    """All metrics of one process, on a registry of their own."""

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._families: dict[str, Any] = {d.name: self._family(d) for d in METRICS}
        self._projections: dict[str, ProjectionMetrics] = {}
        self.ready: Gauge = self._families["ready"]
        self.client_log_suppressed: Series[Counter] = Series(self._families["client_log_suppressed_total"])
        python = ".".join(map(str, sys.version_info[:3]))
        self._families["build_info"].labels(version, python).set(1)

    def for_projection(self, name: str) -> "ProjectionMetrics":
        """The metrics labelled with one projection; the same object each time."""
        if name not in self._projections:
            self._projections[name] = ProjectionMetrics(name, self._families)
        return self._projections[name]

    def counted(self, projection: str, gauge: str, rows: Iterable[tuple[str | None, float]]) -> None:
        """Show what a gauge query of sql/<projection>.sql returned: (label, value) rows, all there are.

        A gauge that the table does not know gets the labels `projection` and `label`.
        """
        definition = next((metric for metric in METRICS if metric.name == gauge), None)
        if definition is None:
            text = f"Counted by the gauge {gauge} of a projection's sql file."
            definition = MetricDef(gauge, "gauge", text, {"label": ()})
        if gauge not in self._families:
            self._families[gauge] = self._family(definition)
        self.for_projection(projection).show(gauge, len(definition.more), rows)

    def scrape(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)

    def exposition(self, accept: str) -> tuple[str, bytes]:
        """Content type and body that suit an Accept header."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)

    def _family(self, metric: MetricDef) -> Counter | Gauge | Histogram:
        named = (metric.full_name, metric.help, metric.labels)
        match metric.kind:
            case "counter":
                return Counter(*named, registry=self.registry)
            case "gauge":
                return Gauge(*named, registry=self.registry)
            case "histogram":
                return Histogram(*named, registry=self.registry, buckets=metric.buckets)


class ProjectionMetrics:
    """What one projection tells; called once a batch or less, never once an event."""

    def __init__(self, name: str, families: Mapping[str, Any]) -> None:
        def one(metric: str) -> Any:
            return families[metric].labels(name)

        def several(metric: str) -> Any:
            return Series(families[metric], name)

        self.buffer_rows: Gauge = one("buffer_rows")
        self.buffer_records: Gauge = one("buffer_records")
        self.flush_duration: Histogram = one("flush_duration_seconds")
        self.flushes: Series[Counter] = several("flushes_total")
        self.records: Series[Counter] = several("records_total")
        self.rows_written: Counter = one("rows_written_total")
        self.rows_suppressed: Counter = one("rows_suppressed_total")
        self.statements: Counter = one("statements_total")
        self.dead_lettered: Series[Counter] = several("dead_letters_total")
        self.truncated: Counter = one("dead_letters_truncated_total")
        self.vanished_entities: Counter = one("vanished_entities_total")
        self.retries: Series[Counter] = several("retries_total")
        self.paused_seconds: Counter = one("paused_seconds_total")
        self.commits: Series[Counter] = several("commits_total")
        self.rebalances: Counter = one("rebalances_total")
        self.assigned_partitions: Gauge = one("assigned_partitions")
        self.consumer_lag: Series[Gauge] = several("consumer_lag")
        self.restored_rewinds: Counter = one("restored_rewinds_total")
        self.lost_offsets: Counter = one("lost_offsets_total")
        self.freshness: Histogram = one("freshness_seconds")
        self.sweeps: Series[Counter] = several("sweeps_total")
        self.task_last_success: Series[Gauge] = several("task_last_success_timestamp_seconds")
        self._name, self._families = name, families
        self._counted: dict[str, Series[Gauge]] = {}
        for metric in METRICS:
            for values in metric.known:
                families[metric.name].labels(name, *values)

    def _late(self, metric: str) -> Any:
        """A series whose zero would be a lie: it appears with its first value."""
        return self._families[metric].labels(self._name)

    def buffered(self, rows: int, records: int) -> None:
        self.buffer_rows.set(rows)
        self.buffer_records.set(records)

    def flush(self, trigger: str, outcome: str, seconds: float) -> None:
        """A flush ended: "ok", "failed" or "abandoned"."""
        self.flushes[trigger, outcome].inc()
        self.flush_duration.observe(seconds)

    def stored(self, flush: Flush, stored: Stored, now: datetime) -> None:
        """Everything in `flush` is durable, at `now`."""
        refused = len(stored.rejects)
        folded = flush.events - refused
        applied = min(folded, flush.row_count)
        became = {
            "applied": applied,
            "coalesced": max(0, folded - applied),
            "skipped": flush.skipped,
            "rejected": len(flush.rejects) + refused,
        }
        for outcome, count in became.items():
            self.records[outcome].inc(count)
        self.rows_written.inc(stored.rows)
        self.rows_suppressed.inc(stored.suppressed)
        self.statements.inc(stored.statements)
        for time in flush.event_times:
            self.freshness.observe(max(0.0, (now - time).total_seconds()))
        if flush.records:
            self._late("last_flush_timestamp_seconds").set(now.timestamp())

    def dead_letters(self, rejects: Iterable[Reject]) -> None:
        """These were acknowledged by the dead-letter topic."""
        for reason, count in Tally(reject.reason.value for reject in rejects).items():
            self.dead_lettered[reason].inc(count)

    def vanished(self, entities: int) -> None:
        self.vanished_entities.inc(entities)

    def retry(self, cause: str) -> None:
        self.retries[cause].inc()

    def paused(self, seconds: float) -> None:
        self.paused_seconds.inc(seconds)

    def lags(self, lags: Mapping[Partition, int]) -> None:
        """Lag of every assigned partition; those no longer ours are forgotten."""
        for partition, lag in lags.items():
            self.consumer_lag[partition].set(lag)
        self.consumer_lag.keep_only(lags)

    def assigned(self, partitions: int) -> None:
        """The group has divided its partitions again, and this many are ours."""
        self.rebalances.inc()
        self.assigned_partitions.set(partitions)

    def as_of(self, seconds: float) -> None:
        self._late("as_of_seconds").set(seconds)

    def swept(self, rows: int) -> None:
        """A sweep went through and changed this many rows."""
        self.sweeps["ok"].inc()
        self._late("sessions_expired_total").inc(rows)

    def succeeded(self, task: str, now: datetime) -> None:
        self.task_last_success[task].set(now.timestamp())

    def show(self, gauge: str, labels: int, rows: Iterable[tuple[str | None, float]]) -> None:
        """Replace what a gauge with so many further labels, 0 or 1, shows for this projection."""
        sums: dict[tuple[str, ...], float] = {}
        for label, value in rows:
            key = (label or "none",)[:labels]
            if key not in sums and len(sums) >= MOST_LABELS:
                key = ("other",)
            sums[key] = sums.get(key, 0.0) + value
        if gauge not in self._counted:
            self._counted[gauge] = Series(self._families[gauge], self._name)
        for key, value in sums.items():
            self._counted[gauge][key].set(value)
        self._counted[gauge].keep_only(sums)
