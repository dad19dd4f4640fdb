"""streaks: days, items and registers of users; runs are derived from the days by SQL."""

from datetime import date, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from consumers.streaks import PROJECTION, StreakOptions
from ingest.contract import (
    CourseViewed,
    LessonCompleted,
    LessonViewed,
    ProblemSolved,
    ProblemViewed,
    SessionRefreshed,
    StreakImported,
    UserActive,
    UserLoggedIn,
)
from tests.strategies import event
from tests.unit.folding import DAY, both_ways, decoded

GENERAL, SESSION, LEARNING = 1, 2, 4


def active(time: str, timezone: str | None = None, user: str = "u") -> bytes:
    return event(UserActive, time, user_id=user, timezone=timezone)


def imported(last: str, current: int, longest: int = 0) -> bytes:
    return event(
        StreakImported, DAY, user_id="u", current_streak=current, max_streak=longest, last_activity_date=last
    )


def day_of(time: str, timezone: str | None = None, **options: Any) -> date:
    (row,) = both_ways(PROJECTION, "day", active(time, timezone), **options)
    day: date = row["activity_date"]
    return day


@pytest.mark.parametrize(
    ("time", "timezone", "expected"),
    [
        ("2026-03-10T23:59:59.999999Z", None, "2026-03-10"),
        ("2026-03-11T00:00:00Z", None, "2026-03-11"),
        ("2026-03-10T23:00:00+14:00", None, "2026-03-10"),
        ("2026-03-10T18:30:00Z", "+05:30", "2026-03-11"),
        ("2026-03-10T18:29:59.999999Z", "+05:30", "2026-03-10"),
        ("2026-03-10T03:29:59Z", "-03:30", "2026-03-09"),
        ("2026-03-10T10:00:00Z", "+14:00", "2026-03-11"),
        ("2026-03-10T11:59:59Z", "-12:00", "2026-03-09"),
        ("2026-03-08T04:59:59Z", "America/New_York", "2026-03-07"),
        ("2026-03-09T04:00:00Z", "America/New_York", "2026-03-09"),  # summer time began
        ("2018-11-04T02:59:59Z", "America/Sao_Paulo", "2018-11-03"),
        ("2018-11-04T03:00:00Z", "America/Sao_Paulo", "2018-11-04"),  # a day without a midnight
        ("2011-12-30T09:59:59Z", "Pacific/Apia", "2011-12-29"),
        ("2011-12-30T10:00:00Z", "Pacific/Apia", "2011-12-31"),  # a day that never was
        ("1969-12-31T23:59:59Z", "Europe/London", "1970-01-01"),  # an hour ahead all the year then
        ("2040-07-01T23:30:00Z", "Europe/Berlin", "2040-07-02"),
    ],
)
def test_the_day_is_that_of_the_events_time_zone(time: str, timezone: str | None, expected: str) -> None:
    assert day_of(time, timezone) == date.fromisoformat(expected)


def test_an_event_without_a_zone_has_the_default_one() -> None:
    assert day_of("2026-03-10T20:00:00Z", default_timezone="Asia/Kathmandu") == date(2026, 3, 11)
    assert day_of("2026-03-10T20:00:00Z", "UTC", default_timezone="Asia/Kathmandu") == date(2026, 3, 10)


def test_sources_of_a_day_are_united() -> None:
    values = [
        active("2026-03-10T10:00:00Z"),
        event(UserLoggedIn, DAY, user_id="u"),
        event(SessionRefreshed, DAY, user_id="u"),
        event(UserLoggedIn, DAY.replace(day=11), user_id="u"),
        event(CourseViewed, DAY.replace(day=12), user_id="u", course_id="c"),
        event(UserActive, DAY.replace(day=12), user_id="u"),
    ]
    rows = both_ways(PROJECTION, "day", *values)
    assert [row["sources"] for row in rows] == [GENERAL | SESSION, SESSION, LEARNING | GENERAL]


