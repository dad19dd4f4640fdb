"""An event loop whose clock jumps instead of waiting: hours of retries take no time."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

import pytest

P = ParamSpec("P")
PATIENCE = 1e6  # seconds of virtual time


class JumpingSelector(selectors.SelectSelector):
    """Lets time pass at once whenever all tasks wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("every task waits for something that will never happen")
        self.time += max(timeout, 0.0)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.time


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs a coroutine test in a loop where sleeping takes no time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE))

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Returns once `condition` holds; looks at every hundredth of a virtual second, long enough."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came true")


def monotonic() -> float:
    return asyncio.get_running_loop().time()
