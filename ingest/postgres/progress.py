"""How far each topic was read: ingest_progress."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from ingest.errors import WentBack
from ingest.ports import Progress
from ingest.postgres.database import Database, Transaction
from ingest.record import Partition

NOTHING = "INSERT 0 0"


async def put_progress(
    transaction: Transaction, sql: Mapping[str, str], projection: str, progress: Sequence[Progress]
) -> None:
    """Overwrite the rows of these partitions; an unknown `read_up_to` leaves what is stored.

    Raises WentBack where a row is behind what it was known to be.
    """
    if progress:
        tag = await transaction.execute(
            sql["put_progress"],
            projection,
            [p.partition.topic for p in progress],
            [p.partition.number for p in progress],
            [p.next_offset for p in progress],
            [p.read_up_to for p in progress],
            [p.stored for p in progress],
            what="ingest_progress",
        )
        if tag == NOTHING:
            raise WentBack(f"{projection}: Postgres has less than was written to it")


async def refresh(database: Database, projection: str, progress: Sequence[Progress]) -> None:
    """Note progress that came without rows."""
    async with database.transaction() as transaction:
        await put_progress(transaction, database.sql, projection, progress)


async def start_offsets(
    database: Database, projection: str, partitions: Iterable[Partition]
) -> dict[Partition, int]:
    """Where to read on, for each of `partitions` that has ever been written."""
    wanted: dict[str, list[int]] = {}
    for partition in partitions:
        wanted.setdefault(partition.topic, []).append(partition.number)
    found: dict[Partition, int] = {}
    async with database.transaction("begin_read") as transaction:
        for topic, numbers in wanted.items():
            for row in await transaction.fetch(database.sql["start_offsets"], projection, topic, numbers):
                found[Partition(topic, row["partition"])] = row["next_offset"]
    return found


async def as_of(database: Database, projection: str, topic: str, partitions: int) -> datetime | None:
    """The moment up to which all `partitions` of the topic were read; None while one is unknown."""
    moment: datetime | None = await database.value(database.sql["as_of"], projection, topic, partitions)
    return moment
