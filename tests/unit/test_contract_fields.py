"""Every field of every type: its limits, just inside and just outside, and what is said about it."""

from datetime import date
from typing import Any

import msgspec
import pytest

from ingest.contract import KNOWN_EVENTS
from tests.unit.contract_cases import DATA, accepted, event, text, why_invalid

USERS = [
    e.type_name() for e in KNOWN_EVENTS if e.topic == "activity.user" and e.type_name() != "streak.imported"
]
REQUIRED_TEXTS = [
    ("client.seen", "client_id", 50),
    *((name, field, 128) for name in USERS for field in DATA[name]),
    ("streak.imported", "user_id", 128),
    ("live.heartbeat", "user_id", 128),
    ("live.heartbeat", "session_id", 128),
    ("live.ended", "user_id", 128),
    ("live.ended", "session_id", 128),
]
OPTIONAL_TEXTS = [
    ("content_id", 128),
    ("content_title", 512),
    ("content_type", 64),
    ("quality", 64),
    ("device_type", 64),
    ("country", 64),
]
NUMBERS = [
    *(("live.heartbeat", n) for n in ("season_number", "episode_number", "current_position", "duration")),
    ("streak.imported", "max_streak"),
]


def test_every_required_field_of_data_is_in_these_tests() -> None:
    texts = {(name, field) for name, field, _ in REQUIRED_TEXTS}
    others = {("live.heartbeat", "activity_type"), *(("streak.imported", f) for f in DATA["streak.imported"])}
    assert {(name, field) for name, data in DATA.items() for field in data} <= texts | others


@pytest.mark.parametrize(("name", "field", "most"), REQUIRED_TEXTS)
def test_a_required_text_has_one_to_its_limit_of_characters(name: str, field: str, most: int) -> None:
    for character in ("x", "ä", "😀", "'", "\\", "\x01"):
        longest = character * most
        assert getattr(accepted(text(name, {field: longest})).data, field) == longest
        why = f"data.{field}: longer than {most} characters ({most + 1})"
        assert why_invalid(text(name, {field: longest + character})) == why
    assert why_invalid(text(name, {field: ""})) == f"data.{field}: empty"
    assert why_invalid(text(name, {field: None})) == f"data.{field}: expected str, got null"
    assert why_invalid(text(name, {field: 5})) == f"data.{field}: expected str, got int"
    assert why_invalid(text(name, {field: ["x"]})) == f"data.{field}: expected str, got array"
    without = event(name)
    del without["data"][field]
    assert why_invalid(msgspec.json.encode(without)) == f"data.{field}: missing"


@pytest.mark.parametrize(("field", "most"), [("id", 128), ("source", 255)])
def test_id_and_source_have_one_to_their_limit_of_characters(field: str, most: int) -> None:
    assert getattr(accepted(text(**{field: "😀" * most})), field) == "😀" * most
    assert why_invalid(text(**{field: "😀" * (most + 1)})) == (
        f"{field}: longer than {most} characters ({most + 1})"
    )
    assert why_invalid(text(**{field: ""})) == f"{field}: empty"
    assert why_invalid(text(**{field: 7})) == f"{field}: expected str, got int"


@pytest.mark.parametrize("field", ["id", "source", "time", "specversion", "data"])
def test_no_member_of_the_envelope_may_be_missing_or_null(field: str) -> None:
    without = event()
    del without[field]
    assert why_invalid(msgspec.json.encode(without)) == f"{field}: missing"
    assert why_invalid(msgspec.json.encode({**event(), field: None})).startswith(f"{field}: expected ")


@pytest.mark.parametrize("version", ["1", "1.0.0", "0.3", "1.1", ""])
def test_only_version_1_0_of_cloudevents_is_accepted(version: str) -> None:
    assert why_invalid(text(specversion=version)) == "specversion: expected '1.0'"


@pytest.mark.parametrize("data", [None, [], "x", 5, True])
def test_data_must_be_an_object(data: Any) -> None:
    assert why_invalid(msgspec.json.encode({**event(), "data": data})).startswith(
        "data: expected object, got "
    )


@pytest.mark.parametrize(("field", "most"), OPTIONAL_TEXTS)
def test_an_optional_text_may_be_absent_null_or_empty_and_has_a_limit(field: str, most: int) -> None:
    assert getattr(accepted(text("live.heartbeat")).data, field) is None
    for value in (None, "", "x", "😀" * most):
        assert getattr(accepted(text("live.heartbeat", {field: value})).data, field) == value
    why = why_invalid(text("live.heartbeat", {field: "x" * (most + 1)}))
    assert why == f"data.{field}: longer than {most} characters ({most + 1})"
    assert why_invalid(text("live.heartbeat", {field: 1})) == f"data.{field}: expected str | null, got int"


@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_a_number_is_a_json_integer_from_zero_to_that_of_postgres(name: str, field: str) -> None:
    for value in (0, 1, 2**31 - 1):
        assert getattr(accepted(text(name, {field: value})).data, field) == value
    for wrong in (-1, 2**31, 2**63, 1.0, 1.5, "1", True, [1]):
        assert why_invalid(text(name, {field: wrong})).startswith(f"data.{field}: ")
    assert why_invalid(text(name, {field: -1})) == f"data.{field}: expected int >= 0"
    assert why_invalid(text(name, {field: 2**31})) == f"data.{field}: expected int <= 2147483647"


