"""What a proof needs of the log and of the database."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from ingest.record import Offsets, Partition, Record


class Brokers(Protocol):
    """Questions that join no group and change nothing; each raises Unavailable or Misconfigured."""

    async def topics(self, names: Collection[str]) -> Mapping[str, int]:
        """Number of partitions of each of these topics that exists."""
        ...

    async def settings(self, topic: str) -> Mapping[str, str]: ...

    async def beginnings(self, partitions: Collection[Partition]) -> Offsets: ...

    async def stable_ends(self, partitions: Collection[Partition]) -> Offsets: ...

    async def committed(self, group: str, partitions: Collection[Partition]) -> Offsets: ...


Read: TypeAlias = Callable[[Offsets, Offsets], AsyncGenerator[tuple[Partition, Sequence[Record]], None]]
"""From starts and ends: the committed records of [start, end) of each partition, in chunks; those of
one partition in order."""


class Stored(Protocol):
    """One frozen view of the database."""

    async def fetch(self, text: str, *arguments: Any) -> Sequence[Mapping[str, Any]]: ...

    def stream(self, text: str) -> AsyncIterator[Sequence[tuple[Any, ...]]]: ...


class Snapshots(Protocol):
    """`sql` holds the engine's own queries by name."""

    @property
    def sql(self) -> Mapping[str, str]: ...

    def snapshot(self) -> AbstractAsyncContextManager[tuple[Stored, datetime]]: ...
