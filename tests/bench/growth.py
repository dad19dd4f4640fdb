"""What must not grow: the cost of a day where a user has many, and of an item where a day has many."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from time import perf_counter
from typing import Any

from ingest.batch import Flush, sorted_rows
from ingest.projection import Projection
from tests.bench.ground import Ground
from tests.bench.limits import arrays_of, write

USERS, DAYS = 250, 1_000
ITEMS, AT_ONCE, PART = 100_000, 100, 100
FIRST = date(2010, 1, 1)
LATER = FIRST + timedelta(2 * DAYS)
NEXT_DAYS = (0, 3, 4, 7, 8, 10, 9, 13, 12, 15, 17, 16)
"""Days after `LATER`: some stand alone, some lengthen a run, some join two."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Seconds for the same work at first, and where much is there."""

    name: str
    few: float
    many: float


async def growth(ground: Ground) -> list[Growth]:
    """On the ground of a case of streaks, which is left with other rows in it."""
    connection = await ground.connect()
    try:
        return [
            Growth(f"a day more, with 1 and with {DAYS:,} scattered days", *await _days(ground, connection)),
            Growth(f"{AT_ONCE * PART:,} items of a day of {ITEMS:,}, the first and the last",
                   *await _items(ground, connection)),
        ]  # fmt: skip
    finally:
        await connection.close()


async def _days(ground: Ground, connection: Any) -> tuple[float, float]:
    await ground.empty()
    for start in range(0, DAYS, 20):
        scattered = [FIRST + timedelta(2 * day) for day in range(start, start + 20)]
        await _write(ground, connection, [_on_days(ground.projection, "many", scattered)])
    took = [0.0, 0.0]
    for after in NEXT_DAYS:
        for place, kind in enumerate(("few", "many")):
            flush = _on_days(ground.projection, kind, [LATER + timedelta(after)])
            took[place] += await _write(ground, connection, [flush])
    return took[0], took[1]


async def _items(ground: Ground, connection: Any) -> tuple[float, float]:
    await ground.empty()
    took = [await _write(ground, connection, [flush]) for flush in _item_flushes(ground.projection)]
    return sum(took[:PART]), sum(took[-PART:])


def _on_days(projection: Projection, kind: str, days: Iterable[date]) -> Flush:
    return _flush(
        projection, day=[(f"{kind}-{number:04}", day, 1) for number in range(USERS) for day in days]
    )


def _item_flushes(projection: Projection) -> Iterator[Flush]:
    for start in range(0, ITEMS, AT_ONCE):
        # 7,919 is a prime: the items come in no order.
        items = [("LS"[n % 2], f"item-{n * 7_919 % ITEMS:06}") for n in range(start, start + AT_ONCE)]
        rows = [("user", FIRST, kind, item) for kind, item in items]
        yield _flush(projection, day=[("user", FIRST, 4)], item=rows)


def _flush(projection: Projection, **rows: Sequence[tuple[Any, ...]]) -> Flush:
    tables = []
    for table in projection.tables:
        made = {row[: table.key_size]: table.row(*row) for row in rows.get(table.name, ())}
        tables.append(sorted_rows(made))
    return Flush(projection=projection.name, rows=tuple(tables))


async def _write(ground: Ground, connection: Any, flushes: Sequence[Flush]) -> float:
    sql = ground.registry.sql[ground.case.projection]
    prepared = arrays_of(ground.projection, sql, flushes)
    started = perf_counter()
    await write(connection, [statement.text for statement in sql.writes], prepared)
    return perf_counter() - started
