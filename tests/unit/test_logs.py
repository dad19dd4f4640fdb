"""Log lines: their form, their levels, and what must not be in them."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from ingest import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging belongs to the process: leave it as it was."""
    root, kept = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    root.handlers = []  # basicConfig closes those that it replaces
    yield
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level
    structlog.configure(**kept)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_where_nobody_watches() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger().info("flush", projection="streaks", rows=3, milliseconds=1.5)
    (line,) = lines(stream)
    stamp = line.pop("timestamp")
    assert line == {
        "event": "flush",
        "level": "info",
        "projection": "streaks",
        "rows": 3,
        "milliseconds": 1.5,
    }
    assert stamp.endswith("Z")
    assert datetime.fromisoformat(stamp).utcoffset() == timedelta(0)


def test_a_line_is_for_people_on_a_terminal_and_json_if_asked_for() -> None:
    for form in ("auto", "json"):
        stream = Terminal()
        logs.configure(form=form, stream=stream)
        structlog.get_logger().info("flush", rows=3)
        assert stream.getvalue().startswith("{") == (form == "json")


def test_console_can_be_asked_for_without_a_terminal_and_has_no_colours_then() -> None:
    stream = io.StringIO()
    logs.configure(form="console", stream=stream)
    structlog.get_logger().warning("flush", rows=3)
    assert "[warning  ] flush" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_libraries_log_in_the_same_form_under_their_own_name() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("aiokafka.conn").error("no %s", "route")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    failed, warned = lines(stream)
    assert (failed["event"], failed["level"], failed["logger"]) == ("no route", "error", "aiokafka.conn")
    assert set(failed) == {"event", "level", "logger", "timestamp"}
    assert warned["logger"] == "py.warnings"


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_holds_for_us_and_for_libraries(level: str, shown: int) -> None:
    stream = io.StringIO()
    logs.configure(level, stream=stream)
    ours, theirs = structlog.get_logger(), logging.getLogger("library")
    for name in ("debug", "info", "warning", "error"):
        getattr(ours, name)("x")
        getattr(theirs, name)("y")
    assert [line["event"] for line in lines(stream)] == ["x", "y"] * shown


def test_a_logger_made_before_the_set_up_follows_it() -> None:
    early = structlog.get_logger()
    for _ in range(2):
        stream = io.StringIO()
        logs.configure(stream=stream)
        early.info("x")
        assert len(lines(stream)) == 1


def test_a_second_set_up_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure(stream=first)
    logs.configure(stream=second)
    logging.getLogger("library").error("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


@pytest.mark.parametrize("form", ["json", "console"])
def test_ids_of_users_and_clients_appear_at_debug_only(form: Any) -> None:
    ids = {"user_id": "ann-1", "client_id": "ann-2", "session_id": "ann-3", "key": b"ann-4"}
    for level in ("info", "warning", "error", "critical"):
        stream = io.StringIO()
        logs.configure("debug", form, stream)
        getattr(structlog.get_logger(), level)("x", rows=1, **ids)
        assert "ann" not in stream.getvalue()
        assert "rows" in stream.getvalue()
    structlog.get_logger().debug("x", **ids)
    assert stream.getvalue().count("ann") == 4


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_detail_in_which_postgres_quotes_a_key_is_left_out(form: Any) -> None:
    stream = io.StringIO()
    logs.configure(form=form, stream=stream)
    text = "duplicate key\nDETAIL:  Key (user_id)=(ann) already exists.\nHINT:  none"
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        structlog.get_logger().exception("x", error=error, said=str(error))
    assert "duplicate key" in stream.getvalue()
    assert "HINT" in stream.getvalue()
    # The traceback quotes the line of source above, which names no value.
    assert "ann" not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variables(form: Any) -> None:
    stream = Terminal() if form == "console" else io.StringIO()
    logs.configure(form=form, stream=stream)
    password = "hunter" + "2"
    try:
        raise RuntimeError(str(len(password)))
    except RuntimeError:
        structlog.get_logger().exception("x")
        logging.getLogger("library").exception("y")
    assert stream.getvalue().count("RuntimeError: 7") == 2
    assert password not in stream.getvalue()
