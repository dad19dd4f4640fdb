"""Where aiokafka 0.14 offers nothing in public: each private name that is touched, and why.

A test per function fails when a release changes what it relies on.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaConnectionError

T = TypeVar("T")

ASSIGNORS: dict[str, Any] = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
}


def assignor(name: str) -> Any:
    """An assignor of this consumer's own.

    The sticky one remembers the last assignment in its class, so that consumers of several groups in
    one process would tell each group's leader of partitions that belong to another.
    """
    base = ASSIGNORS[name]
    return type(base.__name__, (base,), {"member_assignment": None})


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that does not suspend, so that nothing can happen in between."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        result: T = finished.value
        return result
    coroutine.close()
    raise RuntimeError("this coroutine suspends")


def forget_failed_fetch(consumer: Any) -> None:
    """A getmany that raised stays counted as running, which would disable max_poll_interval for good."""
    consumer._subscription._fetch_count = 0


async def close(client: Any, seconds: float) -> bool:
    """Stop a consumer or producer; after `seconds` cut its connections. Whether it stopped by itself.

    Stopping waits for requests on their way, and a request to join a group may take a minute; while
    a broker is down it may also end in a CancelledError of its own, its connections open.
    """
    coordinator = getattr(client, "_coordinator", None)
    if coordinator is not None and getattr(coordinator, "generation", None) == 0:
        # Some brokers count from 0, and of a member of generation 0 it takes no leave.
        coordinator.generation = 1
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait({stopping}, timeout=seconds)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return True
    background = _background(client)
    for task in (stopping, *background):
        task.cancel()
    await asyncio.wait({stopping, *background}, timeout=1)
    if hasattr(client, "_message_accumulator"):
        client._message_accumulator.fail_all(KafkaConnectionError("closed before this was sent"))
    sockets = client._client if hasattr(client, "_client") else client.client
    with contextlib.suppress(Exception):
        await asyncio.wait_for(sockets.close(), 1)
    return False


def _background(client: Any) -> list[asyncio.Task[Any]]:
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_fetch_task", "_sender_task")
    parts = [getattr(client, name, None) for name in ("_coordinator", "_fetcher", "_sender")]
    tasks = [getattr(part, name, None) for part in parts for name in names]
    return [task for task in tasks if isinstance(task, asyncio.Task)]
