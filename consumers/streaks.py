"""On which days was each user active, what did they do, and how long is their streak?

Days and items are sets, so they merge by union; runs of days, streak lengths and counts are derived
from the sets by the statements of streaks.sql.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from msgspec import Struct
from pydantic import AfterValidator

from ingest.contract import (
    CourseViewed,
    Event,
    LessonCompleted,
    LessonViewed,
    ProblemSolved,
    ProblemViewed,
    SessionRefreshed,
    StreakImported,
    UserActive,
    UserLoggedIn,
    local_date,
    zone,
)
from ingest.projection import Key, Options, Projection, Table, pinned

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
GENERAL, SESSION, LEARNING = 1, 2, 4
SOURCES: dict[type[Event], int] = {UserActive: GENERAL, UserLoggedIn: SESSION, SessionRefreshed: SESSION}
ITEMS: dict[type[Event], tuple[str, str]] = {
    LessonViewed: ("L", "lesson_id"),
    LessonCompleted: ("L", "lesson_id"),
    ProblemSolved: ("S", "problem_id"),
    ProblemViewed: ("P", "problem_id"),
    CourseViewed: ("C", "course_id"),
}
"""Which item of a day an event stands for: L lesson, S problem solved, P problem viewed, C course."""


def _known(name: str) -> str:
    zone(name)
    return name


class StreakOptions(Options):
    default_timezone: Annotated[str, AfterValidator(_known)] = pinned(
        "UTC", "IANA name or offset; the zone of events that name none: it decides their day"
    )
    daily_goal: int = pinned(3, "distinct problems; a day with as many solved is complete", ge=1, le=100_000)


class Day(Struct, gc=False):
    """A day on which the user did something; `sources` is the bits of what that was."""

    user_id: str
    activity_date: date
    sources: int


class Span(Struct, gc=False):
    """Days that an import vouches for."""

    user_id: str
    first_day: date
    last_day: date


class Item(Struct, gc=False):
    user_id: str
    activity_date: date
    kind: str
    item_id: str


class Streak(Struct, gc=False):
    """What a user's streak row holds besides its runs: two registers, each a maximum."""

    user_id: str
    imported_max: int
    zone_hour: datetime | None
    zone: str | None


def fold_days(rows: dict[Any, Day], events: Iterable[Any], options: StreakOptions) -> None:
    default = options.default_timezone
    for event in events:
        kind = type(event)
        if kind is StreakImported:
            continue
        data = event.data
        sources = SOURCES.get(kind, LEARNING)
        key = (data.user_id, local_date(event.time, data.timezone or default))
        row = rows.get(key)
        if row is None:
            rows[key] = Day(*key, sources)
        else:
            row.sources |= sources


def fold_spans(rows: dict[Any, Span], events: Iterable[Any], options: StreakOptions) -> None:
    for event in events:
        if type(event) is StreakImported:
            last = event.data.last_activity_date
            first = last - timedelta(days=max(event.data.current_streak, 1) - 1)
            rows[event.data.user_id, first, last] = Span(event.data.user_id, first, last)


def fold_items(rows: dict[Any, Item], events: Iterable[Any], options: StreakOptions) -> None:
    default = options.default_timezone
    for event in events:
        if item := ITEMS.get(type(event)):
            kind, field = item
            data = event.data
            day = local_date(event.time, data.timezone or default)
            key = (data.user_id, day, kind, getattr(data, field))
            if key not in rows:
                rows[key] = Item(*key)


def fold_streaks(rows: dict[str, Streak], events: Iterable[Any], options: StreakOptions) -> None:
    """Only events that name a zone, or bring an imported maximum, say anything here."""
    hour = EPOCH
    for event in events:
        data, time = event.data, event.time
        imported = data.max_streak if type(event) is StreakImported else 0
        if data.timezone is None and not imported:
            continue
        row = rows.get(data.user_id)
        if row is None:
            row = rows[data.user_id] = Streak(data.user_id, 0, None, None)
        if imported > row.imported_max:
            row.imported_max = imported
        if data.timezone is None:
            continue
        # Most events are of the same hour as the one before; rounding costs as much as all else here.
        if time < hour or time - hour >= HOUR:
            hour = time.replace(minute=0, second=0, microsecond=0)
        if row.zone_hour is None or (hour, data.timezone) > (row.zone_hour, row.zone):
            row.zone_hour, row.zone = hour, data.timezone


