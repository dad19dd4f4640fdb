"""Everything one `consumers/*.py` declares: what it folds, into which rows, and how to check it.

A projection is data and pure functions. The engine reads Kafka, calls `fold`, and hands the rows to
the statements of `sql/<name>.sql`; it never knows which projections exist.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import fields
from pydantic import BaseModel, ConfigDict, Field

from ingest.contract import Event

Key: TypeAlias = Hashable
Row: TypeAlias = Struct
Fold: TypeAlias = Callable[[dict[Any, Any], Iterable[Any], Any], None]


class Options(BaseModel):
    """Base of a projection's own settings; each field's description carries its unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def pinned(default: Any, description: str, **limits: Any) -> Any:
    """An option that the stored rows depend on.

    It is written to Postgres at the first start and a worker that differs refuses to run, because
    two rounding rules in one table would make its rows depend on who wrote them.
    """
    return Field(default, description=description, json_schema_extra={"pinned": True}, **limits)


def pinned_names(options: type[BaseModel]) -> frozenset[str]:
    """The options declared with `pinned`."""
    extras = {name: field.json_schema_extra for name, field in options.model_fields.items()}
    return frozenset(n for n, extra in extras.items() if isinstance(extra, dict) and extra.get("pinned"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows that a projection folds events into; arguments of the write statements that name it.

    `row` is a msgspec Struct whose fields, in order, become one array each; the first `key_size` of
    them are the row's key. `fold(rows, events, options)` merges events into `rows` (key -> row) in
    place and must be commutative, associative and idempotent over events. Rows of one entity carry
    it as the first key field in every table, so that a batch can be halved without parting them.
    """

    name: str
    row: type[Struct]
    fold: Fold
    key_size: int = 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the row's fields, in the order of the statement's arguments."""
        return tuple(field.name for field in fields(self.row))


class Reference(Protocol):
    """An independent, slow and obvious account of what the tables must hold, for `verify`.

    It shares no code with the folds: it remembers the facts and answers from all of them at once.
    """

    def add(self, event: Any) -> None:
        """Take note of one event."""
        ...

    def rows(self) -> Mapping[str, Mapping[Key, tuple[Any, ...]]]:
        """For each `verify` section of the .sql file: key -> the other columns it selects."""
        ...

    def within(self, table: str, less: tuple[Any, ...], more: tuple[Any, ...]) -> bool:
        """Whether merging `less` into `more` changes nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """One topic folded into its tables; found by its file name in `consumers/`.

    `key_sizes` is not needed here: `reference` keys rows by the leading columns it says itself.
    """

    name: str
    topic: str
    events: tuple[type[Event], ...]
    tables: tuple[Table, ...]
    reference: Callable[[Any], Reference]
    options: type[Options] = Options
    brings: tuple[type[Event], ...] = ()
    """Event types this projection adds to the contract."""

    def table(self, name: str) -> int:
        """Position of the table called `name`; raises KeyError where there is none."""
        for position, table in enumerate(self.tables):
            if table.name == name:
                return position
        raise KeyError(name)
