"""One flush in one transaction: the projection's statements in file order, then its progress."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias

from msgspec import Struct

from ingest.batch import Flush
from ingest.ports import Progress, Written
from ingest.postgres.database import Database, Transaction
from ingest.postgres.progress import put_progress
from ingest.projection import Projection
from ingest.queries import SqlFile, Write

Getter: TypeAlias = Callable[[Struct], Any]
COUNTED = ("INSERT", "UPDATE", "DELETE", "MERGE")


@dataclass(frozen=True, slots=True)
class Statement:
    """A write section, with its tables as positions in `Flush.rows`."""

    what: str
    text: str
    tables: tuple[int, ...]
    counted: bool


class PostgresSink:
    """Writes the flushes of one projection. Raises KeyError where its .sql names a table it lacks."""

    def __init__(self, database: Database, projection: Projection, sql: SqlFile) -> None:
        self._database, self._projection = database, projection.name
        self._getters = tuple([attrgetter(name) for name in table.columns] for table in projection.tables)
        self._statements = tuple(_statement(projection, sql, write) for write in sql.writes)

    async def write(self, flush: Flush, progress: Sequence[Progress]) -> Written:
        """Rows and progress in one transaction; raises as `ingest.ports.Sink` says."""
        arrays = [columns(rows, getters) for rows, getters in zip(flush.rows, self._getters, strict=True)]
        due = [s for s in self._statements if any(flush.rows[t] for t in s.tables)]
        if not due and not progress:
            return Written(0, 0, 0)
        written = suppressed = 0
        async with self._database.transaction() as transaction:
            for statement in due:
                count = await self._execute(transaction, statement, arrays)
                if count is not None and statement.counted:
                    written += count
                    suppressed += max(0, len(flush.rows[statement.tables[0]]) - count)
            # Last, so that the few rows that every flush of a partition updates are locked briefly.
            await put_progress(transaction, self._database.sql, self._projection, progress)
        return Written(written, suppressed, len(due) + bool(progress))

    async def _execute(
        self, transaction: Transaction, statement: Statement, arrays: Sequence[list[list[Any]]]
    ) -> int | None:
        arguments = [column for table in statement.tables for column in arrays[table]]
        return rows_changed(await transaction.execute(statement.text, *arguments, what=statement.what))


def _statement(projection: Projection, sql: SqlFile, write: Write) -> Statement:
    what = f"sql/{sql.name}.sql, {'write' if write.counted else 'lock'} {write.name}"
    return Statement(what, write.text, tuple(map(projection.table, write.tables)), write.counted)


def columns(rows: Sequence[Struct], getters: Sequence[Getter]) -> list[list[Any]]:
    """One array for each field.

    A getter for each column makes no tuple for each row, which would keep the garbage collector busy:
    5,000 rows of 3 fields in 0.4 ms instead of 3.3 beside a heap of usual size.
    """
    return [list(map(get, rows)) for get in getters]


def rows_changed(tag: str) -> int | None:
    """The count in a command tag such as `INSERT 0 5`; None for one that changes nothing."""
    command, _, count = tag.partition(" ")
    return int(count.rpartition(" ")[2]) if command in COUNTED else None
