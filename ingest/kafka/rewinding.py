"""Setting the commits of a group that nobody is in."""

import asyncio

from ingest.errors import Misconfigured, Unavailable
from ingest.kafka.client import Connection
from ingest.kafka.consumer import member
from ingest.kafka.faults import FENCED, KafkaError, fault
from ingest.record import Offsets

TIMEOUT = 20.0  # seconds


async def set_commits(connection: Connection, group: str, offsets: Offsets) -> None:
    """Let `group` read on at `offsets`, before or after where it was.

    Raises Misconfigured where the group has members: the brokers take commits from them alone.
    """
    consumer = member(connection, group)
    await consumer.open()
    try:
        consumer.assign(offsets)
        async with asyncio.timeout(TIMEOUT):
            await consumer.commit(offsets)
    except TimeoutError:
        raise Unavailable(f"setting the commits of {group} took too long", "kafka_commit") from None
    except FENCED as error:
        raise Misconfigured(f"workers of {group} are running", "stop them, then try again") from error
    except (KafkaError, OSError) as error:
        raise fault(error, f"setting the commits of {group}") from error
    finally:
        await consumer.close(5.0)
