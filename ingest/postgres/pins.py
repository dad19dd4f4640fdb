"""Settings that stored rows depend on: written once, compared ever after."""

from collections.abc import Collection, Mapping

from ingest.errors import Misconfigured
from ingest.postgres.database import Database


async def put_settings(
    database: Database, projection: str, settings: Mapping[str, object], pinned: Collection[str]
) -> None:
    """Store a projection's settings for SQL to read.

    A pinned one that is stored already stays; where ours differs, raises Misconfigured and nothing
    is stored, because two rules in one table would make its rows depend on who wrote them.
    """
    ours = {name: plain(value) for name, value in settings.items()}
    async with database.transaction() as transaction:
        given = (list(ours), list(ours.values()), [name in pinned for name in ours])
        await transaction.execute(database.sql["put_settings"], projection, *given)
        rows = await transaction.fetch(database.sql["settings"], projection)
        stored = {row["name"]: row["value"] for row in rows}
        for name in sorted(ours):
            if stored[name] != ours[name]:
                what = f"{name} is {ours[name]} here, but the stored rows were made with {stored[name]}"
                mend = f"set {variable(projection, name)}={stored[name]}, or rebuild the rows:"
                raise Misconfigured(f"{projection}: {what}", f"{mend} activity-ingest refold {projection}")


async def stored_settings(database: Database, projection: str) -> dict[str, str]:
    """What is stored, by name."""
    return {row["name"]: row["value"] for row in await database.fetch(database.sql["settings"], projection)}


def plain(value: object) -> str:
    """The text that SQL reads: numbers without a needless fraction, truth as Postgres spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def variable(projection: str, name: str) -> str:
    """The environment variable that sets it."""
    return f"ACTIVITY_{projection}__{name}".upper()
