"""Brings a schema up to date, says what is pending, and refuses a worker that does not fit it.

    schema.py     what is recorded, what is pending, who fits: pure
    adopt.py      tables that were there before us: kept where their shape is right, else refused

Each migration runs in a transaction of its own, under a lock of that transaction: any number of
processes may start at once, also through a pooler.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from pydantic import SecretStr

from ingest.errors import IngestError, Misconfigured, Unavailable, Unstorable
from ingest.migrate.adopt import adopt
from ingest.migrate.schema import Recorded, Schema, Step, pending, refuse_edited, refuse_unfit
from ingest.postgres import Database, Transaction
from ingest.postgres.inspect import refuse_old, server_version, standing
from ingest.queries import Migration, SqlFile
from ingest.retry import Attempts, Backoff, rule
from ingest.settings import PostgresSettings

__all__ = ["Step", "check", "migrate", "require_fit"]

LONG = 86_400.0  # seconds one migration may take: rewriting a large table is no failure
WAITED_FOR = {"locked", "deadlock"}  # a running worker stood in the way; it does not for long


async def migrate(
    where: str | PostgresSettings,
    files: Sequence[SqlFile],
    *,
    report: Callable[[Step], None] = lambda step: None,
    wait: float = 600.0,
) -> list[Step]:
    """Apply what is pending, the engine's file first; the steps this call made, each reported when done.

    `where` is a DSN or the settings, whose `migrate_dsn` is used where given. `wait`: seconds to let
    another migration or a lock go first. Raises Misconfigured (an edited or failing migration, a
    table that cannot be adopted; the step is undone) or Unavailable.
    """
    async with _opened(where, files) as database:
        await _refuse_unusable(database)
        steps = [(file, migration) for file, migration in pending(files, await _schema(database))]
        done = []
        for file, migration in steps:
            if step := await _patiently(database, file, migration, wait):
                done.append(step)
                report(step)
        refuse_edited(files, await _schema(database))
        return done


async def check(where: str | PostgresSettings, files: Sequence[SqlFile]) -> list[Step]:
    """What `migrate` would do. Raises Misconfigured for an edited migration."""
    async with _opened(where, files) as database:
        await _refuse_unusable(database)
        found = pending(files, await _schema(database))
        return [Step(file.name, migration.version, migration.title) for file, migration in found]


async def require_fit(database: Database, files: Sequence[SqlFile]) -> None:
    """Raises Misconfigured where this worker and the schema do not fit; the mend says which gives way."""
    refuse_old(await server_version(database))
    refuse_unfit(files, await _schema(database))


@asynccontextmanager
async def _opened(where: str | PostgresSettings, files: Sequence[SqlFile]) -> AsyncIterator[Database]:
    settings = PostgresSettings(dsn=SecretStr(where)) if isinstance(where, str) else where
    if settings.migrate_dsn:
        settings = settings.model_copy(update={"dsn": settings.migrate_dsn, "pgbouncer": False})
    # A statement outside a transaction needs a second connection beside the one that holds the lock.
    settings = settings.model_copy(update={"pool_size": 2})
    database = Database(settings, next(file for file in files if "migrations" in file.queries))
    try:
        yield database
    finally:
        await database.close()


async def _refuse_unusable(database: Database) -> None:
    refuse_old(await server_version(database))
    if (await standing(database)).schema is None:
        raise Misconfigured("the search path names no schema that exists", rule("3F").mend)


async def _schema(database: Database) -> Schema:
    async with database.transaction("begin_read") as transaction:
        return await _recorded(transaction, database)


async def _recorded(transaction: Transaction, database: Database) -> Schema:
    relations = await transaction.fetch(database.sql["relations"])
    if {"name": "ingest_migration"} not in relations:
        return {}
    rows = await transaction.fetch(database.sql["migrations"])
    return {(r["file"], r["version"]): Recorded(r["title"], r["min_worker"], r["checksum"]) for r in rows}


async def _patiently(database: Database, file: SqlFile, migration: Migration, wait: float) -> Step | None:
    """Apply it once nobody else migrates; None where somebody else applied it meanwhile."""
    attempts = Attempts(Backoff(first=0.05, cap=1.0))
    until = asyncio.get_running_loop().time() + wait
    while True:
        trouble = Unavailable(f"another migration has been running for {wait:g} s", "locked")
        try:
            free, step = await _apply(database, file, migration)
            if free:
                return step
        except Unavailable as error:
            if error.cause not in WAITED_FOR:
                raise
            trouble = error
        if asyncio.get_running_loop().time() > until:
            raise trouble
        await asyncio.sleep(attempts.failed(0.0, random.random))


async def _apply(database: Database, file: SqlFile, migration: Migration) -> tuple[bool, Step | None]:
    """Whether the lock was free, and the step where it was still to be made."""
    sql = database.sql
    async with database.transaction(patience=LONG) as transaction:
        if not await transaction.value(sql["try_lock"]):
            return False, None
        if (file.name, migration.version) in await _recorded(transaction, database):
            return True, None
        step = Step(file.name, migration.version, migration.title)
        try:
            adopted = await _run(database, transaction, migration)
        except (Misconfigured, Unstorable) as error:
            raise _failed(step, error) from error
        record = (file.name, migration.version, migration.title, migration.min_worker, migration.checksum)
        await transaction.execute(sql["put_migration"], *record)
    return True, replace(step, adopted=adopted)


async def _run(database: Database, transaction: Transaction, migration: Migration) -> tuple[str, ...]:
    if migration.transactional:
        return await adopt(transaction, database.sql, migration)
    # The portal of the last query keeps its snapshot, for which `create index concurrently` would wait
    # for ever; any simple statement closes it.
    await transaction.execute(database.sql["savepoint"])
    for statement in migration.statements:
        await database.alone(statement, LONG)
    return ()


def _failed(step: Step, error: IngestError) -> Misconfigured:
    mend = "remove the cause and run `activity-ingest migrate` again"
    if isinstance(error, Misconfigured) and error.mend == rule("42501").mend:
        mend = error.mend
    return Misconfigured(f"{step}: {error.message}", mend)
