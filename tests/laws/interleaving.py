"""Two writers whose statements are sent to Postgres one at a time, in an order that is chosen."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ingest.postgres import Database, Transaction

GLANCE = 0.002  # seconds to wait for a statement before asking whether a lock holds it up
WAITING_FOR_LOCKS = "select count(distinct pid) from pg_locks where not granted"


class Lane:
    """One writer's way: it stops before each statement until it is let through."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed, self._go = changed, asyncio.Event()
        self.waiting = False

    async def stop(self) -> None:
        self.waiting = True
        self._changed.set()
        await self._go.wait()
        self._go.clear()

    def let_through(self) -> None:
        self.waiting = False
        self._go.set()


class SlowTransaction:
    def __init__(self, transaction: Transaction, lane: Lane) -> None:
        self._transaction, self._lane = transaction, lane

    async def execute(self, text: str, *arguments: Any, what: str = "") -> str:
        await self._lane.stop()
        return await self._transaction.execute(text, *arguments, what=what)


class SlowDatabase:
    """What a sink needs of a database, with a stop before each statement and before COMMIT."""

    def __init__(self, database: Database, lane: Lane) -> None:
        self._database, self._lane = database, lane
        self.sql = database.sql

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SlowTransaction]:
        await self._lane.stop()
        async with self._database.transaction() as transaction:
            yield SlowTransaction(transaction, self._lane)
            await self._lane.stop()


async def interleave(
    writers: list[Callable[[Lane], Coroutine[Any, Any, None]]],
    turns: Sequence[int],
    blocked: Callable[[], Awaitable[int]],
) -> None:
    """Runs the writers; `turns` say whose statement is next wherever there is a choice.

    `blocked` tells how many connections wait for a lock. Raises what a writer raises.
    """
    changed, turn = asyncio.Event(), iter(turns)
    lanes = [Lane(changed) for _ in writers]
    tasks = [asyncio.ensure_future(writer(lane)) for writer, lane in zip(writers, lanes, strict=True)]
    for task in tasks:
        task.add_done_callback(lambda _: changed.set())

    def running() -> int:
        return sum(not lane.waiting and not task.done() for lane, task in zip(lanes, tasks, strict=True))

    async def settle() -> None:
        while running():
            try:
                async with asyncio.timeout(GLANCE):
                    await changed.wait()
            except TimeoutError:
                if await blocked() >= running():
                    return
            changed.clear()

    try:
        while not all(task.done() for task in tasks):
            await settle()
            if ready := [lane for lane in lanes if lane.waiting]:
                ready[next(turn, 0) % len(ready)].let_through()
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
