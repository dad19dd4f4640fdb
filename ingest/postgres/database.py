"""A transaction, a read, a snapshot: the only ways to Postgres.

Every statement runs inside an explicit transaction, so that all of this works behind pgbouncer in
transaction mode as well. A failed connection is closed, never put back.
"""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

from ingest.errors import IngestError, Unavailable, Unstorable
from ingest.postgres.access import MARGIN, access, time_limits
from ingest.postgres.pool import Lent, Pool
from ingest.postgres.translate import FAILURES, while_working
from ingest.queries import SqlFile
from ingest.settings import PostgresSettings

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]
CHUNK = 2_000  # rows fetched at once from a cursor


class Transaction:
    """Statements of one transaction; each raises Unstorable, Unavailable, TimedOut or Misconfigured.

    `what` names the statement in an error's message.
    """

    def __init__(self, lent: Lent, timeout: float | None) -> None:
        self._connection, self._timeout = lent.connection, timeout

    async def execute(self, text: str, *arguments: Any, what: str = "") -> str:
        """The command tag, such as `INSERT 0 5`. Without arguments `text` may hold several statements."""
        return await self._met(self._connection.execute(text, *arguments, timeout=self._timeout), what)

    async def fetch(self, text: str, *arguments: Any, what: str = "") -> list[dict[str, Any]]:
        """All rows, by column name."""
        rows = await self._met(self._connection.fetch(text, *arguments, timeout=self._timeout), what)
        return [dict(row) for row in rows]

    async def value(self, text: str, *arguments: Any, what: str = "") -> Any:
        """The first column of the first row; None where there is no row."""
        return await self._met(self._connection.fetchval(text, *arguments, timeout=self._timeout), what)

    async def stream(self, text: str, *arguments: Any, what: str = "") -> AsyncIterator[list[Row]]:
        """The rows in chunks through a server-side cursor: memory stays flat whatever the table's size."""
        cursor = await self._met(self._connection.cursor(text, *arguments, timeout=self._timeout), what)
        while rows := await self._met(cursor.fetch(CHUNK, timeout=self._timeout), what):
            yield [tuple(row) for row in rows]

    async def _met(self, call: Awaitable[T], what: str) -> T:
        try:
            return await call
        except FAILURES as error:
            connected = not self._connection.is_closed()
            raise while_working(error, connected=connected, what=what) from error


class Database:
    """One database, reached through a small pool. Nothing connects before the first use.

    `engine` is the parsed `_engine.sql`. Raises Misconfigured for settings that cannot be right.
    """

    def __init__(self, settings: PostgresSettings, engine: SqlFile) -> None:
        self._access = access(settings)
        self._pool = Pool(self._access)
        self.sql = engine.queries

    @property
    def address(self) -> str:
        """Which database this is, without its password."""
        return self._access.address

    @asynccontextmanager
    async def transaction(
        self, begin: str = "begin", *, patience: float | None = None
    ) -> AsyncIterator[Transaction]:
        """Commits at the end of the block, rolls back when it raises.

        `begin` is `begin`, `begin_read` or `begin_snapshot`. `patience` (seconds) replaces the usual
        limit of a statement and of idling between two. A lost reply to COMMIT raises Unavailable,
        although all may be written: by the merge law a repetition changes nothing.
        """
        lent = await self._pool.take()
        good = False
        try:
            transaction = Transaction(lent, patience + MARGIN if patience else None)
            await transaction.execute(self.sql[begin])
            await self._set_local(transaction, patience)
            yield transaction
            if await transaction.execute(self.sql["commit"]) != "COMMIT":
                raise Unavailable("the transaction was rolled back instead of committed", "transaction")
            good = True
        except Exception as error:
            good = await self._rolled_back(lent, error)
            raise
        finally:
            self._pool.give_back(lent, good=good)

    async def fetch(self, text: str, *arguments: Any, what: str = "") -> list[dict[str, Any]]:
        """All rows of one query in a read-only transaction."""
        async with self.transaction("begin_read") as transaction:
            return await transaction.fetch(text, *arguments, what=what)

    async def value(self, text: str, *arguments: Any, what: str = "") -> Any:
        """The first column of the first row of one query in a read-only transaction."""
        async with self.transaction("begin_read") as transaction:
            return await transaction.value(text, *arguments, what=what)

    @asynccontextmanager
    async def snapshot(self, patience: float = 3600.0) -> AsyncIterator[tuple[Transaction, datetime]]:
        """A frozen view of everything, and its time by the server's clock (SQL's `now()` in it).

        Each read may take `patience` seconds, and so may the pause before the next.
        """
        async with self.transaction("begin_snapshot", patience=patience) as transaction:
            yield transaction, await transaction.value(self.sql["snapshot_time"])

    async def alone(self, text: str, patience: float) -> None:
        """One statement of up to `patience` seconds outside any transaction, on a connection of its own."""
        lent = await self._pool.take()
        try:
            transaction = Transaction(lent, patience)
            if not self._access.local:
                await transaction.execute(self.sql["no_limits"])
            await transaction.execute(text)
        finally:
            self._pool.give_back(lent, good=False)

    async def close(self) -> None:
        """Close what is idle; what is in use closes when it is given back."""
        await self._pool.close()

    async def _set_local(self, transaction: Transaction, patience: float | None) -> None:
        limits = time_limits(patience, patience) if patience else {}
        limits.pop("lock_timeout", None)
        if wanted := {**self._access.local, **limits}:
            await transaction.execute(self.sql["set_local"], list(wanted), list(wanted.values()))

    async def _rolled_back(self, lent: Lent, error: Exception) -> bool:
        """Whether the connection can go on: after bad data or a bug of ours it can."""
        if isinstance(error, Unavailable):
            self._pool.distrust()
        failed = isinstance(error, IngestError) and not isinstance(error, Unstorable)
        if failed or lent.connection.is_closed():
            return False
        try:
            await lent.connection.execute(self.sql["rollback"])
        except FAILURES:
            return False
        return True
