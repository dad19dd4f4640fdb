"""live_activity: one row for each session, described by its greatest heartbeat."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from consumers.live_activity import PROJECTION
from ingest.contract import LiveEnded, LiveHeartbeat
from tests.strategies import event
from tests.unit.folding import DAY, both_ways, decoded
from tests.values import HEARTBEAT_VALUES


def beat(seconds: float = 0, user: str = "u", session: str = "s", **more: Any) -> bytes:
    envelope = {name: more.pop(name) for name in ("id", "source") if name in more}
    data = {"activity_type": "watching", "user_id": user, "session_id": session, **more}
    return event(LiveHeartbeat, DAY + timedelta(seconds=seconds), **envelope, **data)


def ended(seconds: float = 0) -> bytes:
    return event(LiveEnded, DAY + timedelta(seconds=seconds), user_id="u", session_id="s")


def row(*values: bytes) -> dict[str, Any]:
    (found,) = both_ways(PROJECTION, "live_activity", *values)
    return found


def test_a_session_lasts_from_its_first_to_its_last_event() -> None:
    found = row(beat(5), ended(90), beat(-3), beat(60))
    day = round(DAY.timestamp()) * 1000
    assert (found["started_at"], found["last_heartbeat"]) == (day - 3_000, day + 90_000)


def test_milliseconds_are_rounded_down_also_before_1970() -> None:
    long_ago = event(LiveEnded, datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), user_id="u", session_id="s")
    (found,) = both_ways(PROJECTION, "live_activity", long_ago)
    assert found["started_at"] == -1


def test_the_latest_heartbeat_describes_the_session_whole() -> None:
    found = row(beat(1, content_id="film", quality="4k"), beat(2, content_id="other"))
    assert (found["content_id"], found["quality"]) == ("other", None)


def test_of_heartbeats_at_one_time_the_greatest_source_then_id_wins() -> None:
    assert (
        row(beat(source="/b", id="1", country="x"), beat(source="/a", id="9", country="y"))["country"] == "x"
    )
    assert (
        row(beat(source="/a", id="a", country="x"), beat(source="/a", id="B", country="y"))["country"] == "x"
    )


@pytest.mark.parametrize("column", HEARTBEAT_VALUES)
def test_two_heartbeats_of_one_identity_are_told_apart_by_their_columns(column: str) -> None:
    for less, more in pairwise(HEARTBEAT_VALUES[column]):
        assert row(beat(**{column: less}), beat(**{column: more}))[column] == more


def test_a_session_of_which_only_the_end_is_known_describes_nothing() -> None:
    found = row(ended(4))
    assert found["ended_time"] == DAY + timedelta(seconds=4)
    assert {found[name] for name in HEARTBEAT_VALUES} == {None}
    assert (found["heartbeat_time"], found["heartbeat_id"]) == (None, None)


def test_the_end_is_the_latest_end_and_describes_nothing() -> None:
    found = row(beat(1, country="x"), ended(9), ended(4))
    assert found["ended_time"] == DAY + timedelta(seconds=9)
    assert (found["heartbeat_time"], found["country"]) == (DAY + timedelta(seconds=1), "x")


def test_a_heartbeat_after_the_end_is_kept_beside_it() -> None:
    found = row(ended(4), beat(5))
    assert found["heartbeat_time"] > found["ended_time"]


def test_users_and_sessions_whose_joined_names_are_equal_are_kept_apart() -> None:
    rows = both_ways(
        PROJECTION, "live_activity", beat(user="a_b", session="c"), beat(user="a", session="b_c")
    )
    assert [(r["user_id"], r["session_id"]) for r in rows] == [("a", "b_c"), ("a_b", "c")]


def test_the_reference_floors_to_milliseconds_and_names_the_session() -> None:
    """By hand, because every other proof leans on the reference."""
    reference = PROJECTION.reference(PROJECTION.options())
    for each in decoded(PROJECTION, [beat(-0.0005, country="x"), ended(1.9999)]):
        reference.add(each)
    ((key, found),) = reference.rows()["live_activity"].items()
    assert key == ("u", "s")
    milliseconds = int(DAY.timestamp()) * 1000
    assert found[:4] == ("live_u_s", milliseconds - 1, milliseconds + 1999, DAY + timedelta(seconds=1.9999))
    assert found[4:8] == (DAY - timedelta(seconds=0.0005), "/test", "1", "watching")
    assert found[17] == "x"
