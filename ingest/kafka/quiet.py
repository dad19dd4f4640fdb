"""The client's own log lines, thinned out: of each kind one line a minute passes, the rest are counted.

While a broker is down aiokafka logs hundreds of errors a second, all of them alike.
"""

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

CLIENT = "aiokafka"
MOST_KINDS = 1000


@dataclass(slots=True)
class Gate:
    """Lets one line of a kind through per `interval` seconds. Pure: time is an argument."""

    interval: float = 60.0
    _seen: dict[Hashable, tuple[float, int]] = field(default_factory=dict)

    def admit(self, kind: Hashable, now: float) -> int | None:
        """How many lines of this kind were held back since the last one; None: hold this one back."""
        since, held = self._seen.get(kind, (None, 0))
        if since is not None and now - since < self.interval:
            self._seen[kind] = (since, held + 1)
            return None
        self._seen.pop(kind, None)
        if len(self._seen) >= MOST_KINDS:
            del self._seen[next(iter(self._seen))]
        self._seen[kind] = (now, 0)
        return held


class Thinned(logging.Handler):
    """Passes what the gate admits on to the root logger's handlers.

    `on_line(logger, passed)` hears of every line, for a metric. `clock` gives seconds.
    """

    def __init__(
        self,
        gate: Gate,
        clock: Callable[[], float] = time.monotonic,
        on_line: Callable[[str, bool], None] = lambda logger, passed: None,
    ) -> None:
        super().__init__()
        self._gate, self._clock, self._on_line = gate, clock, on_line

    def emit(self, record: logging.LogRecord) -> None:
        held = self._gate.admit(kind_of(record), self._clock())
        self._on_line(record.name, held is not None)
        if held is None:
            return
        if held:
            record.msg, record.args = f"{record.getMessage()} ({held} more like this)", None
        logging.getLogger().handle(record)


def kind_of(record: logging.LogRecord) -> Hashable:
    """Who says what because of which error: the text before its arguments are filled in."""
    args = record.args if isinstance(record.args, tuple) else ()
    causes = tuple(type(arg).__name__ for arg in args if isinstance(arg, BaseException))
    return (record.name, str(record.msg)[:200], causes)


def thin_out(
    gate: Gate | None = None,
    on_line: Callable[[str, bool], None] = lambda logger, passed: None,
    level: int = logging.WARNING,
) -> None:
    """Put the client's loggers behind a gate, once per process; calling again replaces the gate."""
    logger = logging.getLogger(CLIENT)
    for handler in [h for h in logger.handlers if isinstance(h, Thinned)]:
        logger.removeHandler(handler)
    logger.addHandler(Thinned(gate or Gate(), on_line=on_line))
    logger.propagate = False
    logger.setLevel(level)
