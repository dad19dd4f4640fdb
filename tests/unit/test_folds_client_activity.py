"""client_activity: when a client was first and last seen."""

from datetime import timedelta

from consumers.client_activity import PROJECTION
from ingest.contract import ClientSeen
from tests.strategies import event
from tests.unit.folding import DAY, both_ways, table


def seen(client: str, minutes: float) -> bytes:
    return event(ClientSeen, DAY + timedelta(minutes=minutes), client_id=client)


def test_last_seen_is_the_latest_and_created_at_the_earliest_time() -> None:
    (row,) = both_ways(PROJECTION, "client_activity", seen("a", 5), seen("a", -7), seen("a", 9), seen("a", 2))
    assert row["last_seen"] == DAY + timedelta(minutes=9)
    assert row["created_at"] == DAY - timedelta(minutes=7)


def test_times_are_compared_as_moments_whatever_their_offset() -> None:
    values = [
        event(ClientSeen, time, client_id="a")
        for time in ("2026-03-10T01:00:00+05:30", "2026-03-09T20:00:00Z")
    ]
    (row,) = both_ways(PROJECTION, "client_activity", *values)
    assert row["last_seen"].isoformat() == "2026-03-09T20:00:00+00:00"
    assert row["created_at"].isoformat() == "2026-03-09T19:30:00+00:00"


def test_ids_that_look_alike_are_clients_of_their_own() -> None:
    names = ["é", "e\u0301", "a", "A", "a ", "NaN", "null"]
    rows = table(PROJECTION, "client_activity", *(seen(name, 0) for name in names))
    assert [row["client_id"] for row in rows] == sorted(names)
