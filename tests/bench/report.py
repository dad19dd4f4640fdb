"""What was measured, as a table for people and as JSON to be kept."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.cpu import Cost
from tests.bench.growth import Growth

LIMITS = {"poll": 9, "one": 10, "two": 10}
"""Each limit's field of `Pass`, and how wide its column is."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Seconds for one case: the limits, the worker, and the worker's processor time."""

    poll: float
    one: float
    two: float
    ours: float
    processor: float


@dataclass(slots=True)
class Measured:
    """All passes of one case. Events and rows are what each pass works through."""

    case: str
    events: int
    rows: int
    flushes: int
    passes: list[Pass] = field(default_factory=list)

    def rate(self, name: str) -> float:
        """Events a second, at the median pass."""
        return self.events / float(median(getattr(one, name) for one in self.passes))

    def ratio(self, limit: str) -> tuple[float, float, float]:
        """The worker's rate as part of a limit's, each pass by itself: median, least, greatest."""
        found = sorted(getattr(one, limit) / one.ours for one in self.passes)
        return median(found), found[0], found[-1]


def table(measured: Sequence[Measured]) -> str:
    lines = [
        f"{'':12} {'events':>9} {'rows':>9} {'ours':>9}   {'raw poll':>9} {'ratio':>18}"
        f"   {'Postgres 1':>10} {'ratio':>18}   {'Postgres 2':>10} {'ratio':>18}   processor"
    ]
    for one in measured:
        used = median(p.processor / p.ours for p in one.passes)
        line = f"{one.case:12} {one.events:>9,} {one.rows:>9,} {one.rate('ours'):>9,.0f}"
        for limit, width in LIMITS.items():
            line += f"   {one.rate(limit):>{width},.0f} {_spread(one.ratio(limit)):>18}"
        lines.append(f"{line}   {used:>8.0%}")
    return "\n".join(lines)


def _spread(ratio: tuple[float, float, float]) -> str:
    middle, least, greatest = ratio
    return f"{middle:.2f} ({least:.2f}-{greatest:.2f})"


def costs(found: dict[str, Cost]) -> str:
    lines = [f"{'':12} {'msgspec':>8} {'decode':>8} {'and fold':>8} {'to arrays':>9}"]
    lines += [
        f"{n:12} {c.bare:>8.0f} {c.decode:>8.0f} {c.add:>8.0f} {c.close:>9.0f}" for n, c in found.items()
    ]
    return "\n".join(lines)


def growths(found: Sequence[Growth]) -> str:
    return "\n".join(f"{g.name}: {g.few:.2f} s, {g.many:.2f} s: {g.many / g.few:.2f} times" for g in found)


def save(path: Path, date: str, measured: Sequence[Measured], cost: dict[str, Cost],
         growth: Sequence[Growth], broker: str, postgres: str) -> None:  # fmt: skip
    """Everything, with what it was measured on."""
    told: dict[str, Any] = {
        "date": date,
        "command": " ".join(["python -m tests.bench", *sys.argv[1:]]),
        "machine": machine(),
        "versions": {"python": platform.python_version(), "broker": broker, "postgres": postgres}
        | {name: version(name) for name in ("aiokafka", "asyncpg", "msgspec", "uvloop")},
        "cases": [asdict(one) | {"ratios": {n: one.ratio(n) for n in LIMITS}} for one in measured],
        "nanoseconds_an_event": {name: asdict(one) for name, one in cost.items()},
        "growth": [asdict(one) for one in growth],
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n")


def machine() -> dict[str, Any]:
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    models = [line for line in _lines(cpuinfo) if line.startswith("model name")]
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory": next(iter(_lines(meminfo)), "").partition(":")[2].strip(),
        "system": platform.platform(),
        "load_before": os.getloadavg(),
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
