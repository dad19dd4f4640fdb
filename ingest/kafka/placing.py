"""Where reading starts in an assigned partition. Pure."""

from typing import Literal, NamedTuple, TypeAlias

from ingest.errors import LostOffsets
from ingest.kafka.faults import LOST
from ingest.record import Partition

Reset: TypeAlias = Literal["none", "earliest", "latest"]


class Log(NamedTuple):
    """What the broker still has of a partition: the offsets of [begin, end)."""

    begin: int
    end: int


class Place(NamedTuple):
    """Where to start. `lost` is an offset that should have been read and no longer can be."""

    start: int
    lost: int | None = None


def place(
    partition: Partition, committed: int | None, next_offset: int | None, log: Log, reset: Reset = "none"
) -> Place:
    """The lower of Kafka's commit and Postgres's progress; the beginning where either has none.

    Raises LostOffsets where one of them lies outside the log, unless `reset` says where to go on.
    """
    known = [offset for offset in (committed, next_offset) if offset is not None]
    lost = next((offset for offset in sorted(known) if not log.begin <= offset <= log.end), None)
    if lost is not None:
        if reset == "none":
            raise LostOffsets(f"{partition.topic}:{partition.number}: {_told(lost, log)}", LOST)
        return Place(log.begin if reset == "earliest" else log.end, lost)
    return Place(min(known) if len(known) == 2 else log.begin)


def _told(lost: int, log: Log) -> str:
    if lost > log.end:
        return f"offset {lost} comes after the end of the log, {log.end}: the topic was emptied or made anew"
    gone = log.begin - lost
    return f"offset {lost} was to be read next, but the log begins at {log.begin}: {gone} records are gone"
