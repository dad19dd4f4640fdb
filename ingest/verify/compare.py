"""Stored rows against expected ones. Pure: rows arrive in chunks, differences come out."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from msgspec import UNSET

from ingest.projection import Key
from ingest.queries import canonical
from ingest.verify.report import SHOWN, Difference, Proof, TableReport

Columns: TypeAlias = tuple[Any, ...]
Split: TypeAlias = Callable[[Columns], tuple[Key, Columns]]
Within: TypeAlias = Callable[[str, Columns, Columns], bool]

_PARTS = re.compile(r"'(?:[^']|'')*'|[()\[\],]|\bcase\b|\bend\b|\bfrom\b|\w+|\S", re.IGNORECASE)


class Suspect(NamedTuple):
    """A row that is not as expected; None where one side has no such row."""

    key: Key
    stored: Columns | None
    expected: Columns | None


@dataclass(slots=True)
class Comparison:
    """One table. `expected` is consumed: what is left of it once all rows were seen is missing.

    `names` are the columns that the verify section selects, key first.
    """

    table: str
    names: Sequence[str]
    expected: dict[Key, Columns]
    proof: Proof
    within: Within
    keys: int = 0
    suspects: list[Suspect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = len(self.expected)

    def rows(self, rows: Iterable[Columns]) -> None:
        """Compare some rows, each as the verify section selects it."""
        split, take = splitter(self.expected), self.expected.pop
        for row in rows:
            key, stored = split(row)
            expected = take(key, None)
            if stored != expected and self._suspicious(expected, stored):
                self.suspects.append(Suspect(key, stored, expected))

    def finish(self) -> None:
        """All rows were seen."""
        self.suspects += [Suspect(key, None, expected) for key, expected in self.expected.items()]
        self.expected.clear()

    def report(self, most: Mapping[Key, Columns] | None = None) -> TableReport:
        """The differences. `most`: the rows with every optional event in; None where there are none."""
        report = TableReport(self.table, self.keys)
        for suspect in self._resplit(most) if most and not self.keys else self.suspects:
            if most is not None and self._explained(suspect, most):
                report.bounded += 1
                continue
            report.missing += suspect.stored is None
            report.extra += suspect.expected is None
            report.unequal += suspect.stored is not None and suspect.expected is not None
            if len(report.differences) < SHOWN:
                report.differences += self._differences(suspect)
        return report

    def _suspicious(self, expected: Columns | None, stored: Columns) -> bool:
        if self.proof is Proof.EQUALITY:
            return True
        return expected is not None and not self._holds(expected, stored)

    def _explained(self, suspect: Suspect, most: Mapping[Key, Columns]) -> bool:
        """Whether the row lies between what it must hold and all that it may hold."""
        upper = most.get(suspect.key)
        if suspect.stored is None or upper is None or not self._holds(suspect.stored, upper):
            return False
        lower = suspect.stored if suspect.expected is None else suspect.expected
        return self._holds(lower, suspect.stored)

    def _holds(self, less: Columns, more: Columns) -> bool:
        """Whether `more` has all of `less`; where a column cannot even be compared, it has not."""
        try:
            return self.within(self.table, less, more)
        except (TypeError, IndexError):
            return False

    def _resplit(self, most: Mapping[Key, Columns]) -> list[Suspect]:
        """Suspects cut anew: with nothing expected, nothing told how many columns the key has."""
        split = splitter(most)
        return [Suspect(*split((s.key, *(s.stored or ()))), None) for s in self.suspects]

    def _differences(self, suspect: Suspect) -> list[Difference]:
        key = suspect.key if isinstance(suspect.key, tuple) else (suspect.key,)
        if suspect.stored is None or suspect.expected is None:
            stored = UNSET if suspect.stored is None else suspect.stored
            expected = UNSET if suspect.expected is None else suspect.expected
            return [Difference(self.table, key, None, stored, expected)]
        wide = len(key) + len(suspect.stored)
        names = self.names if len(self.names) == wide else [f"column {n}" for n in range(1, wide + 1)]
        columns = zip(names[len(key) :], suspect.stored, suspect.expected, strict=True)
        return [Difference(self.table, key, name, has, wants) for name, has, wants in columns if has != wants]


def splitter(rows: Mapping[Key, Any]) -> Split:
    """Cuts a row into key and other columns as the keys of `rows` are: one column, or a tuple of several."""
    first = next(iter(rows), None)
    if isinstance(first, tuple):
        size = len(first)
        return lambda row: (row[:size], row[size:])
    return lambda row: (row[0], row[1:])


def column_names(text: str) -> list[str]:
    """What the columns of a `select … from …` are called; only people read them."""
    names, depth, last = [], 0, ""
    for part in _PARTS.findall(canonical(text).lower().removeprefix("select ")):
        depth += part in ("(", "[", "case")
        if depth == 0 and part in (",", "from"):
            names.append(last)
            if part == "from":
                break
        depth -= part in (")", "]", "end")
        last = "case" if part == "end" and depth == 0 else part
    return names
