"""Connections: opened when first needed, kept while they are good, never after a failure.

Our own and not asyncpg's: that one resets a session with a further round trip after every use, and
after a failover hands out its other connections to the same dead server one by one.
"""

import asyncio
from dataclasses import dataclass

import asyncpg

from ingest.errors import Unavailable
from ingest.postgres.access import Access
from ingest.postgres.translate import FAILURES, while_connecting
from ingest.retry import POOL

MAX_IDLE = 300.0  # seconds; firewalls forget idle connections silently
MAX_AGE = 3600.0  # seconds; so that a changed DNS entry or a new standby is found


@dataclass(slots=True, eq=False)
class Lent:
    """A connection in use and what must be known to take it back."""

    connection: "asyncpg.Connection[asyncpg.Record]"
    opened: float
    epoch: int
    idle_since: float = 0.0


class Pool:
    """At most `pool_size` connections. The most recently used is lent first."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._free = asyncio.Semaphore(access.pool_size)
        self._idle: list[Lent] = []
        self._epoch = 0

    async def take(self) -> Lent:
        """A connection of one's own. Raises Unavailable or Misconfigured."""
        try:
            async with asyncio.timeout(self._access.connect_timeout + self._access.command_timeout):
                await self._free.acquire()
        except TimeoutError:
            raise Unavailable("every connection of the pool is busy", POOL) from None
        try:
            return self._reuse() or await self._connect()
        except BaseException:
            self._free.release()
            raise

    def give_back(self, lent: Lent, *, good: bool) -> None:
        """Keep a good connection, close a bad one at once."""
        self._free.release()
        now = _now()
        fresh = lent.epoch == self._epoch and now - lent.opened < MAX_AGE
        if good and fresh and not lent.connection.is_closed():
            lent.idle_since = now
            self._idle.append(lent)
        else:
            lent.connection.terminate()

    def distrust(self) -> None:
        """Close what is idle now, and what is lent once it comes back: a failover reaches them all."""
        self._epoch += 1
        for lent in self._idle:
            lent.connection.terminate()
        self._idle.clear()

    async def close(self) -> None:
        """Say good-bye on idle connections, within a second each; lent ones close on their return."""
        self._epoch += 1
        idle, self._idle = self._idle, []
        for lent in idle:
            try:
                await lent.connection.close(timeout=1)
            except FAILURES:
                lent.connection.terminate()

    def _reuse(self) -> Lent | None:
        while self._idle:
            lent = self._idle.pop()
            if not lent.connection.is_closed() and _now() - lent.idle_since < MAX_IDLE:
                return lent
            lent.connection.terminate()
        return None

    async def _connect(self) -> Lent:
        epoch = self._epoch
        try:
            connection = await asyncpg.connect(**self._access.arguments)
        except FAILURES as error:
            raise while_connecting(error, self._access.address) from error
        return Lent(connection, _now(), epoch)


def _now() -> float:
    return asyncio.get_running_loop().time()
