"""The README: its blocks, and the tables in it that are made from the code.

`python -m tests.readme` writes the tables anew; a test fails while they differ.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import inspect
from msgspec.structs import fields

from ingest import registry
from ingest.contract import KNOWN_EVENTS, Event
from ingest.kafka.faults import MENDS
from ingest.metrics import reference_table
from ingest.retry import DEFAULT, RULES, Reaction, Rule
from ingest.settings import describe

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RULE_FILES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.rules.yml"))

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MADE = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_ALERT = re.compile(r"^ +- alert: (\w+)$(.*?)(?=^ +- alert: |\Z)", re.MULTILINE | re.DOTALL)
LONGEST_CHOICE = 10
LARGEST = 2**31 - 1


class Block(NamedTuple):
    """A fenced block; `line` is that of its first line in the file."""

    language: str
    text: str
    line: int


def text() -> str:
    return README.read_text("utf-8")


def blocks(language: str) -> list[Block]:
    """The fenced blocks of one language, in order."""
    found = [(m[1], m[2], text()[: m.start(2)].count("\n") + 1) for m in _FENCE.finditer(text())]
    return [Block(*block) for block in found if block[0] == language]


def file_block(first_line: str) -> str:
    """The block that begins with this comment."""
    return next(m[2] for m in _FENCE.finditer(text()) if m[2].startswith(first_line + "\n"))


def table(*rows: Sequence[str]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


# -- tables made from the code -----------------------------------------------------------------------


def events() -> str:
    """Every type with its topic, its key and the fields of its data."""
    rows = [(f"`{e.type_name()}`", f"`{e.topic}`", *_data(e)) for e in KNOWN_EVENTS]
    return table(("type", "topic", "key", "required in `data`", "optional in `data`"), *rows)


def _data(event: type[Event]) -> tuple[str, str, str]:
    struct = inspect.type_info(next(field.type for field in fields(event) if field.name == "data"))
    assert isinstance(struct, inspect.StructType)
    told = {f.name: (f"`{f.name}`{_allowed(f.type)}", f.required) for f in struct.fields}
    key = f"`{next(name for name in told if name in ('client_id', 'user_id'))}`"
    required = [said for said, needed in told.values() if needed]
    return key, ", ".join(required), ", ".join(said for said, needed in told.values() if not needed)


def _allowed(kind: Any) -> str:
    match kind:
        case inspect.UnionType():
            return next(_allowed(k) for k in kind.types if not isinstance(k, inspect.NoneType))
        case inspect.StrType():
            return f" (text, {kind.max_length})"
        case inspect.IntType():
            return " (whole number)" if kind.le == LARGEST else f" (whole number, {kind.ge} to {kind.le:,})"
        case inspect.DateType():
            return " (date)"
        case inspect.LiteralType() if len(kind.values) < LONGEST_CHOICE:
            return f" ({' or '.join(f'`{value}`' for value in kind.values)})"
    return ""


def failures() -> str:
    """What a worker does about each SQLSTATE."""
    rows = [(f"`{rule.code}`", rule.meaning, _reaction(rule)) for rule in RULES]
    return table(("SQLSTATE", "meaning", "the worker"), *rows, ("other", DEFAULT.meaning, _reaction(DEFAULT)))


def _reaction(rule: Rule) -> str:
    match rule.reaction:
        case Reaction.TRANSIENT:
            return f"waits, `{rule.cause}`"
        case Reaction.DATA:
            return "finds the records at fault and dead-letters them"
        case Reaction.FATAL:
            return f"stops with 2: {rule.mend}"


def kafka_failures() -> str:
    """What stops a worker for Kafka's sake."""
    rows = [(", ".join(f"`{kind.__name__}`" for kind in kinds), mend) for kinds, mend in MENDS]
    return table(("error", "mend"), *rows)


def settings() -> str:
    """Every variable, as `activity-ingest config --help` tells it."""
    options = [(p.name, p.options) for p in registry.load().projections.values()]
    rows = [
        (f"`{v.name}`", v.allowed, f"`{v.default}`" if v.default else "", v.meaning)
        for v in describe(options)
    ]
    return table(("variable", "allowed", "default", "meaning"), *rows)


def alerts() -> str:
    """Every rule with what it means and what to do, label values in capitals."""
    rows = []
    for file in RULE_FILES:
        for name, rule in _ALERT.findall(file.read_text("utf-8")):
            severity = re.search(r"severity: (\w+)", rule)
            described = re.search(r"description: >-\n((?: {12}.*\n?)+)", rule)
            assert severity is not None, name
            assert described is not None, name
            meaning = " ".join(described[1].split())
            meaning = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda m: m[1].upper(), meaning)
            rows.append((f"`{name}`", severity[1], meaning))
    return table(("alert", "severity", "what it means, what to do"), *rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "events": events,
    "failures": failures,
    "kafka-failures": kafka_failures,
    "metrics": reference_table,
    "alerts": alerts,
    "settings": settings,
}


def made() -> Iterator[tuple[str, str]]:
    """Name and present text of each table in the README."""
    for match in _MADE.finditer(text()):
        yield match[2], match[0][len(match[1]) : -len(match[3])]


def rewrite() -> None:
    """Write the tables anew."""
    README.write_text(_MADE.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}{m[3]}", text()), "utf-8")


if __name__ == "__main__":
    rewrite()
