"""Metrics: the table, and that what is scraped is what the table says."""

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.parser import text_string_to_metric_families

from ingest.batch import Flush
from ingest.metrics import METRICS, PREFIX, Metrics, ProjectionMetrics, Series, reference_table
from ingest.record import Partition, Reason, Record, Reject

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
REQUIRED = """
buffer_rows buffer_records flush_duration_seconds flushes_total records_total rows_written_total
rows_suppressed_total dead_letters_total retries_total paused_seconds_total consumer_lag freshness_seconds
rebalances_total last_flush_timestamp_seconds sessions_expired_total live_sessions users_active as_of_seconds
build_info
"""


def families(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(metrics.scrape().decode())}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(PREFIX + name, labels)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


@pytest.fixture
def streaks(metrics: Metrics) -> ProjectionMetrics:
    return metrics.for_projection("streaks")


def reject(reason: Reason) -> Reject:
    return Reject(cast(Record, SimpleNamespace()), reason, "")


def stored(rows: int = 0, suppressed: int = 0, statements: int = 0, rejects: int = 0) -> Any:
    refused = [reject(Reason.UNSTORABLE)] * rejects
    return SimpleNamespace(rows=rows, suppressed=suppressed, statements=statements, rejects=refused)


def test_the_promised_metrics_are_there() -> None:
    assert set(REQUIRED.split()) <= {metric.name for metric in METRICS}
    labels = {metric.name: metric.labels for metric in METRICS}
    assert labels["flushes_total"] == ("projection", "trigger", "outcome")
    assert labels["consumer_lag"] == ("projection", "topic", "partition")
    assert labels["live_sessions"] == ("projection", "activity_type")


