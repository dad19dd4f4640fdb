"""Making topics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from ingest.errors import IngestError
from ingest.kafka.client import Connection
from ingest.kafka.faults import UNSUPPORTED, bounded, code, fault

log = structlog.get_logger()

LARGEST = 1_048_588
"""Bytes of a batch that brokers take where neither they nor the topic say otherwise."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic to be made."""

    name: str
    partitions: int
    replication: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)


def source_topic(name: str, partitions: int, replication: int = 1) -> Topic:
    """A topic for events, stamped by the broker: a producer's wrong clock then stays visible."""
    return Topic(name, partitions, replication, {"message.timestamp.type": "LogAppendTime"})


def dead_letter_topic(name: str, partitions: int, replication: int = 1, largest: int = LARGEST) -> Topic:
    """A topic that keeps rejects for ever and takes them with their headers.

    `largest`: bytes that the topics of events take in one batch.
    """
    settings = {"retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": str(2 * largest)}
    return Topic(name, partitions, replication, settings)


async def create_topics(connection: Connection, topics: Sequence[Topic]) -> list[str]:
    """Make those that do not exist; returns their names. Existing ones are left as they are.

    Raises Misconfigured or Unavailable. Where the brokers do not know a topic setting, the topic is
    made without settings, and a log line says so.
    """
    client = AIOKafkaAdminClient(**connection.arguments)
    timeout = connection.settings.request_timeout
    try:
        try:
            await bounded(client.start(), timeout, "connecting to Kafka")
        except IngestError as error:
            raise await connection.why_unreachable(error) from error
        return [topic.name for topic in topics if await _create(client, topic, timeout)]
    finally:
        await client.close()


async def _create(client: Any, topic: Topic, timeout: float) -> bool:
    doing = f"creating topic {topic.name}"
    error = await bounded(_ask(client, topic), timeout, doing)
    if isinstance(error, UNSUPPORTED) and topic.settings:
        log.warning(
            "topic made without its settings",
            topic=topic.name,
            settings=dict(topic.settings),
            error=str(error),
        )
        error = await bounded(
            _ask(client, Topic(topic.name, topic.partitions, topic.replication)), timeout, doing
        )
    if error is not None and not isinstance(error, TopicAlreadyExistsError):
        raise fault(error, doing) from error
    return error is None


async def _ask(client: Any, topic: Topic) -> BaseException | None:
    new = NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=dict(topic.settings))
    answer = await client.create_topics([new])
    _, number, *about = answer.topic_errors[0]
    return code(number, about[0] if about else topic.name) if number else None
