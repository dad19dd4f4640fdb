"""A log whose facts do not fit into memory is folded in shares: of the rows' entities some at a time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingest.projection import Key, Reference

STATM = "/proc/self/statm"
PAGE = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Share:
    """Share `index` of `count`: rows whose first key column falls to it. `make` gives an empty reference.

    Which rows an event touches is asked of a reference that holds nothing else.
    """

    make: Callable[[], Reference]
    index: int = 0
    count: int = 1

    def events(self, events: Sequence[Any]) -> Sequence[Any]:
        """Those that say something about a row of this share."""
        return events if self.count == 1 else [event for event in events if self._touches(event)]

    def rows(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """Those of this share, of rows whose key comes first."""
        return rows if self.count == 1 else [row for row in rows if self._has(row[0])]

    def expected(self, rows: Mapping[Key, tuple[Any, ...]]) -> dict[Key, tuple[Any, ...]]:
        """A copy with the rows of this share alone: the others may be incomplete."""
        return dict(rows) if self.count == 1 else {k: row for k, row in rows.items() if self._has(_entity(k))}

    def _touches(self, event: Any) -> bool:
        alone = self.make()
        alone.add(event)
        return any(self._has(_entity(key)) for key in _keys(alone))

    def _has(self, entity: Any) -> bool:
        return hash(entity) % self.count == self.index


def _keys(reference: Reference) -> Iterable[Key]:
    return (key for rows in reference.rows().values() for key in rows)


def _entity(key: Key) -> Any:
    return key[0] if isinstance(key, tuple) else key


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    try:
        with open(STATM) as file:
            return int(file.read().split()[1]) * PAGE
    except OSError:
        return 0
