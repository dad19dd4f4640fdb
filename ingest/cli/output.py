"""How answers look: aligned tables for people, JSON for programs, progress on a terminal."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TextIO
from unicodedata import east_asian_width

import click

Row = Mapping[str, Any]
WIDEST = 60  # cells of a table are cut beyond this
DRAW_S = 0.2  # how often progress is redrawn


def say(text: str) -> None:
    """A remark beside the answer: to stderr, so that stdout stays clean."""
    click.echo(text, err=True)


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def coloured(text: str, colour: str) -> str:
    """`text` in a colour where a terminal shows it and NO_COLOR is not set."""
    if is_terminal(sys.stdout) and not os.environ.get("NO_COLOR"):
        return click.style(text, fg=colour)
    return text


def show_rows(rows: Iterable[Row], as_json: bool, empty: str, columns: Sequence[str] = ()) -> None:
    """A table, or a JSON array; `empty` is said where there are no rows and a person reads."""
    found = list(rows)
    if as_json:
        show_json(found)
    elif found:
        click.echo("\n".join(table(found, columns)))
    else:
        say(empty)


def show_json(value: Any) -> None:
    """One object or array, indented where a person reads it."""
    import msgspec

    plain = msgspec.json.encode(value, enc_hook=str)
    pretty = is_terminal(sys.stdout)
    click.echo((msgspec.json.format(plain, indent=2) if pretty else plain).decode())


def table(rows: Sequence[Row], columns: Sequence[str] = ()) -> list[str]:
    """Lines of an aligned table: numbers to the right, all else to the left."""
    names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    cells = [[name.replace("_", " ") for name in names], *([cell(row.get(n)) for n in names] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    right = [all(_is_number(row.get(name)) for row in rows) for name in names]
    return [
        "  ".join(_padded(*part) for part in zip(line, widths, right, strict=True)).rstrip() for line in cells
    ]


def pairs(row: Row) -> list[str]:
    """Lines of one thing shown alone: a name and its value each."""
    wide = max((width(name) for name in row), default=0)
    return [
        f"{_padded(name.replace('_', ' '), wide, False)}  {cell(value)}".rstrip()
        for name, value in row.items()
    ]


def cell(value: Any) -> str:
    """A value as a person reads it, safe for a terminal and never longer than a column may be."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case timedelta():
            return span(value.total_seconds())
        case float():
            return f"{value:,.2f}"
        case int():
            return str(value)
        case list() | tuple() | set() | frozenset():
            text = ", ".join(str(item) for item in value)
        case _:
            text = str(value)
    return _cut("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def span(seconds: float) -> str:
    """A length of time in its two greatest units: 1h30m, 4d, 0.8s."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    found, rest = "", int(seconds)
    for name, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            if found:
                return f"{found}{count}{name}"
            found = f"{count}{name}"
        elif found:
            return found
    return found


def width(text: str) -> int:
    """Columns the text takes on a terminal."""
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _padded(text: str, wide: int, right: bool) -> str:
    space = " " * (wide - width(text))
    return space + text if right else text + space


def _cut(text: str) -> str:
    if width(text) <= WIDEST:
        return text
    while width(text) > WIDEST - 1:
        text = text[: WIDEST - 1] if len(text) > WIDEST else text[:-1]
    return text + "…"


class Progress:
    """One line on stderr that says how far the work is; nothing where no terminal reads it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._shown = is_terminal(sys.stderr)
        self._clock = clock
        self._started = clock()
        self._drawn = 0.0
        self._line = ""

    def update(self, count: int, unit: str, rest: str = "") -> None:
        """Redraw at most a few times a second."""
        now = self._clock()
        if self._shown and now - self._drawn >= DRAW_S:
            self._drawn = now
            rate = count / max(now - self._started, 0.001)
            self._draw(f"{count:,} {unit}, {rate:,.0f}/s{rest}")

    def note(self, text: str) -> None:
        """Say what is going on where there is nothing to count."""
        if self._shown:
            self._draw(text)

    def clear(self) -> None:
        """Take the line away, for something that stays or because the work is done."""
        if self._line:
            self._draw("")

    def _draw(self, line: str) -> None:
        sys.stderr.write("\r" + line + " " * max(0, len(self._line) - len(line)) + ("" if line else "\r"))
        sys.stderr.flush()
        self._line = line
