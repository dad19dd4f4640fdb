"""Who is doing what right now? One row per user and session, kept for analysis when it ends.

Every descriptive column comes from the session's greatest heartbeat, compared by time, source, id
and then the columns themselves, so that even two events that claim one identity have one winner.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from msgspec import Struct
from pydantic import Field

from ingest.contract import LiveEnded, LiveHeartbeat
from ingest.projection import Key, Options, Projection, Table

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LiveOptions(Options):
    live_timeout: int = Field(
        600,
        description="seconds without a heartbeat after which a session is no longer active",
        ge=1,
        le=86_400,
    )


class LiveActivity(Struct, gc=False):
    """started_at and last_heartbeat in milliseconds since 1970, rounded down."""

    user_id: str
    session_id: str
    started_at: int
    last_heartbeat: int
    ended_time: datetime | None = None
    heartbeat_time: datetime | None = None
    heartbeat_source: str | None = None
    heartbeat_id: str | None = None
    activity_type: str | None = None
    content_id: str | None = None
    content_title: str | None = None
    content_type: str | None = None
    season_number: int | None = None
    episode_number: int | None = None
    current_position: int | None = None
    duration: int | None = None
    quality: str | None = None
    device_type: str | None = None
    country: str | None = None


# In the columns' order.
details = attrgetter(*LiveActivity.__struct_fields__[8:])


def _rank(source: str | None, id: str | None, of: Any) -> tuple[Any, ...]:
    """Order of heartbeats of one time; an absent column comes before any value."""
    return (source, id, *((value is not None, value) for value in details(of)))


def _wins(event: LiveHeartbeat, row: LiveActivity) -> bool:
    if row.heartbeat_time is None or event.time != row.heartbeat_time:
        return row.heartbeat_time is None or event.time > row.heartbeat_time
    return _rank(event.source, event.id, event.data) > _rank(row.heartbeat_source, row.heartbeat_id, row)


def _milliseconds(time: datetime) -> int:
    since = time - EPOCH
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def _told_by(
    event: LiveHeartbeat, started_at: int, last_heartbeat: int, ended: datetime | None
) -> LiveActivity:
    data = event.data
    return LiveActivity(
        data.user_id, data.session_id, started_at, last_heartbeat, ended,
        event.time, event.source, event.id, *details(data),
    )  # fmt: skip


def fold(rows: dict[tuple[str, str], LiveActivity], events: Iterable[Any], options: LiveOptions) -> None:
    for event in events:
        time, ended = event.time, type(event) is LiveEnded
        key = (event.data.user_id, event.data.session_id)
        moment = _milliseconds(time)
        row = rows.get(key)
        if row is None:
            new = LiveActivity(*key, moment, moment, time) if ended else _told_by(event, moment, moment, None)
            rows[key] = new
            continue
        if moment > row.last_heartbeat:
            row.last_heartbeat = moment
        elif moment < row.started_at:
            row.started_at = moment
        if ended:
            if row.ended_time is None or time > row.ended_time:
                row.ended_time = time
        elif _wins(event, row):
            rows[key] = _told_by(event, row.started_at, row.last_heartbeat, row.ended_time)


class Reference:
    """Keeps each session's events and sorts them when asked."""

    def __init__(self, options: LiveOptions) -> None:
        self._times: dict[tuple[str, str], set[datetime]] = defaultdict(set)
        self._ends: dict[tuple[str, str], set[datetime]] = defaultdict(set)
        self._beats: dict[tuple[str, str], Any] = {}

    def add(self, event: Any) -> None:
        key = (event.data.user_id, event.data.session_id)
        self._times[key] |= {event.time}
        if event.__class__ is LiveEnded:
            self._ends[key] |= {event.time}
            return
        d = event.data
        texts = (d.activity_type, d.content_id, d.content_title, d.content_type)
        numbers = (d.season_number, d.episode_number, d.current_position, d.duration)
        beat = (event.time, event.source, event.id, *texts, *numbers, d.quality, d.device_type, d.country)
        known = self._beats.get(key)
        self._beats[key] = beat if known is None else sorted((known, beat), key=self._order)[-1]

    @staticmethod
    def _order(beat: Any) -> Any:
        return [(0, "") if column is None else (1, column) for column in beat]

    def rows(self) -> Mapping[str, Mapping[Key, tuple[Any, ...]]]:
        return {"live_activity": {key: self._row(key, times) for key, times in self._times.items()}}

    def _row(self, key: tuple[str, str], times: set[datetime]) -> tuple[Any, ...]:
        first, last = ((t - EPOCH) // timedelta(milliseconds=1) for t in (min(times), max(times)))
        ended = max(self._ends.get(key, ()), default=None)
        beat = self._beats.get(key, (None,) * 14)
        return (f"live_{key[0]}_{key[1]}", first, last, ended, *beat, True)

    def within(self, table: str, less: tuple[Any, ...], more: tuple[Any, ...]) -> bool:
        times = less[1] >= more[1] and less[2] <= more[2]
        ends = less[3] is None or (more[3] is not None and less[3] <= more[3])
        beats = less[4] is None or (
            more[4] is not None and self._order(less[4:18]) <= self._order(more[4:18])
        )
        return bool(less[0] == more[0] and times and ends and beats and more[18])


PROJECTION = Projection(
    name="live_activity",
    topic="activity.live",
    events=(LiveHeartbeat, LiveEnded),
    tables=(Table(name="live_activity", row=LiveActivity, fold=fold, key_size=2),),
    reference=Reference,
    options=LiveOptions,
)
