"""user_activity: last login and last activity, rounded down before the maximum is taken."""

from datetime import datetime, timedelta

import pytest
from pydantic import ValidationError

from consumers.user_activity import PROJECTION, UserOptions
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
from tests.strategies import event
from tests.unit.folding import DAY, both_ways


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"{DAY.date()}T{clock}+00:00")


def active(clock: str) -> bytes:
    return event(UserActive, at(clock), user_id="u")


def login(clock: str) -> bytes:
    return event(UserLoggedIn, at(clock), user_id="u")


def refreshed(clock: str) -> bytes:
    return event(SessionRefreshed, at(clock), user_id="u")


def folded(*values: bytes, throttle: int | str = 300) -> tuple[datetime | None, datetime]:
    """last_login_time, last_active_time"""
    (row,) = both_ways(PROJECTION, "user_activity", *values, activity_throttle=throttle)
    return row["last_login_time"], row["last_active_time"]


def test_activity_is_rounded_down_to_the_interval() -> None:
    assert folded(active("10:04:59.999999")) == (None, at("10:00:00"))
    assert folded(active("10:05:00")) == (None, at("10:05:00"))
    assert folded(active("10:01:00"), active("10:09:00"), active("10:06:00")) == (None, at("10:05:00"))


def test_activity_within_one_interval_changes_nothing() -> None:
    assert folded(active("10:00:01")) == folded(active("10:00:01"), active("10:04:59"))


def test_a_login_counts_exactly_for_both_columns() -> None:
    assert folded(login("10:01:02.000003")) == (at("10:01:02.000003"),) * 2


def test_a_login_beats_rounded_activity_of_its_own_interval_however_late_that_is() -> None:
    assert folded(login("10:01:00"), active("10:04:00")) == (at("10:01:00"), at("10:01:00"))
    assert folded(login("10:01:00"), active("10:05:00")) == (at("10:01:00"), at("10:05:00"))


def test_a_refreshed_session_is_a_login_at_its_full_hour_and_activity_at_its_interval() -> None:
    assert folded(refreshed("10:59:59")) == (at("10:00:00"), at("10:55:00"))
    assert folded(refreshed("10:59:59"), login("10:00:01"))[0] == at("10:00:01")
    assert folded(refreshed("11:00:00"), login("10:59:59"))[0] == at("11:00:00")


def test_no_throttle_keeps_every_microsecond() -> None:
    assert folded(active("10:04:59.999999"), throttle=0) == (None, at("10:04:59.999999"))


@pytest.mark.parametrize(
    ("preset", "clock"),
    [("presence", "10:59:00"), ("general", "10:55:00"), ("engagement", "10:45:00"), ("daily", "10:00:00")],
)
def test_presets_name_intervals(preset: str, clock: str) -> None:
    assert folded(active("10:59:59"), throttle=preset) == (None, at(clock))


def test_times_before_1970_are_rounded_down_as_well() -> None:
    before = event(UserActive, "1969-12-31T23:59:59.999999Z", user_id="u")
    assert folded(before)[1].isoformat() == "1969-12-31T23:55:00+00:00"


def test_an_offset_of_half_an_hour_does_not_shift_the_full_hour() -> None:
    spelled = event(SessionRefreshed, "2026-03-10T16:20:00+05:30", user_id="u")
    assert folded(spelled) == (at("10:00:00"), at("10:50:00"))


@pytest.mark.parametrize("kind", [LessonViewed, LessonCompleted])
def test_lessons_are_activity(kind: type) -> None:
    assert folded(event(kind, at("10:07:00"), user_id="u", lesson_id="l")) == (None, at("10:05:00"))


@pytest.mark.parametrize("kind", [ProblemViewed, ProblemSolved])
def test_problems_are_activity(kind: type) -> None:
    assert folded(event(kind, at("10:07:00"), user_id="u", problem_id="p")) == (None, at("10:05:00"))


def test_courses_are_activity() -> None:
    assert folded(event(CourseViewed, at("10:07:00"), user_id="u", course_id="c")) == (None, at("10:05:00"))


def test_an_imported_streak_is_no_activity() -> None:
    assert "streak.imported" not in {kind.type_name() for kind in PROJECTION.events}


@pytest.mark.parametrize("throttle", [-1, 86_401, "weekly"])
def test_a_throttle_that_makes_no_sense_is_refused(throttle: int | str) -> None:
    with pytest.raises(ValidationError):
        UserOptions.model_validate({"activity_throttle": throttle})


def test_users_are_kept_apart() -> None:
    times = [event(UserActive, DAY + timedelta(hours=n), user_id=f"u{n % 2}") for n in range(5)]
    rows = both_ways(PROJECTION, "user_activity", *times)
    assert [row["last_active_time"] for row in rows] == [DAY + timedelta(hours=4), DAY + timedelta(hours=3)]
