"""Time zones from the locked `tzdata` package, and the calendar day of an event in one of them.

Zone files are read from the package itself, so neither which names are known nor what they mean
depends on the machine, and zoneinfo's process-wide search path stays as it is.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache
from importlib import resources
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias
from zoneinfo import ZoneInfo

MOST_DAYS_REMEMBERED = 100_000
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)


def _offsets() -> dict[str, tzinfo]:
    spelled = product("+-", range(24), range(60))
    return {
        f"{sign}{hours:02}:{minutes:02}": timezone(
            timedelta(hours=hours, minutes=minutes) * (1 if sign == "+" else -1)
        )
        for sign, hours, minutes in spelled
    }


IANA_NAMES: tuple[str, ...] = tuple(resources.files("tzdata").joinpath("zones").read_text().split())
"""Every name in the locked `tzdata` package's own list."""

FIXED_OFFSETS: Mapping[str, tzinfo] = MappingProxyType(_offsets())
"""`+05:30` and the like, from -23:59 to +23:59; positive is east of Greenwich."""

ZONE_NAMES: frozenset[str] = frozenset((*IANA_NAMES, *FIXED_OFFSETS))
"""All that an event may name as its `timezone`."""

if TYPE_CHECKING:
    ZoneName: TypeAlias = str
else:
    # Checked by msgspec while it decodes, at the cost of a plain string (measured: 107 ns against 112).
    ZoneName = Literal[(*IANA_NAMES, *FIXED_OFFSETS)]


@cache
def zone(name: str) -> tzinfo:
    """The zone called `name`: an IANA name or a fixed offset. Raises ValueError where it is neither."""
    if name not in ZONE_NAMES:
        raise ValueError("not an IANA time zone of the tzdata package nor a fixed offset such as +05:30")
    if offset := FIXED_OFFSETS.get(name):
        return offset
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


class _Days:
    """For each zone and hour of UTC the local day, where the whole hour lies in one; else None."""

    def __init__(self) -> None:
        self.of: dict[str, dict[int, date | None]] = {}
        self._left = MOST_DAYS_REMEMBERED

    def learn(self, time: datetime, name: str) -> date:
        """The day of `time`, a UTC time whose hour is not known yet."""
        if not self._left:
            self.of.clear()
            self._left = MOST_DAYS_REMEMBERED
        self._left -= 1
        start = time.replace(minute=0, second=0, microsecond=0)
        last = start + (HOUR - MICROSECOND)
        day = _day(start, name)
        whole = day == _day(last, name) and _offset(start, name) == _offset(last, name)
        self.of.setdefault(name, {})[time.toordinal() * 24 + time.hour] = day if whole else None
        return day if whole else _day(time, name)


_days = _Days()


def local_date(time: datetime, name: str) -> date:
    """The calendar day of `time` (aware) in the zone called `name`. Raises ValueError for an unknown zone.

    A day outside the years 1 to 9999 counts as the first or last day there is.
    """
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    try:
        day = _days.of[name][time.toordinal() * 24 + time.hour]
    except KeyError:
        return _days.learn(time, name)
    return day or _day(time, name)


def _day(time: datetime, name: str) -> date:
    try:
        return time.astimezone(zone(name)).date()
    except OverflowError:
        return date.min if time.year == 1 else date.max


def _offset(time: datetime, name: str) -> timedelta | None:
    try:
        return time.astimezone(zone(name)).utcoffset()
    except OverflowError:
        return None