class Reference:
    """Remembers every day and item of every user; looks at the whole calendar to answer."""

    def __init__(self, options: StreakOptions) -> None:
        self._options = options
        self._sources: dict[tuple[str, date], set[int]] = defaultdict(set)
        self._items: dict[tuple[str, date], set[tuple[str, str]]] = defaultdict(set)
        self._imported: dict[str, int] = defaultdict(int)
        self._zones: dict[str, set[tuple[datetime, str]]] = defaultdict(set)

    def add(self, event: Any) -> None:
        user, named = event.data.user_id, event.data.timezone
        if named is not None:
            hour = event.time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            self._zones[user].add((hour, named))
        if event.__class__ is StreakImported:
            self._imported[user] = max(self._imported[user], event.data.max_streak)
            for back in range(event.data.current_streak or 1):
                self._sources[user, event.data.last_activity_date - timedelta(days=back)].add(0)
            return
        day = event.time.astimezone(zone(named or self._options.default_timezone)).date()
        self._sources[user, day].add(SOURCES.get(event.__class__, LEARNING))
        if event.__class__ in ITEMS:
            kind, field = ITEMS[event.__class__]
            self._items[user, day].add((kind, getattr(event.data, field)))

    def rows(self) -> Mapping[str, Mapping[Key, tuple[Any, ...]]]:
        return {"daily_activity": self._daily(), "streaks": self._streaks()}

    def _daily(self) -> dict[Key, tuple[Any, ...]]:
        found: dict[Key, tuple[Any, ...]] = {}
        for key, sources in self._sources.items():
            of = {k: sorted(i for kind, i in self._items.get(key, ()) if kind == k) for k in "LSPC"}
            status = "complete" if len(of["S"]) >= self._options.daily_goal else "partial"
            names = [n for bit, n in ((1, "general"), (4, "learning"), (2, "session")) if bit in sources]
            found[key] = (status, len(of["S"]), of["L"], names, of["C"], of["S"], of["P"])
        return found

    def _streaks(self) -> dict[Key, tuple[Any, ...]]:
        calendar: dict[str, set[date]] = defaultdict(set)
        for user, day in self._sources:
            calendar[user].add(day)
        return {user: self._streak(user, days) for user, days in calendar.items()}

    def _streak(self, user: str, days: set[date]) -> tuple[Any, ...]:
        lengths: dict[date, int] = {}
        for day in sorted(days):
            lengths[day] = lengths.get(day - timedelta(days=1), 0) + 1
        last = max(days)
        longest = max(self._imported.get(user, 0), *lengths.values())
        hour, named = max(self._zones.get(user, ()), default=(None, None))
        return last, lengths[last], longest, hour, named

    def within(self, table: str, less: tuple[Any, ...], more: tuple[Any, ...]) -> bool:
        if table == "daily_activity":
            sets = all(set(a) <= set(b) for a, b in zip(less[2:], more[2:], strict=True))
            return sets and less[1] <= more[1] and (less[0] == "partial" or more[0] == "complete")
        zones = less[3] is None or (more[3] is not None and less[3:] <= more[3:])
        return bool(less[:2] <= more[:2] and less[2] <= more[2] and zones)


PROJECTION = Projection(
    name="streaks",
    topic="activity.user",
    events=(*SOURCES, *ITEMS, StreakImported),
    tables=(
        Table(name="day", row=Day, fold=fold_days, key_size=2),
        Table(name="span", row=Span, fold=fold_spans, key_size=3),
        Table(name="item", row=Item, fold=fold_items, key_size=4),
        Table(name="streak", row=Streak, fold=fold_streaks),
    ),
    reference=Reference,
    options=StreakOptions,
)
