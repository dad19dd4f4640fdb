"""What the checks share: settings, connections, and what was learned so far."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from ingest.kafka import Connection, Lookup
from ingest.postgres import Database
from ingest.record import Partition
from ingest.registry import Registry
from ingest.settings import KafkaSettings, Settings


class Patient:
    """What is examined. `find` and `read` give projections and settings, and may raise Misconfigured.

    `patience`: seconds that one question to a server may take. Attributes without a value are set by
    the check that others need for it.
    """

    registry: Registry
    settings: Settings
    lookup: Lookup
    database: Database

    def __init__(
        self,
        find: Callable[[], Registry],
        read: Callable[[], Settings],
        *,
        patience: float = 5.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.find, self.read, self.patience, self.clock = find, read, patience, clock
        self.exits = AsyncExitStack()
        self.partitions: dict[str, int] = {}
        """Topics that exist, by their names at the broker."""

    @property
    def kafka(self) -> KafkaSettings:
        return self.settings.kafka

    @property
    def connection(self) -> Connection:
        return Connection(self.kafka)

    @property
    def servers(self) -> Sequence[tuple[str, int]]:
        """Host and port of each bootstrap server."""
        named = (self.kafka.bootstrap_servers or "").split(",")
        parts = (server.rpartition(":") for server in named if server)
        return [(host.strip("[]"), int(port)) for host, _, port in parts]

    @property
    def sources(self) -> Sequence[str]:
        """Topics that are read, by their names at the broker."""
        return [self.kafka.topic(topic) for topic in self.registry.topics]

    def parts(self, *topics: str) -> list[Partition]:
        """The partitions of those of these topics that exist."""
        return [Partition(t, number) for t in topics for number in range(self.partitions.get(t, 0))]
