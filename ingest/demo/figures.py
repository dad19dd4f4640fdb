"""What is seen while the demo runs, and what it tells at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ingest.verify import Report


class View(NamedTuple):
    """One moment. `flush` is the median time of a flush, in seconds; `act` says what goes on.

    `lag` is None while no worker is there to tell it.
    """

    act: str
    published: int
    expected: int
    applied: int
    lag: int | None
    buffer: int
    flush: float | None
    dead_letters: int


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The report. Times in seconds; a percentile is None where nothing was measured."""

    published: int = 0
    distinct: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    statements: int = 0
    rows_written: int = 0
    rows_suppressed: int = 0
    seconds: float = 0.0
    flushes: int = 0
    flush_p50: float | None = None
    flush_p99: float | None = None
    freshness_p50: float | None = None
    freshness_p99: float | None = None
    probes: int = 0
    restart: float = 0.0
    reports: Sequence[Report] = ()
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether every table was proved equal to the fold of the log."""
        return bool(self.reports) and all(report.verdict == "equal" for report in self.reports)

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table."""
        return {table: count for report in self.reports for table, count in report.keys.items()}


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """Of a cumulative histogram, interpolated inside a bucket as Prometheus does; None where empty."""
    total = max(buckets.values(), default=0.0)
    wanted, below, lower = share * total, 0.0, 0.0
    for bound, count in buckets.items():
        if total and count >= wanted and count > below:
            upper = lower if bound == float("inf") else bound
            return lower + (upper - lower) * (wanted - below) / (count - below)
        below, lower = count, bound
    return None


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of all do not exceed; None where there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None
