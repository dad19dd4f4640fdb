"""What was proved of one projection, and every difference found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from msgspec import UNSET, UnsetType

SHOWN = 20


class Proof(StrEnum):
    """EQUALITY: each row is the fold of the log. COVERAGE: merging the log into each row changes nothing."""

    EQUALITY = "equality"
    COVERAGE = "coverage"


@dataclass(frozen=True, slots=True)
class Difference:
    """One column of one row, or a whole row where `column` is None; UNSET stands for "there is no row"."""

    table: str
    key: tuple[Any, ...]
    column: str | None
    stored: Any = UNSET
    expected: Any = UNSET

    def __str__(self) -> str:
        where = f"{self.table} {' '.join(map(repr, self.key))}"
        if self.column is None:
            return (
                f"{where}: {'the row is missing' if self.stored is UNSET else 'the log explains no such row'}"
            )
        return f"{where}: {self.column} is {self.stored!s}, expected {self.expected!s}"

    def plain(self) -> dict[str, Any]:
        """For JSON: an absent row has no member."""
        sides = {"stored": self.stored, "expected": self.expected}
        found = {name: value for name, value in sides.items() if not isinstance(value, UnsetType)}
        return {"table": self.table, "key": list(self.key), "column": self.column, **found}


@dataclass(slots=True)
class TableReport:
    """`keys`: rows that the log calls for. `bounded`: rows that hold some of the optional events."""

    name: str
    keys: int = 0
    missing: int = 0
    extra: int = 0
    unequal: int = 0
    bounded: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def different(self) -> int:
        """Number of rows that differ."""
        return self.missing + self.extra + self.unequal

    def __add__(self, other: "TableReport") -> "TableReport":
        """Of the same table, another part of its rows."""
        return TableReport(
            self.name,
            self.keys + other.keys,
            self.missing + other.missing,
            self.extra + other.extra,
            self.unequal + other.unequal,
            self.bounded + other.bounded,
            [*self.differences, *other.differences],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome for one projection. `why` is the reason for the kind of proof, `hints` say what may be
    behind a difference. `events` counts those that the rows must hold, `optional` those they may.
    `seconds` is wall time.
    """

    projection: str
    proof: Proof = Proof.EQUALITY
    why: str = ""
    behind: int = 0
    events: int = 0
    optional: int = 0
    tables: Sequence[TableReport] = ()
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    lost: int = 0
    lost_origins: Sequence[str] = ()
    notes: Sequence[str] = ()
    hints: Sequence[str] = ()
    seconds: float = 0.0

    @property
    def different(self) -> int:
        """Rows that differ, over all tables."""
        return sum(table.different for table in self.tables)

    @property
    def keys(self) -> Mapping[str, int]:
        """Distinct keys of each table."""
        return {table.name: table.keys for table in self.tables}

    @property
    def differences(self) -> Sequence[Difference]:
        """The first of them, at most SHOWN."""
        return [found for table in self.tables for found in table.differences][:SHOWN]

    @property
    def ok(self) -> bool:
        """Whether the tables are proved right."""
        return not (self.behind or self.different or self.lost)

    @property
    def verdict(self) -> str:
        """In a word or two: behind, differs, equal or covered."""
        if self.behind:
            return "behind"
        if not self.ok:
            return "differs"
        return "equal" if self.proof is Proof.EQUALITY else "covered"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "projection": self.projection,
            "verdict": self.verdict,
            "proved": str(self.proof) if self.ok else None,
            "why": self.why,
            "behind": self.behind,
            "events": self.events,
            "optional": self.optional,
            "keys": dict(self.keys),
            "different_rows": self.different,
            "bounded_rows": sum(table.bounded for table in self.tables),
            "differences": [difference.plain() for difference in self.differences],
            "dead_letters": dict(self.dead_letters),
            "rejected_but_not_dead_lettered": self.lost,
            "lost_origins": list(self.lost_origins),
            "notes": list(self.notes),
            "hints": list(self.hints),
            "seconds": round(self.seconds, 3),
        }
