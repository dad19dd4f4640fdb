"""Smaller flushes from a flush that could not be written whole. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from msgspec import Struct

from ingest.batch import Flush, sorted_rows
from ingest.contract import Decoder
from ingest.projection import Projection
from ingest.record import Record


def entity(row: Struct) -> Any:
    """The first key field: rows of one entity, over all tables, are never parted."""
    return getattr(row, row.__struct_fields__[0])


def entities(flush: Flush) -> set[Any]:
    return {entity(row) for rows in flush.rows for row in rows}


def names(flush: Flush) -> list[Any]:
    """The entities of the flush in an order of their own, for a bisection."""
    return sorted(entities(flush), key=lambda name: (type(name).__name__, name))


def only(flush: Flush, wanted: Collection[Any]) -> Flush:
    """The rows of these entities and nothing else: offsets and rejects belong to the whole."""
    rows = tuple([row for row in rows if entity(row) in wanted] for rows in flush.rows)
    return replace(bare(flush), rows=rows)


def bare(flush: Flush) -> Flush:
    """The flush without rows and rejects; written last, it moves the progress of the whole."""
    return Flush(projection=flush.projection, rows=tuple(() for _ in flush.rows), trigger=flush.trigger)


def fold(
    projection: Projection, options: Any, decoder: Decoder, records: Sequence[Record], now: datetime
) -> Flush:
    """A flush of just these records, in any number and order."""
    events = decoder.decode_all(records, now).events
    tables: list[Sequence[Struct]] = []
    for table in projection.tables:
        rows: dict[Any, Any] = {}
        table.fold(rows, events, options)
        tables.append(sorted_rows(rows))
    return Flush(projection=projection.name, rows=tuple(tables), trigger="split", records=len(records))


def touching(
    projection: Projection,
    options: Any,
    decoder: Decoder,
    records: Iterable[Record],
    now: datetime,
    wanted: set[Any],
) -> list[Record]:
    """The records that say something about one of the entities `wanted`."""
    return [
        r for r in records if not wanted.isdisjoint(entities(fold(projection, options, decoder, [r], now)))
    ]
