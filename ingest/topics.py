"""The topics this service reads and writes: which there are, how they are set, and making those missing."""

from collections.abc import Sequence
from typing import NamedTuple

from ingest.errors import IngestError
from ingest.kafka import Connection, Lookup, Topic, create_topics, dead_letter_topic, source_topic
from ingest.kafka.admin import LARGEST
from ingest.registry import Registry
from ingest.settings import KafkaSettings

MOST_REPLICAS = 3
PARTITIONS = 4


class Found(NamedTuple):
    """A topic as it should be called and as it is; `partitions` 0: it does not exist."""

    topic: str
    purpose: str
    partitions: int
    timestamps: str | None
    largest_batch: int | None


def wanted(registry: Registry, kafka: KafkaSettings) -> dict[str, str]:
    """Actual name of every topic -> what it is for."""
    readers: dict[str, list[str]] = {
        kafka.topic(topic): [] for topic in sorted({*registry.catalogue.values()})
    }
    for projection in registry.projections.values():
        readers.setdefault(kafka.topic(projection.topic), []).append(projection.name)
    purposes = {
        topic: f"read by {', '.join(names)}" if names else "read by nobody"
        for topic, names in readers.items()
    }
    return purposes | {kafka.dead_letter_topic: "rejected records"}


async def look(lookup: Lookup, registry: Registry, kafka: KafkaSettings) -> list[Found]:
    """Every topic, whether it exists or not."""
    purposes = wanted(registry, kafka)
    there = await lookup.topics(purposes)
    found = []
    for topic, purpose in purposes.items():
        settings = await _settings(lookup, topic) if topic in there else {}
        largest = settings.get("max.message.bytes")
        stamps = settings.get("message.timestamp.type")
        found.append(Found(topic, purpose, there.get(topic, 0), stamps, int(largest) if largest else None))
    return found


def missing(found: Sequence[Found], kafka: KafkaSettings, partitions: int, replication: int) -> list[Topic]:
    """What must be made. A dead letter is a record with headers, so that topic takes twice as much."""
    sources = [f for f in found if f.topic != kafka.dead_letter_topic]
    largest = max((f.largest_batch for f in sources if f.largest_batch), default=LARGEST)
    return [
        dead_letter_topic(f.topic, 1, replication, largest)
        if f.topic == kafka.dead_letter_topic
        else source_topic(f.topic, partitions, replication)
        for f in found
        if not f.partitions
    ]


async def create(
    connection: Connection, registry: Registry, partitions: int | None = None, replication: int | None = None
) -> list[str]:
    """Make the topics that do not exist, and say which; those that exist stay as they are.

    By default with as many replicas as there are brokers, three at most. Raises Misconfigured or
    Unavailable.
    """
    async with Lookup(connection) as lookup:
        found = await look(lookup, registry, connection.settings)
        replicas = replication or min(MOST_REPLICAS, max(1, await lookup.brokers()))
    topics = missing(found, connection.settings, partitions or PARTITIONS, replicas)
    return await create_topics(connection, topics) if topics else []


async def _settings(lookup: Lookup, topic: str) -> dict[str, str]:
    """The topic's settings; none where this cluster does not tell them."""
    try:
        return await lookup.settings(topic)
    except IngestError:
        return {}