def test_items_are_kept_once_by_kind() -> None:
    values = [
        event(LessonViewed, DAY, user_id="u", lesson_id="1"),
        event(LessonCompleted, DAY, user_id="u", lesson_id="1"),
        event(ProblemViewed, DAY, user_id="u", problem_id="1"),
        event(ProblemSolved, DAY, user_id="u", problem_id="1"),
        event(ProblemSolved, DAY.replace(hour=5), user_id="u", problem_id="1"),
        event(CourseViewed, DAY, user_id="u", course_id="1"),
        event(UserActive, DAY, user_id="u"),
    ]
    rows = both_ways(PROJECTION, "item", *values)
    assert [(row["kind"], row["item_id"]) for row in rows] == [("C", "1"), ("L", "1"), ("P", "1"), ("S", "1")]


def test_an_item_belongs_to_the_day_of_its_event() -> None:
    late = event(ProblemSolved, "2026-03-10T23:00:00Z", user_id="u", problem_id="p", timezone="+05:30")
    (item,), (day,) = both_ways(PROJECTION, "item", late), both_ways(PROJECTION, "day", late)
    assert item["activity_date"] == day["activity_date"] == date(2026, 3, 11)


@pytest.mark.parametrize(
    ("current", "first"), [(0, "2026-03-09"), (1, "2026-03-09"), (2, "2026-03-08"), (69, "2025-12-31")]
)
def test_an_import_vouches_for_as_many_days_up_to_its_last(current: int, first: str) -> None:
    (row,) = both_ways(PROJECTION, "span", imported("2026-03-09", current))
    assert (row["first_day"], row["last_day"]) == (date.fromisoformat(first), date(2026, 3, 9))


def test_an_import_is_no_activity_of_the_day_it_was_made() -> None:
    assert both_ways(PROJECTION, "day", imported("2026-03-01", 2)) == []


def test_the_imported_maximum_is_a_maximum() -> None:
    values = [imported("2026-03-01", 2, longest) for longest in (7, 30, 9)]
    (row,) = both_ways(PROJECTION, "streak", *values)
    assert (row["imported_max"], row["zone"]) == (30, None)


def test_a_users_zone_is_that_of_the_latest_hour_then_the_greatest_name() -> None:
    values = [
        active("2026-03-10T10:59:00Z", "Europe/Berlin"),
        active("2026-03-10T10:01:00Z", "Europe/London"),
        active("2026-03-10T09:59:59Z", "Pacific/Apia"),
        active("2026-03-10T23:00:00Z"),
    ]
    (row,) = both_ways(PROJECTION, "streak", *values)
    assert row["zone"] == "Europe/London"
    assert row["zone_hour"] == datetime.fromisoformat("2026-03-10T10:00:00Z")


def test_events_that_name_no_zone_and_import_nothing_have_no_register() -> None:
    assert both_ways(PROJECTION, "streak", active("2026-03-10T10:00:00Z"), imported("2026-03-01", 3, 0)) == []


@pytest.mark.parametrize(
    "options", [{"default_timezone": "localtime"}, {"default_timezone": "+25:00"}, {"daily_goal": 0}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PROJECTION.options(**options)


def test_the_reference_knows_the_shape_of_a_streak() -> None:
    """By hand, because every other proof leans on the reference."""
    reference = PROJECTION.reference(StreakOptions(daily_goal=2))
    values = [
        *(active(f"2026-03-{day:02}T12:00:00Z") for day in (1, 2, 3, 7, 8)),
        *(event(ProblemSolved, "2026-03-08T12:00:00Z", user_id="u", problem_id=p) for p in "ab"),
        imported("2026-02-28", 2, 3),
        active("2026-03-20T12:00:00Z", "Asia/Kathmandu", user="v"),
    ]
    for each in decoded(PROJECTION, values):
        reference.add(each)
    rows = reference.rows()
    hour = datetime.fromisoformat("2026-03-20T12:00:00Z")
    assert rows["streaks"] == {
        "u": (date(2026, 3, 8), 2, 5, None, None),
        "v": (date(2026, 3, 20), 1, 1, hour, "Asia/Kathmandu"),
    }
    days = rows["daily_activity"]
    assert days["u", date(2026, 3, 8)] == ("complete", 2, [], ["general", "learning"], [], ["a", "b"], [])
    assert days["u", date(2026, 2, 27)] == ("partial", 0, [], [], [], [], [])
    assert len(days) == 8
