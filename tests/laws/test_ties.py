"""Heartbeats that claim one time, source and id: SQL picks the winner that the fold picks."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from ingest.contract import LiveHeartbeat
from tests.laws.harness import Bench
from tests.strategies import PlainRecord, event
from tests.values import HEARTBEAT_VALUES, MOMENTS

pytestmark = pytest.mark.law


def beat(session: str, **column: Any) -> PlainRecord:
    data = {"activity_type": "watching", "user_id": "u", "session_id": session, **column}
    return PlainRecord(event(LiveHeartbeat, MOMENTS[0], **data))


@pytest.mark.parametrize("column", HEARTBEAT_VALUES)
def test_of_two_values_of_a_column_the_greater_wins_whichever_is_written_first(
    column: str, benches: Callable[[str], Bench]
) -> None:
    bench = benches("live_activity")
    pairs = list(pairwise(HEARTBEAT_VALUES[column]))
    rising = [
        [beat(f"rising {n}", **{column: pair[step]}) for n, pair in enumerate(pairs)] for step in (0, 1)
    ]
    falling = [
        [beat(f"falling {n}", **{column: pair[1 - step]}) for n, pair in enumerate(pairs)] for step in (0, 1)
    ]
    bench.after(*rising, *falling)
    rows = bench.run(bench.database.fetch(f"select session_id, {column} as won from live_activity"))
    greater = {f"{way} {n}": pair[1] for way in ("rising", "falling") for n, pair in enumerate(pairs)}
    assert {row["session_id"]: row["won"] for row in rows} == greater
