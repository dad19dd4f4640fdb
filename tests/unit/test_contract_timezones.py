"""Zones come from the locked package alone, and the day of a time in one of them is exact."""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from importlib import resources
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import timezones
from ingest.timezones import FIXED_OFFSETS, IANA_NAMES, ZONE_NAMES, local_date, zone

HARD = [
    "America/Sao_Paulo",  # midnight skipped
    "Pacific/Apia",  # a day skipped
    "Australia/Lord_Howe",  # half an hour
    "Asia/Kathmandu",
    "America/St_Johns",  # changed at 00:01
    "Europe/Amsterdam",
    "Africa/Monrovia",  # an offset of 44 min 30 s until 1972
    "America/Juneau",  # a day repeated
    "+05:45",
    "-23:59",
    "+23:59",
    "UTC",
]


def test_every_name_in_the_packages_own_list_can_be_loaded_and_no_other() -> None:
    listed = resources.files("tzdata").joinpath("zones").read_text().splitlines()
    assert list(IANA_NAMES) == listed
    assert len(listed) > 500
    for name in listed:
        assert isinstance(zone(name), zoneinfo.ZoneInfo)
    for name in (
        "",
        "localtime",
        "posixrules",
        "posix/UTC",
        "right/UTC",
        "../zones",
        "europe/berlin",
        "Z",
        "+5:30",
    ):
        assert name not in ZONE_NAMES
        with pytest.raises(ValueError, match="not an IANA time zone"):
            zone(name)


@pytest.fixture
def lying_machine(tmp_path: Path) -> Iterator[None]:
    """A machine whose own files say Berlin is on Tokyo's time, and know of a zone on Mars."""
    tokyo = resources.files("tzdata").joinpath("zoneinfo", "Asia", "Tokyo").read_bytes()
    for name in ("Europe/Berlin", "Mars/Base"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(tokyo)
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([tmp_path])
    zoneinfo.ZoneInfo.clear_cache()
    zone.cache_clear()
    yield
    zoneinfo.reset_tzpath(before)
    zoneinfo.ZoneInfo.clear_cache()
    zone.cache_clear()


@pytest.mark.usefixtures("lying_machine")
def test_zones_do_not_come_from_the_machine() -> None:
    summer = datetime(2026, 7, 1)
    assert zoneinfo.ZoneInfo("Europe/Berlin").utcoffset(summer) == timedelta(hours=9)
    assert zone("Europe/Berlin").utcoffset(summer) == timedelta(hours=2)
    with pytest.raises(ValueError, match="not an IANA time zone"):
        zone("Mars/Base")


def test_fixed_offsets_are_positive_to_the_east() -> None:
    assert len(FIXED_OFFSETS) == 2 * 24 * 60
    assert zone("+05:30") == timezone(timedelta(hours=5, minutes=30))
    assert zone("-03:30") == timezone(-timedelta(hours=3, minutes=30))
    assert zone("-00:00") == zone("+00:00") == UTC


def test_one_zone_is_one_object() -> None:
    assert zone("Asia/Tokyo") is zone("Asia/Tokyo")


@given(
    seconds=st.integers(-5_000_000_000, 4_000_000_000),
    micros=st.sampled_from([0, 1, 999_999]),
    name=st.sampled_from(HARD) | st.sampled_from(sorted(ZONE_NAMES)),
)
def test_the_day_is_that_of_the_calendar_in_the_zone(seconds: int, micros: int, name: str) -> None:
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=micros)
    expected = time.astimezone(zone(name)).date()
    assert local_date(time, name) == expected
    assert local_date(time, name) == expected
    assert local_date(time.astimezone(timezone(timedelta(hours=-7))), name) == expected


@pytest.mark.parametrize("name", HARD)
def test_what_is_remembered_of_an_hour_holds_for_every_minute_of_it(name: str) -> None:
    """Hours around a change of offset are where remembering could go wrong."""
    random = Random(name)
    there = zone(name)
    hour = datetime(1880, 1, 1, tzinfo=UTC)
    while hour.year < 2040:
        hour += timedelta(hours=random.randrange(1, 400))
        before, after = (hour + timedelta(hours=h) for h in (-400, 400))
        if (
            before.astimezone(there).utcoffset() == after.astimezone(there).utcoffset()
            and random.random() < 0.97
        ):
            continue
        for minute in (*random.sample(range(60), 3), 0, 59):
            time = hour + timedelta(minutes=minute, seconds=random.randrange(60))
            assert local_date(time, name) == time.astimezone(there).date(), time


def test_every_change_of_offset_keeps_the_days_right_on_both_sides() -> None:
    for name in HARD:
        there = zone(name)
        low, high = datetime(1880, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
        step = timedelta(days=20)
        while low < high:
            if low.astimezone(there).utcoffset() != (low + step).astimezone(there).utcoffset():
                change = _change(low, low + step, name)
                for seconds in range(-7_200, 7_201, 97):
                    time = change + timedelta(seconds=seconds)
                    assert local_date(time, name) == time.astimezone(there).date(), (name, time)
            low += step


def _change(low: datetime, high: datetime, name: str) -> datetime:
    there, old = zone(name), low.astimezone(zone(name)).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        low, high = (middle, high) if middle.astimezone(there).utcoffset() == old else (low, middle)
    return high


def test_beyond_the_calendar_the_first_and_the_last_day_count() -> None:
    first, last = (t.replace(tzinfo=UTC) for t in (datetime.min, datetime.max))
    for time, names in (
        (first, ("-12:00", "UTC", "America/New_York")),
        (last, ("+14:00", "UTC", "Asia/Tokyo")),
    ):
        for name in names:
            assert local_date(time, name) == time.date()
    assert local_date(first, "+14:00") == date.min
    assert local_date(last, "-12:00") == date(9999, 12, 31)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    days = timezones._Days()
    monkeypatch.setattr(timezones, "_days", days)
    monkeypatch.setattr(days, "_left", 10)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for hours in range(25):
        local_date(start + timedelta(hours=hours), "UTC")
    assert len(days.of["UTC"]) == 15


def test_an_unknown_zone_is_an_error_and_not_a_guess() -> None:
    for time in (datetime(2026, 1, 1, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)):
        with pytest.raises(ValueError, match="not an IANA time zone"):
            local_date(time, "Mars/Base")
