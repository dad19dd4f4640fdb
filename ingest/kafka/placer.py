"""Finds where to start: asks Postgres and the brokers, and has `placing` decide."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import NamedTuple

from ingest.kafka.client import Connection
from ingest.kafka.faults import bounded
from ingest.kafka.lookup import Lookup
from ingest.kafka.placing import Place, place
from ingest.record import Offsets, Partition


class Found(NamedTuple):
    """Where to start, and what the group had committed."""

    places: Mapping[Partition, Place]
    committed: Offsets


class Placer:
    """For one group. Every method raises Unavailable, Misconfigured or LostOffsets."""

    def __init__(self, connection: Connection, lookup: Lookup, group: str) -> None:
        self._lookup, self._group = lookup, group
        self._reset = connection.settings.offset_reset
        self._timeout = connection.settings.request_timeout

    @property
    def resets(self) -> bool:
        """Whether reading may go on elsewhere when offsets are lost."""
        return self._reset != "none"

    async def find(
        self,
        partitions: Collection[Partition],
        starts: Callable[[Collection[Partition]], Awaitable[Mapping[Partition, int | None]]],
    ) -> Found:
        """Where to start in newly assigned partitions; `starts` asks Postgres."""
        return await bounded(self._find(partitions, starts), self._timeout, "finding where to start")

    async def beyond(self, lost: Collection[Partition]) -> Offsets:
        """Where to go on in partitions whose position the log has lost meanwhile."""
        logs = await self._lookup.logs(lost)
        return {p: log.begin if self._reset == "earliest" else log.end for p, log in logs.items()}

    async def _find(
        self,
        partitions: Collection[Partition],
        starts: Callable[[Collection[Partition]], Awaitable[Mapping[Partition, int | None]]],
    ) -> Found:
        stored = await starts(partitions)
        committed = await self._lookup.committed(self._group, partitions)
        logs = await self._lookup.logs(partitions)
        places = {p: place(p, committed.get(p), stored.get(p), logs[p], self._reset) for p in partitions}
        return Found(places, committed)
