"""The time of an event: every RFC 3339 form, microseconds kept, the rest cut off, always in UTC."""

from datetime import UTC, datetime, timedelta

import pytest

from ingest.contract import Limits, zone
from ingest.record import Reason, Reject
from tests.unit.contract_cases import NOW, Raw, accepted, decoder, rejected, text, why_invalid

ANY_TIME = Limits(earliest_time=datetime.min.replace(tzinfo=UTC))


def time_of(told: str) -> datetime:
    """As decoded alone, which must be as decoded among others."""
    value = text(time=told)
    time = accepted(value).time
    among = decoder("activity.client").decode_all([Raw(text()), Raw(value), Raw(text())], NOW)
    assert [e.time for e in among.events][1] == time
    assert {e.time.tzinfo for e in among.events} == {UTC}
    assert time.tzinfo is UTC
    assert isinstance(time, datetime)
    return time


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("2026-11-21T10:00:00Z", "10:00:00"),
        ("2026-11-21t10:00:00z", "10:00:00"),
        ("2026-11-21 10:00:00Z", "10:00:00"),
        ("2026-11-21T10:00:00+00:00", "10:00:00"),
        ("2026-11-21T10:00:00-00:00", "10:00:00"),
        ("2026-11-21T15:30:00+05:30", "10:00:00"),
        ("2026-11-21T15:30:00+0530", "10:00:00"),
        ("2026-11-20T10:01:00-23:59", "10:00:00"),
        ("2026-11-22T00:00:00+14:00", "10:00:00"),
        ("2026-11-21T10:00:00.1Z", "10:00:00.100000"),
        ("2026-11-21T10:00:00.12z", "10:00:00.120000"),
        ("2026-11-21T10:00:00.123+00:00", "10:00:00.123000"),
        ("2026-11-21T10:00:00.123456Z", "10:00:00.123456"),
        ("2026-11-21T10:00:00.1234567Z", "10:00:00.123456"),
        ("2026-11-21T10:00:00.1234565Z", "10:00:00.123456"),
        ("2026-11-21T12:00:00.123456789+02:00", "10:00:00.123456"),
        ("2026-11-21T10:00:00." + "9" * 3000 + "Z", "10:00:00.999999"),
        ("2026-11-21T10:00:00.0000009Z", "10:00:00"),
    ],
)
def test_a_time_is_accepted_in_every_form_and_comes_out_in_utc(told: str, meant: str) -> None:
    assert time_of(told) == datetime.fromisoformat(f"2026-11-21T{meant}").replace(tzinfo=UTC)


def test_the_last_instant_of_a_day_a_year_and_a_leap_day_stay_where_they_are() -> None:
    for day in ("2026-11-20", "2025-12-31", "2024-02-29"):
        told = time_of(f"{day}T23:59:59.999999999Z")
        assert told.isoformat() == f"{day}T23:59:59.999999+00:00"


def test_digits_spelled_as_escapes_are_cut_off_all_the_same() -> None:
    plain = text(time="2026-11-21T09:59:59.999999999Z")
    for old, new in (
        (b".999999999", rb"\u002e999999999"),
        (b"9999999Z", rb"999999\u0039Z"),
        (b".", rb"\u002E"),
    ):
        value = plain.replace(old, new)
        assert value != plain
        among = decoder("activity.client").decode_all([Raw(text()), Raw(value)], NOW).events[1]
        assert accepted(value).time == among.time == accepted(plain).time


def test_long_numbers_elsewhere_leave_the_time_alone() -> None:
    assert accepted(text(data={"client_id": "0.12345678"}, more=0.123456789)).time == accepted(text()).time


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("2026-11-21T10:00:00", "has no offset from UTC"),
        ("2016-12-31T23:59:60Z", "leap second (:60), which no clock here can represent"),
        ("2016-12-31T23:59:60.123456789Z", "leap second (:60), which no clock here can represent"),
        ("2026-11-21", "not an RFC 3339 date and time"),
        ("2026-11-21T10:00Z", "not an RFC 3339 date and time"),
        ("2026-11-21T24:00:00Z", "not an RFC 3339 date and time"),
        ("2026-11-21T10:00:61Z", "not an RFC 3339 date and time"),
        ("2026-02-29T10:00:00Z", "not an RFC 3339 date and time"),
        ("2026-11-21T10:00:00.Z", "not an RFC 3339 date and time"),
        ("2026-11-21T10:00:00,5Z", "not an RFC 3339 date and time"),
        ("2026-11-21T10:00:00+24:00", "not an RFC 3339 date and time"),
        ("2026-11-21T10:00:00.123456٣Z", "not an RFC 3339 date and time"),
        ("2026-11-21T10:00:00.1234567", "has no offset from UTC"),
        ("20261121T100000Z", "not an RFC 3339 date and time"),
        ("2026-W47-6T10:00:00Z", "not an RFC 3339 date and time"),
        ("0000-01-01T00:00:00Z", "not an RFC 3339 date and time"),
        ("10000-01-01T00:00:00Z", "not an RFC 3339 date and time"),
        ('2026-11-21T10:00:00Z"', "not an RFC 3339 date and time"),
        ("", "not an RFC 3339 date and time"),
        ("0001-01-01T00:00:00+00:01", "outside the years 1 to 9999 in UTC"),
        ("9999-12-31T23:59:59-00:01", "outside the years 1 to 9999 in UTC"),
    ],
)
def test_what_is_no_such_time_is_invalid_and_said_why(told: str, why: str) -> None:
    assert why_invalid(text(time=told)) == f"time: {why}"
    assert decoder("activity.client").decode_all([Raw(text(time=told))], NOW).rejects[0].reason == "invalid"


@pytest.mark.parametrize("told", [1_795_000_000, 1.5, True, ["2026"], {}])
def test_a_time_that_is_not_text_is_invalid(told: object) -> None:
    assert why_invalid(text(time=told)).startswith("time: expected datetime, got ")


def test_the_first_and_the_last_microsecond_there_are_can_be_told() -> None:
    everything = decoder("activity.client", limits=ANY_TIME)
    first = everything.decode(Raw(text(time="0001-01-01T00:00:00Z")), NOW)
    assert not isinstance(first, Reject)
    assert first is not None
    assert first.time == datetime.min.replace(tzinfo=UTC)
    last = "9999-12-31T23:59:59.999999"
    for told in (f"{last}Z", f"{last}9Z", f"{last}+00:00", "9999-12-31T23:59:59.9999999+01:00"):
        assert rejected(text(time=told))[0] is Reason.FUTURE


def test_the_clock_may_be_told_in_any_offset_and_stand_at_the_end_of_time() -> None:
    east = NOW.astimezone(zone("Asia/Tokyo"))
    clients = decoder("activity.client")
    for moved, kind in (
        (timedelta(minutes=5), "ClientSeen"),
        (timedelta(minutes=5, microseconds=1), "Reject"),
    ):
        record = Raw(text(time=(NOW + moved).isoformat()))
        assert type(clients.decode(record, east)).__name__ == kind
    stamped = Raw(text(), timestamp=2**62, timestamp_type=1)
    assert clients.decode_all([stamped], NOW).events == [clients.decode(stamped, NOW)]
