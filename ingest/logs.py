"""Log lines: our own and those of libraries, in one form, to standard error.

Nothing is logged per event. Ids of users and clients appear at level debug only.
"""

import logging
import re
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

IDS = frozenset({"user_id", "client_id", "session_id", "key"})
# Postgres repeats the offending key in the detail of its messages.
DETAIL = re.compile(r"\s*\bDETAIL:.*")


def configure(
    level: str = "info",
    form: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Set up logging for the process; calling again replaces the set-up.

    `level` is debug, info, warning or error; `form` auto is console on a terminal, else json;
    `stream` defaults to standard error.
    """
    target = stream or sys.stderr
    console = form == "console" or (form == "auto" and target.isatty())
    least = logging.getLevelNamesMapping()[level.upper()]
    shared, renderers = _shared(), _renderers(console, colors=target.isatty())
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=False,  # loggers made at import must follow a later call
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    # The root logger's own level does not stop records that another handler passes on to it.
    handler.setLevel(least)
    logging.basicConfig(handlers=[handler], level=least, force=True)
    logging.captureWarnings(True)


def _shared() -> list[Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _renderers(console: bool, colors: bool) -> list[Processor]:
    last: Processor = structlog.processors.JSONRenderer()
    if console:
        # The default formatter prints the values of local variables, and with them passwords.
        plain = structlog.dev.plain_traceback
        last = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)
    return [structlog.processors.format_exc_info, hide_ids, last]


def hide_ids(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Above debug, drop the ids of users, clients and sessions, and the details that quote them."""
    if event.get("level", method) == "debug":
        return event
    for name in IDS & event.keys():
        del event[name]
    for name, value in event.items():
        text = str(value) if isinstance(value, BaseException) else value
        if isinstance(text, str):
            event[name] = DETAIL.sub("", text) if "DETAIL:" in text else text
    return event
