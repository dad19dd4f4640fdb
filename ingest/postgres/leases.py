"""One at a time: a lease row with an expiry and a fencing number, and the sweep that runs under one.

No session-scoped advisory locks: a pooler hands the session, and the lock with it, to someone else.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingest.postgres.database import Database, Transaction


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do `name` alone; `holder` is unique to a process. Kept from one use to the next
    unless `ttl` passes between them."""

    name: str
    holder: str
    ttl: timedelta


@dataclass(frozen=True, slots=True)
class Held:
    """The lease is ours to the end of this transaction. `fencing` rises with each change of hands."""

    transaction: Transaction
    fencing: int


@asynccontextmanager
async def with_lease(database: Database, lease: Lease) -> AsyncIterator[Held | None]:
    """A transaction that holds the lease, or None where another holder has it; never waits for them."""
    async with database.transaction() as transaction:
        take = (database.sql["lease_take"], lease.name, lease.holder, lease.ttl)
        fencing = await transaction.value(*take)
        if fencing is None:
            made = await transaction.execute(database.sql["lease_make"], lease.name)
            fencing = await transaction.value(*take) if made == "INSERT 0 1" else None
        yield None if fencing is None else Held(transaction, fencing)


async def still_held(database: Database, transaction: Transaction, lease: Lease, fencing: int) -> bool:
    """Whether what was begun under `fencing` may be finished in `transaction`; locks the lease."""
    check = (database.sql["lease_check"], lease.name, lease.holder, fencing)
    return await transaction.value(*check) is not None


async def release(database: Database, lease: Lease) -> None:
    """Let another have it at once, rather than after its expiry."""
    async with database.transaction() as transaction:
        await transaction.execute(database.sql["lease_release"], lease.name, lease.holder)


async def sweep(database: Database, lease: Lease, text: str, as_of: datetime, limit: int) -> int | None:
    """One bounded step of a sweep section: rows changed, or None where another process sweeps."""
    async with with_lease(database, lease) as held:
        if held is None:
            return None
        return int(await held.transaction.value(text, as_of, limit, what=lease.name) or 0)