def test_a_scrape_has_every_metric_with_the_type_and_help_of_the_table(metrics: Metrics) -> None:
    scraped = families(metrics)
    for metric in METRICS:
        family = scraped[metric.full_name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
    assert {name for name in scraped if name.startswith(PREFIX)} == {
        metric.full_name.removesuffix("_total") for metric in METRICS
    }


def test_every_series_has_the_labels_of_the_table(metrics: Metrics, streaks: ProjectionMetrics) -> None:
    labels = {metric.full_name.removesuffix("_total"): set(metric.labels) for metric in METRICS}
    for family in families(metrics).values():
        for sample in family.samples:
            if family.name in labels:
                assert set(sample.labels) - {"le"} == labels[family.name], sample.name


def test_names_and_help_follow_the_conventions() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")
        assert metric.buckets == tuple(sorted(metric.buckets))
        assert not {"job", "instance", "user_id", "client_id"} & set(metric.labels)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_counters_with_known_labels_exist_before_anything_happens(
    metrics: Metrics, streaks: ProjectionMetrics
) -> None:
    for reason in Reason:
        assert value(metrics, "dead_letters_total", projection="streaks", reason=reason.value) == 0
    assert value(metrics, "records_total", projection="streaks", outcome="applied") == 0
    assert value(metrics, "flushes_total", projection="streaks", trigger="drain", outcome="ok") == 0


def test_a_gauge_of_what_never_happened_is_not_shown_as_zero(
    metrics: Metrics, streaks: ProjectionMetrics
) -> None:
    for name in ("last_flush_timestamp_seconds", "as_of_seconds"):
        assert value(metrics, name, projection="streaks") is None
    streaks.as_of(2.5)
    assert value(metrics, "as_of_seconds", projection="streaks") == 2.5


def test_every_record_of_a_flush_has_one_outcome(metrics: Metrics, streaks: ProjectionMetrics) -> None:
    flush = Flush(
        "streaks",
        ((), ()),
        rejects=[reject(Reason.INVALID)] * 2,
        records=20,
        events=15,
        skipped=3,
        event_times=[NOW - timedelta(seconds=3), NOW + timedelta(seconds=1)],
    )
    streaks.stored(flush, stored(rows=4, suppressed=6, statements=2, rejects=1), NOW)
    outcomes = {o: value(metrics, "records_total", projection="streaks", outcome=o) for o in
                ("applied", "coalesced", "skipped", "rejected")}  # fmt: skip
    assert outcomes == {"applied": 0, "coalesced": 14, "skipped": 3, "rejected": 3}
    assert sum(filter(None, outcomes.values())) == flush.records
    for name, expected in {
        "rows_written_total": 4,
        "rows_suppressed_total": 6,
        "statements_total": 2,
    }.items():
        assert value(metrics, name, projection="streaks") == expected
    assert value(metrics, "last_flush_timestamp_seconds", projection="streaks") == NOW.timestamp()
    assert value(metrics, "freshness_seconds_count", projection="streaks") == 2
    assert (
        value(metrics, "freshness_seconds_sum", projection="streaks") == 3
    )  # a clock ahead counts as no delay


def test_a_flush_without_records_is_no_flush_to_speak_of(
    metrics: Metrics, streaks: ProjectionMetrics
) -> None:
    streaks.stored(Flush("streaks", ((),)), stored(), NOW)
    assert value(metrics, "last_flush_timestamp_seconds", projection="streaks") is None


def test_flushes_retries_and_dead_letters_are_counted_by_their_labels(
    metrics: Metrics, streaks: ProjectionMetrics
) -> None:
    streaks.flush("rows", "ok", 0.02)
    streaks.flush("interval", "failed", 2.0)
    streaks.retry("deadlock")
    streaks.retry("deadlock")
    streaks.dead_letters([reject(Reason.INVALID), reject(Reason.FUTURE), reject(Reason.INVALID)])
    assert value(metrics, "flushes_total", projection="streaks", trigger="interval", outcome="failed") == 1
    assert value(metrics, "flush_duration_seconds_bucket", projection="streaks", le="0.025") == 1
    assert value(metrics, "retries_total", projection="streaks", cause="deadlock") == 2
    assert value(metrics, "dead_letters_total", projection="streaks", reason="invalid") == 2
    assert value(metrics, "dead_letters_total", projection="streaks", reason="future") == 1


def test_the_lag_of_a_partition_that_left_is_not_repeated(
    metrics: Metrics, streaks: ProjectionMetrics
) -> None:
    streaks.lags({Partition("t", 0): 5, Partition("t", 1): 6})
    streaks.lags({Partition("t", 1): 7})
    assert value(metrics, "consumer_lag", projection="streaks", topic="t", partition="0") is None
    assert value(metrics, "consumer_lag", projection="streaks", topic="t", partition="1") == 7
    streaks.lags({Partition("t", 0): 8})
    assert value(metrics, "consumer_lag", projection="streaks", topic="t", partition="0") == 8


def test_projections_do_not_share_series(metrics: Metrics, streaks: ProjectionMetrics) -> None:
    assert metrics.for_projection("streaks") is streaks
    other = metrics.for_projection("live_activity")
    streaks.lags({Partition("t", 0): 5})
    other.lags({})
    streaks.paused(1.5)
    assert value(metrics, "consumer_lag", projection="streaks", topic="t", partition="0") == 5
    assert value(metrics, "paused_seconds_total", projection="live_activity") == 0


def test_a_counted_gauge_shows_what_the_last_count_returned(metrics: Metrics) -> None:
    metrics.counted("live_activity", "live_sessions", [("watching", 3), ("browsing", 1), (None, 2)])
    metrics.counted("live_activity", "live_sessions", [("watching", 4)])
    metrics.counted("live_activity", "users_active", [(None, 9)])
    named = {"projection": "live_activity"}
    assert value(metrics, "live_sessions", **named, activity_type="watching") == 4
    assert value(metrics, "live_sessions", **named, activity_type="browsing") is None
    assert value(metrics, "live_sessions", **named, activity_type="none") is None
    assert value(metrics, "users_active", **named) == 9


def test_a_gauge_of_a_projection_unknown_to_the_table_is_scraped_too(metrics: Metrics) -> None:
    metrics.counted("fifth", "open_carts", [("eu", 2)])
    metrics.counted("sixth", "open_carts", [("us", 3)])
    assert value(metrics, "open_carts", projection="fifth", label="eu") == 2
    assert value(metrics, "open_carts", projection="sixth", label="us") == 3
    assert families(metrics)[PREFIX + "open_carts"].type == "gauge"


def test_a_count_by_something_unbounded_stays_bounded(metrics: Metrics) -> None:
    metrics.counted("fifth", "carts", [(f"user-{n}", 1) for n in range(5000)])
    samples = families(metrics)[PREFIX + "carts"].samples
    assert len(samples) == 101
    assert sum(sample.value for sample in samples) == 5000
    assert value(metrics, "carts", projection="fifth", label="other") == 4900


def test_typed_attributes_are_of_the_kind_the_table_says(streaks: ProjectionMetrics) -> None:
    kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
    table = {metric.full_name.removesuffix("_total"): kinds[metric.kind] for metric in METRICS}
    for name, attribute in vars(streaks).items():
        family = attribute._family if isinstance(attribute, Series) else attribute
        if isinstance(family, Counter | Gauge | Histogram):
            assert type(family) is table[family._name], name


def test_a_scrape_tells_the_version_and_the_state_of_the_process(metrics: Metrics) -> None:
    (build,) = families(metrics)[PREFIX + "build_info"].samples
    assert build.labels["version"] == "1.2.3"
    assert build.value == 1
    assert {
        "process_resident_memory_bytes",
        "process_open_fds",
        "python_info",
        "python_gc_collections",
    } <= set(families(metrics))


def test_two_registries_in_one_process_do_not_mix(metrics: Metrics) -> None:
    other = Metrics("2")
    other.for_projection("streaks").retry("x")
    metrics.for_projection("streaks")
    assert value(metrics, "retries_total", projection="streaks", cause="x") is None


def test_the_reference_lists_every_metric_once() -> None:
    rows = reference_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [metric.full_name for metric in METRICS]
    assert all(row.count("|") == 5 for row in rows)