def test_an_optional_number_may_be_null() -> None:
    assert accepted(text("live.heartbeat", {"duration": None})).data.duration is None


def test_activity_type_is_watching_or_browsing() -> None:
    for kind in ("watching", "browsing"):
        assert accepted(text("live.heartbeat", {"activity_type": kind})).data.activity_type == kind
    for kind in ("Watching", "", "idle"):
        why = why_invalid(text("live.heartbeat", {"activity_type": kind}))
        assert why == "data.activity_type: expected 'browsing' or 'watching'"


@pytest.mark.parametrize("name", USERS)
def test_user_and_learning_events_may_name_a_time_zone(name: str) -> None:
    for zone in (None, "UTC", "Europe/Berlin", "Asia/Kathmandu", "GMT0", "+05:30", "-23:59", "+00:00"):
        assert accepted(text(name, {"timezone": zone})).data.timezone == zone
    assert accepted(text(name)).data.timezone is None
    for zone in (
        "",
        "europe/berlin",
        "localtime",
        "posixrules",
        "Mars/Base",
        "05:30",
        "+24:00",
        "+05:60",
        "+0530",
        "Z",
    ):
        why = why_invalid(text(name, {"timezone": zone}))
        assert (
            why
            == "data.timezone: neither an IANA time zone of the tzdata package nor an offset such as +05:30"
        )
    assert why_invalid(text(name, {"timezone": 60})) == "data.timezone: expected str | null, got int"


def test_an_event_that_has_no_time_zone_says_so_without_looking() -> None:
    assert accepted(text("streak.imported", {"timezone": "Mars/Base"})).data.timezone is None


@pytest.mark.parametrize("name", DATA)
def test_u_0000_and_half_surrogate_pairs_are_refused_in_any_text_that_is_read(name: str) -> None:
    why = "holds U+0000 or half a surrogate pair, which cannot be stored"
    fields = [
        f
        for f, v in DATA[name].items()
        if isinstance(v, str) and f not in ("activity_type", "last_activity_date")
    ]
    for escape in (rb"\u0000", rb"\ud800", rb"\uDFFF", rb"\udc00\ud83d", rb"\ud83d\u0041"):
        for field in fields:
            assert why_invalid(text(name, {field: "a@z"}).replace(b"@", escape)) == f"data.{field}: {why}"
        for field in ("id", "source"):
            assert why_invalid(text(name, **{field: "@"}).replace(b"@", escape)) == f"{field}: {why}"
        assert accepted(text(name, {"more": "@", "@": 1}, more="@").replace(b"@", escape)) == accepted(
            text(name)
        )


def test_whole_surrogate_pairs_and_escaped_backslashes_are_ordinary_text() -> None:
    for written, meant in (
        (rb"\ud83d\ude00", "😀"),
        (rb"\\u0000", r"\u0000"),
        (rb"\\ud800", r"\ud800"),
        (rb"\/", "/"),
    ):
        assert accepted(text(data={"client_id": "@"}).replace(b"@", written)).data.client_id == meant


def test_an_imported_streak_has_a_day_that_has_begun_somewhere_by_then() -> None:
    def streak(day: str, **more: Any) -> bytes:
        return text("streak.imported", {"last_activity_date": day}, **more)

    assert accepted(streak("2026-11-22", time="2026-11-21T10:00:00Z")).data.last_activity_date == date(
        2026, 11, 22
    )
    late = "data.last_activity_date: later than the day of the event in every time zone"
    assert why_invalid(streak("2026-11-22", time="2026-11-21T09:59:59.999999Z")) == late
    assert why_invalid(streak("2026-11-22", time="2026-11-21T09:59:59.9999999Z")) == late
    assert why_invalid(streak("2026-11-23")) == late
    assert why_invalid(streak("2026-02-30")) == "data.last_activity_date: invalid RFC3339 encoded date"
    assert why_invalid(streak("9999-12-31")) == late


def test_an_imported_streak_begins_in_1900_or_later_and_is_no_longer_than_a_century() -> None:
    def streak(day: str, length: Any) -> bytes:
        return text("streak.imported", {"last_activity_date": day, "current_streak": length})

    early = "data.current_streak: begins before 1900-01-01"
    for day, length in (("1900-01-01", 0), ("1900-01-01", 1), ("1900-01-10", 10), ("2026-11-21", 36_525)):
        assert accepted(streak(day, length)).data.current_streak == length
    for day, length in (("1899-12-31", 0), ("1900-01-10", 11), ("0001-01-01", 2), ("1999-12-31", 36_525)):
        assert why_invalid(streak(day, length)) == early
    assert why_invalid(streak("2026-11-21", 36_526)) == "data.current_streak: expected int <= 36525"
    assert why_invalid(streak("2026-11-21", -1)) == "data.current_streak: expected int >= 0"
