import io
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from ingest.cli import output
from ingest.cli.output import (
    WIDEST,
    Progress,
    cell,
    coloured,
    pairs,
    show_json,
    show_rows,
    span,
    table,
    width,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_aligned_numbers_to_the_right_and_text_to_the_left() -> None:
    rows = [{"topic_name": "a", "lag": 5}, {"topic_name": "longer name", "lag": 12345}]
    assert table(rows) == ["topic name     lag", "a                5", "longer name  12345"]


def test_wide_characters_take_two_columns() -> None:
    lines = table([{"title": "千と数", "n": 1}, {"title": "Tide", "n": 2}])
    assert len({width(line) for line in lines}) == 1


def test_columns_appear_in_the_order_asked_for_and_no_others() -> None:
    assert table([{"a": 1, "b": 2, "c": 3}], columns=["c", "a"]) == ["c  a", "3  1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (7, "7"),
        (2.5, "2.50"),
        (datetime(2026, 1, 1, 1, 0, 0, 999, tzinfo=timezone(timedelta(hours=1))), "2026-01-01 00:00:00Z"),
        (date(2026, 1, 1), "2026-01-01"),
        (["b", "a"], "b, a"),
        ("two\nlines\x1b[31m", "two\\nlines\\x1b[31m"),
        ("x" * 100, "x" * (WIDEST - 1) + "…"),
    ],
)
def test_a_cell_is_short_and_holds_nothing_that_a_terminal_would_act_upon(value: Any, text: str) -> None:
    assert cell(value) == text


def test_one_thing_is_shown_as_names_and_values() -> None:
    assert pairs({"user_id": "a", "n": 1}) == ["user id  a", "n        1"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.83, "0.8s"),
        (59, "59s"),
        (61, "1m1s"),
        (3600, "1h"),
        (5400, "1h30m"),
        (90_061, "1d1h"),
        (86_405, "1d"),
    ],
)
def test_lengths_of_time_are_told_in_their_two_greatest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_json_is_one_line_for_programs_and_indented_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value: Mapping[str, Any] = {"at": datetime(2026, 1, 1, tzinfo=UTC), "titles": ["千"]}
    show_json(value)
    assert capsys.readouterr().out == '{"at":"2026-01-01T00:00:00Z","titles":["千"]}\n'
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    show_json(value)
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_without_rows_programs_get_an_empty_array_and_people_a_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_rows([], True, "nobody")
    assert capsys.readouterr() == ("[]\n", "")
    show_rows([], False, "nobody")
    assert capsys.readouterr() == ("", "nobody\n")


def test_colours_are_for_terminals_and_for_those_who_want_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert coloured("behind", "red") == "behind"
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("behind", "red") == "behind"
    monkeypatch.delenv("NO_COLOR")
    assert coloured("behind", "red") == "\x1b[31mbehind\x1b[0m"


def test_progress_is_drawn_over_itself_a_few_times_a_second_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal, now = Terminal(), 0.0
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(lambda: now)
    for tick in range(1, 11):
        now = tick * 0.125
        progress.update(tick * 100, "lines", " of x.ndjson")
    progress.clear()
    drawn = terminal.getvalue().split("\r")
    assert "200 lines, 800/s of x.ndjson" in drawn
    assert len([text for text in drawn if text.strip()]) == 5
    assert drawn[-1] == ""
    assert "\n" not in terminal.getvalue()


def test_progress_says_nothing_where_no_terminal_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(lambda: 5.0)
    progress.note("starting")
    progress.update(5, "lines")
    progress.clear()
    assert capsys.readouterr() == ("", "")
