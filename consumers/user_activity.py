"""When did each user last log in, and when was each last active? One row per user.

Times are rounded down *before* the maximum is taken: that is the throttle. A user writes at most one
row per interval however many events arrive, and the result is still a pure function of the events.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from msgspec import Struct
from pydantic import BeforeValidator

from ingest.contract import (
    CourseViewed,
    LessonCompleted,
    LessonViewed,
    ProblemSolved,
    ProblemViewed,
    SessionRefreshed,
    UserActive,
    UserLoggedIn,
)
from ingest.projection import Key, Options, Projection, Table, pinned

PRESETS = {"presence": 60, "general": 300, "engagement": 900, "daily": 3600}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def _preset(value: Any) -> Any:
    return PRESETS.get(value, value) if isinstance(value, str) else value


class UserOptions(Options):
    activity_throttle: Annotated[int, BeforeValidator(_preset)] = pinned(
        300,
        "seconds; last_active_time is rounded down to a multiple of it (0 = exact). "
        "Presets: presence 60, general 300, engagement 900, daily 3600",
        ge=0,
        le=86_400,
    )


class UserActivity(Struct, gc=False):
    user_id: str
    last_login_time: datetime | None
    last_active_time: datetime


def floor(time: datetime, interval: timedelta) -> datetime:
    """`time` rounded down to a multiple of `interval` since 1970-01-01T00:00Z; exact where it is zero."""
    return time - (time - EPOCH) % interval if interval else time


def fold(rows: dict[str, UserActivity], events: Iterable[Any], options: UserOptions) -> None:
    interval = timedelta(seconds=options.activity_throttle)
    begun = EPOCH
    for event in events:
        user_id, time, kind = event.data.user_id, event.time, type(event)
        # Most events are of the same interval as the one before; rounding costs half of all else here.
        if time < begun or time - begun >= interval:
            begun = floor(time, interval)
        active, login = begun, None
        if kind is UserLoggedIn:
            active = login = time
        elif kind is SessionRefreshed:
            login = floor(time, HOUR)
        row = rows.get(user_id)
        if row is None:
            rows[user_id] = UserActivity(user_id, login, active)
            continue
        if active > row.last_active_time:
            row.last_active_time = active
        if login is not None and (row.last_login_time is None or login > row.last_login_time):
            row.last_login_time = login


class Reference:
    def __init__(self, options: UserOptions) -> None:
        self._throttle = options.activity_throttle
        self._active: dict[str, set[datetime]] = defaultdict(set)
        self._logins: dict[str, set[datetime]] = defaultdict(set)

    def add(self, event: Any) -> None:
        user, time = event.data.user_id, event.time
        if event.__class__ is UserLoggedIn:
            self._active[user].add(time)
            self._logins[user].add(time)
            return
        if event.__class__ is SessionRefreshed:
            self._logins[user].add(time.replace(minute=0, second=0, microsecond=0))
        if self._throttle:
            seconds = (time - EPOCH) // timedelta(seconds=1)
            time = EPOCH + timedelta(seconds=seconds // self._throttle * self._throttle)
        self._active[user].add(time)

    def rows(self) -> Mapping[str, Mapping[Key, tuple[Any, ...]]]:
        found: dict[Key, tuple[Any, ...]] = {
            u: (max(self._logins.get(u, ()), default=None), max(a)) for u, a in self._active.items()
        }
        return {"user_activity": found}

    def within(self, table: str, less: tuple[Any, ...], more: tuple[Any, ...]) -> bool:
        login = less[0] is None or (more[0] is not None and less[0] <= more[0])
        return bool(login and less[1] <= more[1])


PROJECTION = Projection(
    name="user_activity",
    topic="activity.user",
    events=(
        UserActive,
        UserLoggedIn,
        SessionRefreshed,
        LessonViewed,
        LessonCompleted,
        ProblemViewed,
        ProblemSolved,
        CourseViewed,
    ),
    tables=(Table(name="user_activity", row=UserActivity, fold=fold),),
    reference=Reference,
    options=UserOptions,
)
