"""The scrape configuration and the alert rules."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.batch import Flush
from ingest.cli import COMMANDS
from ingest.metrics import METRICS, Metrics
from ingest.ports import Written
from ingest.record import Partition
from ingest.writer import Outcome

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.rules.yml"))
TESTS = sorted((PROMETHEUS / "rules" / "tests").glob("*.test.yml"))


def run(program: Path, *arguments: str | Path, stdin: bytes = b"") -> str:
    """What the program says; fails the test where it ends with an error."""
    done = subprocess.run(
        [program, *arguments], input=stdin, capture_output=True, cwd=PROMETHEUS, check=False
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def alerts() -> dict[str, str]:
    """The text of each rule by the name of its alert."""
    parts = re.split(
        r"^ +- alert: (\w+)$", "\n".join(f.read_text("utf-8") for f in RULES), flags=re.MULTILINE
    )
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.promtool
def test_promtool_accepts_the_configuration_and_the_rules(promtool: Path) -> None:
    run(promtool, "check", "config", "prometheus.yml")
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *RULES)


@pytest.mark.promtool
def test_every_rule_fires_when_it_should_and_only_then(promtool: Path) -> None:
    run(promtool, "test", "rules", *TESTS)


@pytest.mark.promtool
def test_promtool_finds_nothing_to_mend_in_a_scrape(promtool: Path) -> None:
    assert run(promtool, "check", "metrics", stdin=scrape()) == ""


def scrape() -> bytes:
    """A scrape in which every metric has a series."""
    metrics, now = Metrics("1.2.3"), datetime.now(UTC)
    projection = metrics.for_projection("streaks")
    outcome = Outcome()
    outcome.add(Written(rows=1, suppressed=1, statements=2))
    projection.stored(Flush("streaks", ((),), records=1, events=1, event_times=[now]), outcome, now)
    projection.retry("connection")
    projection.lags({Partition("activity.user", 0): 3})
    projection.as_of(1.5)
    projection.swept(2)
    projection.succeeded("sweep", now)
    metrics.client_log_suppressed["aiokafka"].inc()
    metrics.counted("streaks", "live_sessions", [("watching", 2)])
    metrics.counted("streaks", "users_active", [(None, 2)])
    metrics.counted("streaks", "of_a_fifth_projection", [("a", 2)])
    return metrics.scrape()


def test_rules_know_only_metrics_that_there_are() -> None:
    known = {metric.full_name for metric in METRICS}
    known |= {
        f"{m.full_name}_{part}"
        for m in METRICS
        if m.kind == "histogram"
        for part in ("bucket", "sum", "count")
    }
    for file in (*RULES, *TESTS):
        assert set(re.findall(r"activity_ingest_\w+", file.read_text("utf-8"))) <= known, file.name


def test_rules_group_by_labels_that_there_are() -> None:
    known = {"instance", "job", "le"} | {label for metric in METRICS for label in metric.labels}
    for name, text in alerts().items():
        grouped = (
            ",".join(re.findall(r"\b(?:by|on) \(([^)]*)\)", text))
            + ","
            + ",".join(re.findall(r"\$labels\.(\w+)", text))
        )
        assert {label.strip() for label in grouped.split(",")} - {""} <= known, name


def test_every_alert_says_how_bad_it_is_what_it_means_and_what_to_do() -> None:
    for name, text in alerts().items():
        assert re.search(r"severity: (critical|warning)\n", text), name
        assert "summary: " in text, name
        assert re.search(r"description: >-\n(.*\n)*.*(activity-ingest [a-z]+|kcat |curl )", text), name


def test_alerts_name_only_commands_that_there_are() -> None:
    named = {c for text in alerts().values() for c in re.findall(r"(?<!No )activity-ingest ([a-z]+)", text)}
    assert named - {"worker"} <= set(COMMANDS)


def test_every_alert_is_tested_firing_and_silent() -> None:
    text = "\n".join(file.read_text("utf-8") for file in TESTS)
    for name in alerts():
        cases = re.findall(rf'alertname="{name}"}}\)\n +eval_time: \w+\n +exp_samples:(.*)', text)
        assert "" in cases, f"{name} never fires"
        assert " []" in cases, f"{name} is never silent"
