"""Rebuilding a projection: empty its tables, and have its topic read again from the beginning.

The way to change a setting that stored rows depend on. Whatever the log no longer has is lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ingest.errors import Misconfigured
from ingest.kafka import Connection, Lookup
from ingest.kafka.rewinding import set_commits
from ingest.postgres import Database
from ingest.projection import Projection
from ingest.queries import SqlFile
from ingest.record import Offsets
from ingest.status import group_of


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a refold would find: `begins` and `ends` of the log, and whether it is compacted."""

    begins: Offsets
    ends: Offsets
    compacted: bool

    @property
    def gone(self) -> int:
        """Offsets before the beginning of the log: their events cannot be folded again."""
        return sum(self.begins.values())

    @property
    def records(self) -> int:
        """Offsets that would be read again."""
        return sum(end - self.begins[p] for p, end in self.ends.items())


async def look(lookup: Lookup, projection: Projection, topic: str) -> Outlook:
    """Ask the brokers. Raises Misconfigured where workers of the projection are running."""
    members = (await lookup.group(group_of(projection.name))).members
    if members:
        raise Misconfigured(
            f"{len(members)} workers of {projection.name} are running",
            "stop them first, start them afterwards",
        )
    partitions = await lookup.partitions(topic)
    settings = await lookup.settings(topic)
    return Outlook(
        await lookup.beginnings(partitions),
        await lookup.stable_ends(partitions),
        "compact" in settings.get("cleanup.policy", ""),
    )


async def refold(
    connection: Connection, database: Database, projection: Projection, sql: SqlFile, outlook: Outlook
) -> None:
    """Empty the tables and forget progress and pinned settings; the next worker begins anew.

    Kafka's commits go first: whatever comes in between, reading starts at the lower of the two.
    Raises Misconfigured where the projection does not say how it is emptied.
    """
    await set_commits(connection, group_of(projection.name), outlook.begins)
    async with database.transaction() as transaction:
        await transaction.execute(empty(sql.queries, projection.name))
        await transaction.execute(database.sql["forget"], projection.name)
        await transaction.execute(database.sql["raise_epoch"], projection.name)


def empty(queries: Mapping[str, str], projection: str) -> str:
    """The statement that empties the tables. Raises Misconfigured."""
    if "empty" not in queries:
        raise Misconfigured(
            f"sql/{projection}.sql does not say how its tables are emptied", "add '-- query empty'"
        )
    return queries["empty"]
