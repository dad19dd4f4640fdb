"""sql/*.sql: text -> named sections, migrations in order. Pure: no file is opened here.

A section starts at a line of its own and runs to the next one:

    -- migration 2 min_worker 1: what it changes     a further word before the colon: no-transaction
    -- write streaks (day, streak)                   arguments: the columns of these tables, one array each
    -- lock streaks (day)                            the same, not counted as rows written
    -- sweep | gauge | verify | show | inactive | query NAME

`no-transaction` is for statements that Postgres refuses inside one (create index concurrently); each
is sent alone and must be safe to repeat, because a crash may come between it and its record.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from ingest.errors import Misconfigured

NAMED = {
    "sweep": "sweeps", "gauge": "gauges", "verify": "verifies", "show": "shows",
    "inactive": "inactives", "query": "queries",
}  # fmt: skip
KINDS = ("migration", "write", "lock", *NAMED)

_HEADER = re.compile(
    r"-- (?P<kind>[a-z-]+) (?P<name>[a-z0-9_]+)(?P<words>(?: [a-z0-9_-]+)*)"
    r"(?P<tables> ?\([^)]*\))?\s*(?::\s*(?P<title>.*))?"
)
_TOKEN = re.compile(
    r"(?P<comment>--[^\n]*|/\*)|(?P<space>\s+)|(?P<end>;)|\$(?P<parameter>\d+)"
    r"|(?P<other>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[eE]'(?:[^'\\]|\\.|'')*'"
    r"|\$(?P<tag>[A-Za-z_]\w*|)\$.*?\$(?P=tag)\$|[A-Za-z_][\w$]*|.)",
    re.DOTALL,
)
_CREATES = re.compile(
    r"\bcreate(?: or replace)?(?: unlogged| materialized)? (?:table|view)(?: if not exists)? \"?(\w+)"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a schema. `min_worker`: the oldest version of this file that still works after it."""

    version: int
    min_worker: int
    transactional: bool
    text: str
    title: str
    checksum: str

    @property
    def statements(self) -> tuple[str, ...]:
        """The statements one by one (a body in `begin atomic … end` is not understood)."""
        return tuple(statements(self.text))

    @property
    def creates(self) -> tuple[str, ...]:
        """Names of the tables and views it creates, in order."""
        return tuple(_CREATES.findall(canonical(self.text).lower()))


