import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.errors import Misconfigured
from ingest.inspect import asked_of, groups, inactive, kinds, show
from ingest.registry import load

REGISTRY = load()
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


class Tables:
    """Answers each question with as many rows as asked for, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    async def fetch(self, text: str, *arguments: Any, what: str = "") -> Sequence[Mapping[str, Any]]:
        self.asked.append((what, arguments))
        limit = arguments[1] if len(arguments) > 1 else 1
        return [{"n": n} for n in range(limit)]


def test_what_can_be_asked_about_is_what_the_projections_bring() -> None:
    assert kinds(REGISTRY) == ["client", "session", "user"]
    assert groups(REGISTRY) == ["clients", "users"]


def test_show_asks_every_section_of_the_kind_in_every_projection() -> None:
    tables = Tables()
    answers = asyncio.run(show(tables, REGISTRY, "user", "ana"))
    assert {(answer.projection, answer.section) for answer in answers} >= {
        ("streaks", "user"),
        ("streaks", "user_days"),
        ("live_activity", "user"),
        ("user_activity", "user"),
    }
    assert {arguments for _, arguments in tables.asked} == {("ana",)}


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(Misconfigured, match="'course'") as raised:
        asyncio.run(show(Tables(), REGISTRY, "course", "x"))
    assert raised.value.mend == "choose from: client, session, user"
    with pytest.raises(Misconfigured, match="'course'"):
        asked_of(REGISTRY, "course")


def test_silence_is_counted_back_from_the_moment_given_and_says_whether_there_is_more() -> None:
    tables = Tables()
    file = REGISTRY.sql[asked_of(REGISTRY, "clients")]
    silence = asyncio.run(inactive(tables, file, "clients", NOW, timedelta(hours=24), limit=3))
    assert silence.cutoff == NOW - timedelta(hours=24)
    assert (len(silence.rows), silence.more) == (3, True)
    assert tables.asked == [("inactive clients", (NOW - timedelta(hours=24), 4))]


def test_a_duration_beyond_the_calendar_is_refused() -> None:
    file = REGISTRY.sql["client_activity"]
    with pytest.raises(Misconfigured, match="calendar"):
        asyncio.run(inactive(Tables(), file, "clients", NOW, timedelta(days=1_000_000), 1))
