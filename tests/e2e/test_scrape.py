"""What a running worker shows: metrics, probes, health, log lines."""

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ingest.metrics import METRICS, PREFIX
from tests.e2e.process import Process
from tests.e2e.world import PROJECTIONS, Produced, World

pytestmark = pytest.mark.e2e

SECRET = "somebody-"
EVENT = '{"specversion":"1.0","id":"1","source":"/t","type":"%s","time":"%s","data":%s}'
LATE = {"last_flush_timestamp_seconds", "sessions_expired_total", "as_of_seconds", "users_active"}
"""Whose zero would be a lie, so that they come with their first value."""
RARE = {"retries_total", "client_log_suppressed_total"}
"""Whose labels are not known before something goes wrong."""


def event(kind: str, **data: str) -> bytes:
    return (EVENT % (kind, datetime.now(UTC).isoformat(), json.dumps(data))).encode()


class Scrapes(NamedTuple):
    """Families of ours by full name: before the first event, and after the last."""

    first: dict[str, Metric]
    last: dict[str, Metric]


def scrape(worker: Process) -> dict[str, Metric]:
    found = text_string_to_metric_families(worker.get("/metrics").text)
    # The parser takes the suffix of counters away.
    names = {f"{family.name}_total" if family.type == "counter" else family.name: family for family in found}
    return {name: family for name, family in names.items() if name.startswith(PREFIX)}


def labels(family: Metric) -> list[dict[str, str]]:
    """Of all series, without what makes several of one histogram."""
    return [{n: v for n, v in sample.labels.items() if n != "le"} for sample in family.samples]


@pytest.fixture(scope="module")
def scrapes(busy_world: World, worker: Process) -> Scrapes:
    """Of a worker that has stored and refused something in each projection, and swept."""
    first = scrape(worker)
    with busy_world.database() as session:
        session.execute("alter table client_activity add check (client_id <> 'somebody-refused')")
    live = {"user_id": SECRET, "session_id": SECRET, "activity_type": "watching"}
    busy_world.produce(
        [
            Produced("activity.client", event("client.seen", client_id="somebody-seen"), SECRET.encode()),
            Produced("activity.client", event("client.seen", client_id="somebody-refused")),
            Produced("activity.client", b'{"client_id":"somebody-wrong"'),
            Produced("activity.user", event("user.active", user_id=SECRET)),
            Produced("activity.user", event("user.active", user_id=SECRET * 20)),
            Produced("activity.live", event("live.heartbeat", **live)),
            Produced("activity.live", event("live.heartbeat", **live, quality=SECRET * 10)),
        ]
    )
    for name in PROJECTIONS:
        busy_world.until_read(name, worker)
    worker.until_metric("live_sessions", 1, activity_type="watching")
    late = [metric.full_name for metric in METRICS if metric.name in LATE]
    worker.until(lambda: all(scrape(worker)[name].samples for name in late), f"values of {late}")
    return Scrapes(first, scrape(worker))


def test_the_families_are_those_of_the_table_from_the_start(scrapes: Scrapes) -> None:
    declared = {metric.full_name: (metric.kind, metric.help) for metric in METRICS}
    for families in scrapes:
        assert {name: (f.type, f.documentation) for name, f in families.items()} == declared


def test_every_series_has_the_labels_of_the_table(scrapes: Scrapes) -> None:
    for metric in METRICS:
        series = [found for families in scrapes for found in labels(families[metric.full_name])]
        assert all(found.keys() == {*metric.labels} for found in series), metric.name
        assert {found["projection"] for found in series if "projection" in found} <= {*PROJECTIONS}
        if metric.name not in RARE:
            assert series, metric.name


def test_series_whose_labels_are_known_are_there_before_the_first_event(scrapes: Scrapes) -> None:
    for metric in METRICS:
        series = labels(scrapes.first[metric.full_name])
        found = {tuple(one[label] for label in metric.labels) for one in series}
        if metric.known:
            assert found >= {(name, *more) for more in metric.known for name in PROJECTIONS}, metric.name
        elif metric.labels == ("projection",) and metric.name not in LATE:
            assert found == {(name,) for name in PROJECTIONS}, metric.name


def test_what_happened_is_counted(scrapes: Scrapes, worker: Process) -> None:
    assert worker.metric("records_total", projection="client_activity", outcome="applied") == 1
    assert worker.metric("dead_letters_total", projection="client_activity", reason="malformed") == 1
    assert worker.metric("dead_letters_total", projection="client_activity", reason="unstorable") == 1
    assert worker.metric("rows_written_total", projection="user_activity") == 1
    assert worker.metric("freshness_seconds_count", projection="streaks") >= 1
    assert worker.metric("rebalances_total", projection="live_activity") == 1
    assert worker.metric("assigned_partitions") == 4 * len(PROJECTIONS)
    assert worker.metric("ready") == worker.metric("build_info") == 1


@pytest.mark.promtool
def test_promtool_finds_nothing_to_improve(scrapes: Scrapes, worker: Process, promtool: Path) -> None:
    text = worker.get("/metrics").text
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_probes_say_yes_and_why(scrapes: Scrapes, worker: Process) -> None:
    for path, first in (("/livez", "live"), ("/readyz", "ready")):
        answer = worker.get(path)
        said, *conditions = answer.text.splitlines()
        assert (answer.status, said) == (200, first)
        assert [line.split(":")[0] for line in conditions] == [f"[ok] {name}" for name in projections(worker)]


def test_the_health_of_each_projection_is_told_in_json(scrapes: Scrapes, worker: Process) -> None:
    answer = worker.get("/health/activity")
    assert (answer.status, answer.content_type) == (200, "application/json")
    health = json.loads(answer.text)
    assert {*health} == {*PROJECTIONS}
    for told in health.values():
        assert told.keys() == {"bufferSize", "maxBufferSize", "flushInterval", "lastFlush", "lag"}
        assert (told["bufferSize"], told["maxBufferSize"], told["flushInterval"]) == (0, 5000, 0.2)
        assert told["lag"] == 0
        assert datetime.fromisoformat(told["lastFlush"]) <= datetime.now(UTC)


def test_log_lines_are_json_and_name_nobody(scrapes: Scrapes, worker: Process) -> None:
    lines = [json.loads(line) for line in worker.text.splitlines()]
    assert all(line.keys() >= {"event", "level", "timestamp"} for line in lines)
    flushes = [line for line in lines if line["event"] == "flush"]
    assert {line["projection"] for line in flushes} == {*PROJECTIONS}
    for line in flushes:
        assert line.keys() >= {"rows", "records", "trigger", "milliseconds"}
    assert SECRET not in worker.text


def projections(worker: Process) -> Sequence[str]:
    """In the order in which the worker started them."""
    return next(line["projections"] for line in worker.lines if line["event"] == "started")
