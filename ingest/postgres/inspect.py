"""Clock, version, rights and gauges, for whoever looks at the database from outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ingest.errors import Misconfigured
from ingest.postgres.database import Database

OLDEST = 140000


@dataclass(frozen=True, slots=True)
class Standing:
    """Who we are to the database. `schema` (None: the search path names none) is where new tables go."""

    user: str
    database: str
    schema: str | None
    may_create: bool
    standby: bool


async def clock(database: Database) -> datetime:
    """The server's time."""
    moment: datetime = await database.value(database.sql["clock"])
    return moment


async def server_version(database: Database) -> int:
    """Such as 180001 for 18.1."""
    return int(await database.value(database.sql["server_version"]))


def refuse_old(version: int) -> None:
    """Raises Misconfigured for a server that lacks what the statements use."""
    if version < OLDEST:
        raise Misconfigured(f"this is PostgreSQL {version // 10000}", "use PostgreSQL 14 or newer")


async def standing(database: Database) -> Standing:
    """Where the connection has led to."""
    (row,) = await database.fetch(database.sql["standing"])
    return Standing(**row)


async def missing_rights(database: Database, tables: Sequence[str]) -> dict[str, list[str]]:
    """For each table (or view) that is there, the rights among select, insert, update, delete we lack."""
    rows = await database.fetch(database.sql["rights"], list(tables))
    return {row["table"]: row["missing"] for row in rows if row["exists"]}


async def gauges(database: Database, sections: Mapping[str, str]) -> dict[str, list[tuple[str, float]]]:
    """Each gauge section's rows: (label, value); one read-only transaction for all."""
    found: dict[str, list[tuple[str, float]]] = {}
    async with database.transaction("begin_read") as transaction:
        for name, text in sections.items():
            rows = await transaction.fetch(text, what=f"gauge {name}")
            found[name] = [_pair(row) for row in rows]
    return found


def _pair(row: dict[str, Any]) -> tuple[str, float]:
    label, value = row.values()
    return str(label or ""), float(value or 0)
