"""A dead letter's headers."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.kafka.deadletters import OURS, Letter, attempt, letter
from ingest.record import Reason, Record, Reject
from tests.kafka import records_of

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)


def written(record: Record, reason: Reason = Reason.INVALID, **more: str) -> Letter:
    return letter(Reject(record, reason, "time: missing", **more), "streaks", NOW, "1.0")


def replayed(entry: Letter) -> Record:
    """The dead letter as a replay puts it back on its topic, at another place."""
    (record,) = records_of(entry.key, entry.value, headers=tuple(entry.headers), partition=3)
    return record


def test_original_headers_stay_in_their_order_repeats_and_empty_ones_too() -> None:
    original = (("trace", b"1"), ("none", None), ("trace", b"2"), ("content-type", b"x"))
    (record,) = records_of(b"k", b"v", headers=original)
    assert tuple(written(record).headers[:4]) == original


def test_ours_are_replaced_never_appended_and_the_first_origin_stays() -> None:
    (record,) = records_of(b"k", b"v", headers=(("trace", b"1"),))
    first = written(record, Reason.UNSTORABLE, sqlstate="22003", constraint="positive")
    assert dict(first.headers)["activity-sqlstate"] == b"22003"
    second = letter(Reject(replayed(first), Reason.FUTURE, "6 minutes ahead"), "live_activity", NOW, "1.1")
    names = [name for name, _ in second.headers]
    assert len(names) == len(set(names))
    headers = dict(second.headers)
    assert headers["activity-origin"] == b"activity.client:0:0"
    assert headers["activity-reason"] == b"future"
    assert headers["activity-projection"] == b"live_activity"
    assert headers["activity-version"] == b"1.1"
    assert not {"activity-sqlstate", "activity-constraint"} & headers.keys()
    assert headers["trace"] == b"1"


def test_attempts_are_counted_through_replays() -> None:
    (record,) = records_of(b"k", b"v")
    for number in (1, 2, 3):
        assert attempt(record) == number - 1
        entry = written(record)
        assert dict(entry.headers)["activity-attempt"] == b"%d" % number
        record = replayed(entry)


@pytest.mark.parametrize("forged", [b"", b"elsewhere", b"a:b:c", b"t:0:-1", b"\xff:0:1", None])
def test_an_origin_that_names_no_place_is_not_believed(forged: bytes | None) -> None:
    (record,) = records_of(b"k", b"v", headers=(("activity-origin", forged), ("activity-attempt", b"x")))
    headers = dict(written(record).headers)
    assert headers["activity-origin"] == b"activity.client:0:0"
    assert headers["activity-attempt"] == b"1"


def test_a_letter_without_its_value_says_how_long_it_was_and_stays_so_through_a_replay() -> None:
    (record,) = records_of(b"k", b"x" * 3000, headers=(("large", b"y" * 3000),))
    short = written(record).truncated()
    assert (short.key, short.value) == (b"k", b"")
    assert dict(short.headers)["activity-truncated"] == b"3000"
    assert "large" not in dict(short.headers)
    assert short.size < 1000
    assert dict(written(replayed(short)).headers)["activity-truncated"] == b"3000"


names = st.one_of(st.text(max_size=20), st.sampled_from(sorted(OURS)))
headers = st.lists(st.tuples(names, st.one_of(st.none(), st.binary(max_size=20))), max_size=8)
maybe = st.one_of(st.none(), st.binary(max_size=50))


@given(maybe, maybe, headers, st.integers(-1, 2**53), st.text(max_size=50))
def test_any_record_has_a_dead_letter(
    key: bytes | None, value: bytes | None, given: list[tuple[str, bytes | None]], timestamp: int, detail: str
) -> None:
    timestamp = min(timestamp, 253_402_300_799_000)
    (record,) = records_of(key, value, headers=tuple(given), timestamp=timestamp)
    entry = letter(Reject(record, Reason.INVALID, detail), "streaks", NOW, "1")
    assert (entry.key, entry.value) == (key, value)
    theirs = [(name, data) for name, data in entry.headers if name not in OURS]
    assert theirs == [(name, data) for name, data in given if name not in OURS]
    ours = [name for name, _ in entry.headers if name in OURS]
    assert len(ours) == len(set(ours))
