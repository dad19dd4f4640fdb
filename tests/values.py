"""Values that hurt: moments, texts, zones and offsets at the edges of what the contract allows."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.contract import Limits

NOW = datetime(2200, 1, 1, tzinfo=UTC)
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LIMITS = Limits(earliest_time=EARLIEST)
"""As wide as settings allow."""

MICROSECOND = timedelta(microseconds=1)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


MOMENTS = tuple(
    map(
        _utc,
        (
            "2026-03-10T00:00:00",  # a day's edge
            "2026-12-31T23:59:59.999999",  # a year's
            "2024-02-29T12:00:00",
            "1900-01-01T00:00:00",  # the earliest there may be
            "1969-12-31T23:59:59.999999",  # on both sides of zero
            "2038-01-19T03:14:07",  # on both sides of 32 bits
            "2199-12-31T22:00:00",
            "2026-03-08T07:00:00",  # New York springs forward
            "2026-11-01T05:30:00",  # New York's doubled hour
            "2018-11-04T03:00:00",  # São Paulo skips midnight
            "2026-03-08T03:29:00",  # St John's, before an offset of -02:30
            "2011-12-30T10:00:00",  # Apia skips this whole day
            "2026-04-04T15:00:00",  # Lord Howe goes back half an hour
            "1985-12-31T18:30:00",  # Kathmandu moves from +05:30 to +05:45
            "1937-06-30T23:40:28",  # Amsterdam leaves +00:19:32
        ),
    )
)
DAYS = (timedelta(0),) * 4 + tuple(timedelta(days=n) for n in (1, -1, 1, -1, 2, -2, 3, -3, 4, -4))
SMALL = (
    timedelta(0),
    timedelta(0),
    timedelta(0),
    -MICROSECOND,
    MICROSECOND,
    timedelta(milliseconds=1),
    timedelta(seconds=59, microseconds=999_999),
    timedelta(minutes=5),
    timedelta(minutes=60),
    timedelta(hours=11, minutes=17),
)
OFFSETS = ("Z", "+00:00", "+05:30", "+05:45", "-03:30", "+14:00", "-12:00")
ZONE_OF = {text: datetime.fromisoformat(f"2000-01-01T00:00:00{text}").tzinfo for text in OFFSETS}
TAILS = ("", "", "", "000", "999")
"""Digits after the microseconds: they are cut off."""

ZONES = (
    "UTC",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Europe/Amsterdam",
    "+05:30",
    "+05:45",
    "-03:30",
    "+14:00",
    "-12:00",
    "+23:59",
    "-23:59",
)
TEXTS = (
    "a",
    "B",
    "A",
    "ä",
    "_",
    "😀",
    "\uffff",  # before 😀 by code point, behind it in UTF-16
    "é",
    "e\u0301",
    "a ",
    "a_b",
    "b_c",
    "c",
    "0",
    "10",
    "9",
    '"',
    "\\",
    "\\N",
    "'",
    "{}",
    "{a,b}",
    '{"a"}',
    ",",
    "%s$1",
    "NaN",
    "null",
    "NULL",
    "Infinity",
    "-infinity",
    "true",
    "\t\r\n",
    "\x01\x7f",
    "\u2028\u202e",
    "../../etc",
    "long: x",
    "long: 😀",
)
"""Under `long: c` a field gets as many `c` as it takes."""

_NUMBERS = (None, 0, 9, 10, 100, 2**31 - 1)
_TEXTS = (None, "", " ", ".", "0", "10", "9", "B", "_", "a", "a ", "ä", "\uffff", "😀")
HEARTBEAT_VALUES: dict[str, Sequence[Any]] = {
    "activity_type": ("browsing", "watching"),
    **dict.fromkeys(("season_number", "episode_number", "current_position", "duration"), _NUMBERS),
    **dict.fromkeys(
        ("content_id", "content_title", "content_type", "quality", "device_type", "country"), _TEXTS
    ),
}
"""Values of each column that a heartbeat describes a session by, the least first."""