@dataclass(frozen=True, slots=True)
class Write:
    """A statement of every flush; its arguments are the columns of `tables`, one array each."""

    name: str
    tables: tuple[str, ...]
    counted: bool
    text: str

    @property
    def parameters(self) -> int:
        """The highest $n in the text."""
        return parameters(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlFile:
    """Everything in one file. `writes` holds the lock sections too, in file order."""

    name: str
    migrations: tuple[Migration, ...]
    writes: tuple[Write, ...]
    sweeps: Mapping[str, str]
    gauges: Mapping[str, str]
    verifies: Mapping[str, str]
    shows: Mapping[str, str]
    inactives: Mapping[str, str]
    queries: Mapping[str, str]

    @property
    def version(self) -> int:
        """The schema version this worker brings: its last migration; 0 where there is none."""
        return self.migrations[-1].version if self.migrations else 0


class _Section(NamedTuple):
    kind: str
    name: str
    words: tuple[str, ...]
    tables: tuple[str, ...]
    title: str
    line: int
    text: str


def parse(name: str, text: str) -> SqlFile:
    """The sections of `sql/<name>.sql`. Raises Misconfigured naming file, line and mend."""
    found = list(_sections(name, text))
    _refuse_doubled(name, found)
    named = {field: {s.name: s.text for s in found if s.kind == kind} for kind, field in NAMED.items()}
    return SqlFile(
        name=name,
        migrations=_migrations(name, [s for s in found if s.kind == "migration"]),
        writes=tuple(_write(name, s) for s in found if s.kind in ("write", "lock")),
        **named,
    )


def canonical(text: str) -> str:
    """The text without comments, with one space between tokens: equal for any layout of one SQL.

    A comment inside a quoted function body is part of the function and stays.
    """
    return " ".join(token for kind, token in _tokens(text) if kind not in ("comment", "space")).rstrip("; ")


def checksum(text: str) -> str:
    """SHA-256 of the canonical text, so that an edited comment or indent is no edit."""
    return hashlib.sha256(canonical(text).encode()).hexdigest()


def statements(text: str) -> Iterator[str]:
    """The text cut at its semicolons, comments left out, empty pieces too."""
    piece: list[str] = []
    for kind, token in [*_tokens(text), ("end", ";")]:
        if kind == "end":
            if statement := "".join(piece).strip():
                yield statement
            piece = []
        elif kind != "comment":
            piece.append(token)


def parameters(text: str) -> int:
    """The highest $n that the text takes, 0 where it takes none."""
    return max((int(token[1:]) for kind, token in _tokens(text) if kind == "parameter"), default=0)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match is not None  # the last alternative takes any character
        kind = "other" if match.lastgroup in (None, "tag") else str(match.lastgroup)
        end = _block_comment_end(text, at) if match.group() == "/*" else match.end()
        yield kind, text[at:end]
        at = end


def _block_comment_end(text: str, at: int) -> int:
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if match.group() == "/*" else -1
        if not depth:
            return match.end()
    return len(text)


def _sections(file: str, text: str) -> Iterator[_Section]:
    lines = text.replace("\r\n", "\n").split("\n")
    headers = [(n, header) for n, line in enumerate(lines) if (header := _header(file, n + 1, line))]
    preamble = "\n".join(lines[: headers[0][0]] if headers else lines)
    if canonical(preamble):
        raise _wrong(file, 1, "there is SQL before the first section", "put a section line above it")
    ends = [n for n, _ in headers[1:]] + [len(lines)]
    for (n, header), end in zip(headers, ends, strict=True):
        yield _section(file, n + 1, header, "\n".join(lines[n + 1 : end]).strip())


def _header(file: str, line: int, text: str) -> re.Match[str] | None:
    """The section that this line opens, or None for anything else."""
    match = _HEADER.fullmatch(text.rstrip())
    first = text.removeprefix("-- ").split(" ", 1)[0] if text.startswith("-- ") else ""
    if match is None or first not in KINDS:
        alike = (
            match and not match["words"] and (match["tables"] or get_close_matches(first, KINDS, cutoff=0.75))
        )
        if first in KINDS or alike:
            raise _wrong(
                file, line, f"'{text.strip()}' reads like a section but is none of: {', '.join(KINDS)}",
                "write '-- KIND NAME', with '(tables)' for write and lock; begin a comment with another word",
            )  # fmt: skip
        return None
    return match


def _section(file: str, line: int, header: re.Match[str], text: str) -> _Section:
    kind, name, words = header["kind"], header["name"], tuple(header["words"].split())
    tables = tuple(t.strip() for t in (header["tables"] or "").strip(" ()").split(",") if t.strip())
    if kind != "migration" and words:
        what = f"'{' '.join(words)}' is unexpected after {kind} {name}"
        raise _wrong(file, line, what, "remove it; begin a comment with another word")
    if kind in ("write", "lock") and not tables:
        mend = f"say whose rows it takes: '-- {kind} {name} (table)'"
        raise _wrong(file, line, f"{kind} {name} names no table", mend)
    if kind not in ("write", "lock") and header["tables"]:
        raise _wrong(file, line, f"{kind} {name} takes no tables", "remove the parentheses")
    count = len(list(statements(text)))
    if count == 0 or (count > 1 and kind != "migration"):
        raise _wrong(file, line, f"{kind} {name} holds {count} statements", "give each section one statement")
    return _Section(kind, name, words, tables, (header["title"] or "").strip(), line, text)


def _refuse_doubled(file: str, found: list[_Section]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for section in found:
        first = seen.setdefault((section.kind, section.name), section.line)
        if first != section.line:
            what = f"{section.kind} {section.name} is on line {first} already"
            raise _wrong(file, section.line, what, "rename one of the two")


def _write(file: str, section: _Section) -> Write:
    return Write(section.name, section.tables, section.kind == "write", section.text)


def _migrations(file: str, sections: list[_Section]) -> tuple[Migration, ...]:
    return tuple(_migration(file, section, version) for version, section in enumerate(sections, start=1))


def _migration(file: str, section: _Section, version: int) -> Migration:
    words, line = list(section.words), section.line
    if section.name != str(version):
        what = f"migration {section.name} stands where {version} is due"
        raise _wrong(file, line, what, "number them 1, 2, 3 in file order")
    transactional = "no-transaction" not in words
    if not transactional:
        words.remove("no-transaction")
    # Nothing older than version 1 exists, so only there may it be left unsaid.
    if not words and version == 1:
        words = ["min_worker", "1"]
    if len(words) != 2 or words[0] != "min_worker" or not words[1].isdigit():
        raise _wrong(
            file, line, f"migration {version} does not say which workers it suits",
            f"write '-- migration {version} min_worker N: …', N being the oldest version that works after it",
        )  # fmt: skip
    min_worker = int(words[1])
    if not 1 <= min_worker <= version:
        what = f"min_worker {min_worker} is not between 1 and {version}"
        raise _wrong(file, line, what, "a worker's version is its last migration")
    text = section.text
    return Migration(version, min_worker, transactional, text, section.title, checksum(text))


def _wrong(file: str, line: int, what: str, mend: str) -> Misconfigured:
    return Misconfigured(f"sql/{file}.sql:{line}: {what}", mend)
