"""Rows that a projection makes of events, without a database."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import asdict

from ingest.contract import Decoder
from ingest.projection import Projection
from tests.strategies import LIMITS, NOW, PlainRecord

DAY = datetime(2026, 3, 10, tzinfo=UTC)


def decoded(projection: Projection, values: Sequence[bytes]) -> list[Any]:
    """The events; every value must be a good one."""
    decoder = Decoder(projection.events, projection.topic, {}, LIMITS)
    found = decoder.decode_all([PlainRecord(value) for value in values], NOW)
    assert found.rejects == []
    return list(found.events)


def table(projection: Projection, name: str, *values: bytes, **options: Any) -> list[dict[str, Any]]:
    """The rows of one table in key order, as dictionaries."""
    rows: dict[Any, Any] = {}
    projection.tables[projection.table(name)].fold(
        rows, decoded(projection, values), projection.options(**options)
    )
    return [asdict(rows[key]) for key in sorted(rows)]


def both_ways(projection: Projection, name: str, *values: bytes, **options: Any) -> list[dict[str, Any]]:
    """As `table`; checks that the order of the values does not matter."""
    forth = table(projection, name, *values, **options)
    assert table(projection, name, *values[::-1], **options) == forth
    return forth
