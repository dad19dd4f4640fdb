"""The shape of what streaks derives: runs of days, and each user's latest and longest run."""

from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.contract import StreakImported, UserActive
from tests.laws.harness import Bench, logs_of
from tests.strategies import PlainRecord, Tape, event, tapes
from tests.values import MOMENTS

pytestmark = pytest.mark.law

DAY = timedelta(days=1)


@given(data=st.data(), tape=tapes)
def test_runs_are_the_days_joined_and_streaks_follow_from_them(
    benches: Callable[[str], Bench], data: st.DataObject, tape: Tape
) -> None:
    bench, records = benches("streaks"), data.draw(logs_of("streaks"))
    bench.after(*tape.chunks(records))
    runs = by_user(bench, "select user_id, first_day, last_day from streak_run order by 1, 2")
    days = by_user(bench, "select user_id, activity_date from daily_total order by 1, 2")
    streaks = by_user(
        bench, "select user_id, last_activity_date, current_streak, max_streak, imported_max from streaks"
    )
    assert runs.keys() == days.keys() == streaks.keys()
    for user, spans in runs.items():
        assert all(first <= last for first, last in spans)
        assert all(a[1] + DAY < b[0] for a, b in pairwise(spans))
        assert [day for first, last in spans for day in span(first, last)] == [day for (day,) in days[user]]
        lengths = [(last - first).days + 1 for first, last in spans]
        ((last_day, current, longest, imported),) = streaks[user]
        assert (last_day, current, longest) == (spans[-1][1], lengths[-1], max(imported, *lengths))


def test_an_import_of_a_century_joins_what_lies_in_it(benches: Callable[[str], Bench]) -> None:
    bench = benches("streaks")
    last, century = MOMENTS[0].date(), 36_525
    scattered = [active(days) for days in (*range(0, -century, -977), 1, 5)]
    whole: dict[str, Any] = {"current_streak": century, "max_streak": 3, "last_activity_date": str(last)}
    imported = PlainRecord(event(StreakImported, MOMENTS[0] + DAY, user_id="u", **whole))
    bench.after(scattered, [imported])
    runs = by_user(bench, "select user_id, first_day, last_day from streak_run order by 2")
    first = last - DAY * (century - 1)
    assert runs["u"] == [(first, last + DAY), (last + DAY * 5, last + DAY * 5)]
    streaks = by_user(bench, "select user_id, current_streak, max_streak from streaks")
    assert streaks["u"] == [(1, century + 1)]
    assert bench.after([imported], scattered) == bench.after([*scattered, imported])


def active(days: int) -> PlainRecord:
    return PlainRecord(event(UserActive, MOMENTS[0] + DAY * days, user_id="u"))


def by_user(bench: Bench, query: str) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in bench.run(bench.database.fetch(query)):
        user, *rest = row.values()
        found.setdefault(user, []).append(tuple(rest))
    return found


def span(first: date, last: date) -> list[date]:
    return [first + DAY * n for n in range((last - first).days + 1)]
