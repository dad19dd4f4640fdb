"""An iterator that blocks, such as one that reads standard input, without blocking the event loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

Item = TypeVar("Item")
END: Any = object()


async def in_background(items: Iterator[Item]) -> AsyncIterator[Item]:
    """The items, each made in a thread when it is asked for.

    A daemon thread, because an executor's would keep a program that was interrupted from ending
    until the next line arrives.
    """
    loop = asyncio.get_running_loop()
    wanted: SimpleQueue[asyncio.Future[Item] | None] = SimpleQueue()

    def make() -> None:
        while future := wanted.get():
            try:
                item, error = next(items, END), None
            except Exception as raised:
                item, error = END, raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, item, error)

    Thread(target=make, name="reader", daemon=True).start()
    try:
        while True:
            future = loop.create_future()
            wanted.put(future)
            if (item := await future) is END:
                return
            yield item
    finally:
        wanted.put(None)


def _settle(future: "asyncio.Future[Any]", item: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(item)
    else:
        future.set_exception(error)
