"""Tables that were there before us: kept with their rows where their shape is right, else refused.

What is right is not written down a second time: the migration runs once in a scratch schema, and the
existing tables are compared with what it makes there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ingest.errors import Misconfigured
from ingest.postgres import Transaction
from ingest.queries import Migration

WORDS = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}
TABLES = ("r", "p")


@dataclass(frozen=True, slots=True)
class Column:
    """`filled`: Postgres has a value for it where none is given."""

    type: str
    required: bool
    generated: bool
    filled: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view; `kind` as in pg_class."""

    kind: str
    columns: Mapping[str, Column]
    keys: frozenset[frozenset[str]]


Shape: TypeAlias = Mapping[str, Relation]


async def adopt(transaction: Transaction, sql: Mapping[str, str], migration: Migration) -> tuple[str, ...]:
    """Run the migration; names of the tables and views of its making that existed already.

    Only a file's first migration meets foreign tables. Raises Misconfigured where one differs.
    """
    before = await _shape(transaction, sql)
    if migration.version > 1 or not any(name in before for name in migration.creates):
        await transaction.execute(migration.text)
        return ()
    expected = await _expected(transaction, sql, migration)
    kept = tuple(name for name in migration.creates if name in before and name in expected)
    _refuse([line for name in kept for line in other_kind(name, expected[name], before[name])])
    try:
        await transaction.execute(migration.text)
    except Misconfigured as error:
        # Whatever it stumbled over, the difference in shape is the likelier cause to name.
        _refuse([line for name in kept for line in differences(name, expected[name], before[name])])
        raise error
    after = await _shape(transaction, sql)
    _refuse([line for name in kept for line in differences(name, expected[name], after[name])])
    return kept


async def _expected(transaction: Transaction, sql: Mapping[str, str], migration: Migration) -> Shape:
    await transaction.execute(sql["savepoint"])
    await transaction.execute(sql["scratch"])
    await transaction.execute(migration.text)
    shape = await _shape(transaction, sql)
    await transaction.execute(sql["undo"])
    return shape


async def _shape(transaction: Transaction, sql: Mapping[str, str]) -> Shape:
    columns: dict[str, dict[str, Column]] = {}
    kinds: dict[str, str] = {}
    keys: dict[str, set[frozenset[str]]] = {}
    for row in await transaction.fetch(sql["columns"]):
        kinds[row["relation"]] = row["kind"]
        columns.setdefault(row["relation"], {})[row["column"]] = Column(
            row["type"], row["required"], row["generated"], row["filled"]
        )
    for row in await transaction.fetch(sql["keys"]):
        keys.setdefault(row["relation"], set()).add(frozenset(row["columns"]))
    return {name: Relation(kinds[name], columns[name], frozenset(keys.get(name, ()))) for name in kinds}


def _refuse(lines: Sequence[str]) -> None:
    if lines:
        raise Misconfigured("existing tables cannot be adopted: " + "; ".join(lines), "mend what it names")


def other_kind(name: str, expected: Relation, actual: Relation) -> list[str]:
    """A line where a table stands for a view or the other way round."""
    if expected.kind == actual.kind or (expected.kind in TABLES and actual.kind in TABLES):
        return []
    wrong, right = WORDS[actual.kind], WORDS[expected.kind]
    return [f"{name} is a {wrong}, and must be a {right}: rename or drop it"]


def differences(name: str, expected: Relation, actual: Relation) -> list[str]:
    """A line, with its mend, for each way in which rows of ours would not fit."""
    if expected.kind not in TABLES:
        return []
    lines = [
        f"{name}.{column} {line}"
        for column in expected.columns
        for line in _column(expected.columns[column], actual.columns.get(column))
    ]
    lines += [
        f"{name}.{column} must be filled, which no worker does: drop not null or set a default"
        for column, found in actual.columns.items()
        if column not in expected.columns and found.required and not (found.filled or found.generated)
    ]
    return lines + _keys(name, expected.keys, actual.keys)


def _column(expected: Column, actual: Column | None) -> list[str]:
    if actual is None:
        return [f"is missing: add it as {expected.type}"]
    if actual.generated and not expected.generated:
        return ["is generated, and must be a plain column: drop its expression"]
    if expected.generated and not actual.generated:
        return ["is a plain column, and must be generated: drop it, migrate adds it"]
    lines = []
    if actual.type != expected.type:
        lines.append(f"is {actual.type}, and must be {expected.type}: alter its type")
    if actual.required and not expected.required:
        lines.append("is not null, and must accept null: drop not null")
    return lines


def _keys(name: str, expected: frozenset[frozenset[str]], actual: frozenset[frozenset[str]]) -> list[str]:
    lines = [
        f"{name} has no unique key on ({_list(key)}): add one" for key in sorted(expected - actual, key=_list)
    ]
    # A wider key than ours refuses nothing; any other one would refuse rows that are right.
    return lines + [
        f"{name} has a unique key on ({_list(key)}), which right rows may break: drop it"
        for key in sorted(actual, key=_list)
        if not any(ours <= key for ours in expected)
    ]


def _list(key: frozenset[str]) -> str:
    return ", ".join(sorted(key))
