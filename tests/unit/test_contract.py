"""Which reason a record is rejected for, and that the detail names the field and nothing personal."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ingest.contract import ClientSeen, Data, Decoder, Event, Limits, UserActive, encode
from ingest.record import Reason, Reject
from tests.unit.contract_cases import (
    CATALOGUE,
    DATA,
    NOW,
    TYPES,
    Raw,
    accepted,
    decode,
    decoder,
    event,
    rejected,
    text,
    why_invalid,
)


@pytest.mark.parametrize("name", DATA)
def test_the_least_that_a_type_must_carry_is_accepted(name: str) -> None:
    found = accepted(text(name))
    assert type(found) is TYPES[name]
    assert (found.specversion, found.id, found.source) == ("1.0", "i", "/s")
    assert found.time == datetime(2026, 11, 21, 10, 0, 0, 123_000, tzinfo=UTC)


def test_unknown_members_of_the_envelope_and_of_data_are_ignored() -> None:
    value = text(data={"more": [1, {"x": None}], "timezone": 5}, traceparent="00-ab", subject=None)
    assert accepted(value).data == accepted(text()).data


def test_members_may_come_in_any_order_and_with_spaces_between() -> None:
    backwards = msgspec.json.encode(dict(reversed(event().items())))
    assert accepted(b" \n\t" + msgspec.json.format(backwards, indent=2) + b"\n") == accepted(text())


def test_what_we_publish_is_what_we_read() -> None:
    time = datetime(2026, 11, 21, 9, 30, 0, 1, tzinfo=UTC)
    found = accepted(encode("client.seen", "i", "/s", time.astimezone(), {"client_id": "c"}))
    assert found.time == time
    assert encode("client.seen", "i", "/s", time, found.data) == encode(
        "client.seen", "i", "/s", time, {"client_id": "c"}
    )
    with pytest.raises(ValueError, match="offset"):
        encode("client.seen", "i", "/s", time.replace(tzinfo=None), {})


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (None, "no value (a tombstone)"),
        (b"", "not JSON: Input data was truncated"),
        (b"hello", "not JSON: invalid character (byte 0)"),
        (b'{"type":"client.seen"', "not JSON: Input data was truncated"),
        (b"{} {}", "not JSON: trailing characters"),
        (b"\xef\xbb\xbf" + text(), "not JSON: invalid character (byte 0)"),
        (b"null", "not a JSON object but null"),
        (b"[1]", "not a JSON object but an array"),
        (b'"client.seen"', "not a JSON object but a string"),
        (b"-0.5e3", "not a JSON object but a number"),
        (b" true", "not a JSON object but a boolean"),
        (text(data={"more": "?"}).replace(b"?", b"\xff"), "not UTF-8"),
        (text(data={"more": "?"}).replace(b"?", b"\xc0\x80"), "not UTF-8"),
        (text(data={"more": "?"}).replace(b"?", b"\xed\xa0\x80"), "not UTF-8"),
        (text(data={"client_id": "?"}).replace(b"?", b"\xe4"), "not UTF-8"),
        (b'{"a":"\n"}', "not JSON: invalid character (byte 6)"),
    ],
)
def test_what_is_no_json_object_in_utf8_is_malformed(value: bytes | None, detail: str) -> None:
    reason, found = rejected(value)
    assert (reason, found[: len(detail)]) == (Reason.MALFORMED, detail)


@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_limited_by_the_text_alone_and_never_by_the_stack(opened: bytes, closed: bytes) -> None:
    def nested(levels: int) -> bytes:
        return text(data={"more": "?"}).replace(b'"?"', opened * levels + b"1" + closed * levels)

    def deeper(frames: int, value: bytes) -> Any:
        return deeper(frames - 1, value) if frames else decode(value)

    assert accepted(nested(498))
    assert deeper(300, nested(498)) == decode(nested(498))
    assert rejected(nested(499)) == (Reason.MALFORMED, "nested deeper than 500 levels")
    assert rejected(nested(10_000)) == (Reason.MALFORMED, "nested deeper than 500 levels")
    assert rejected(opened * 13_000)[0] is Reason.MALFORMED


def test_brackets_inside_strings_are_not_nesting() -> None:
    assert accepted(text(data={"more": '[{"\\' * 600}))


def test_a_type_that_is_missing_or_not_text_is_invalid_and_one_nobody_knows_is_unknown() -> None:
    without = event()
    del without["type"]
    assert why_invalid(msgspec.json.encode(without)) == "type: missing"
    assert why_invalid(text(type=5)) == "type: not a string"
    assert why_invalid(text(type=None)) == "type: not a string"
    assert rejected(text(type="client.gone")) == (Reason.UNKNOWN_TYPE, "type: 'client.gone' is not known")
    assert rejected(text(type="\0")) == (Reason.UNKNOWN_TYPE, "type: '\\x00' is not known")
    assert rejected(text(type="x\u2028" * 40_000, data={}))[0] is Reason.TOO_LARGE
    assert rejected(text(type="\u2028" * 4_000))[0] is Reason.UNKNOWN_TYPE


def test_a_type_of_another_topic_is_rejected_and_one_that_is_not_folded_here_is_skipped() -> None:
    users = decoder("activity.user", UserActive)
    wrong = users.decode(Raw(text("client.seen")), NOW)
    assert isinstance(wrong, Reject)
    assert (wrong.reason, wrong.detail) == (
        Reason.WRONG_TOPIC,
        "type: client.seen belongs to activity.client, not to activity.user",
    )
    assert users.decode(Raw(text("user.logged_in")), NOW) is None
    assert users.decode(Raw(b'{"type":"user.logged_in","time":0,"more":"\\ud800"}'), NOW) is None
    together = users.decode_all([Raw(text("user.logged_in")), Raw(text("user.active"))], NOW)
    assert (len(together.events), together.rejects, together.skipped) == (1, [], 1)


def test_the_first_reason_that_applies_is_given() -> None:
    small = decoder("activity.client", limits=Limits(max_event_bytes=300))

    def reason(value: bytes | None) -> Any:
        found = small.decode(Raw(value), NOW)
        assert isinstance(found, Reject)
        return found.reason

    bad_time = {"time": "2126-11-21T10:00:00Z"}
    assert reason(b"\xff" * 301) == "too_large"
    assert reason(b"\xff" * 300) == "malformed"
    assert reason(text(type="x", id=5)) == "unknown_type"
    assert reason(text("user.active", id=5)) == "wrong_topic"
    assert reason(text(id=5, **bad_time)) == "invalid"
    assert reason(text(**bad_time)) == "future"


def test_size_counts_bytes_and_the_limit_itself_is_allowed() -> None:
    value = text(data={"client_id": "ä"})
    assert isinstance(
        decoder("activity.client", limits=Limits(len(value))).decode(Raw(value), NOW), ClientSeen
    )
    over = decoder("activity.client", limits=Limits(len(value) - 1)).decode(Raw(value), NOW)
    assert isinstance(over, Reject)
    assert over.reason == "too_large"
    assert over.detail == f"{len(value)} bytes, of which at most {len(value) - 1} are allowed"


def test_future_is_judged_by_the_brokers_timestamp_or_else_by_the_clock() -> None:
    skew = timedelta(minutes=5)
    stamp = NOW - timedelta(days=3)
    stamped = {"timestamp": int(stamp.timestamp() * 1000), "timestamp_type": 1}
    tick = timedelta(microseconds=1)
    assert accepted(text(time=(NOW + skew).isoformat()))
    assert rejected(text(time=(NOW + skew + tick).isoformat())) == (
        Reason.FUTURE,
        "time: 300.000 s ahead of the clock",
    )
    assert accepted(text(time=(stamp + skew).isoformat()), **stamped)
    assert rejected(text(time=(stamp + skew + tick).isoformat()), **stamped)[0] is Reason.FUTURE
    # A producer's own timestamp proves nothing.
    assert rejected(text(time="2027-01-01T00:00:00Z"), timestamp=2**41)[0] is Reason.FUTURE
    assert accepted(text(time=NOW.isoformat()), timestamp=-1, timestamp_type=1)


def test_past_is_what_lies_before_the_earliest_time() -> None:
    assert accepted(text(time="2000-01-01T00:00:00Z"))
    assert rejected(text(time="1999-12-31T23:59:59.999999Z")) == (
        Reason.PAST,
        "time: before 2000-01-01T00:00:00+00:00",
    )
    assert rejected(text(time="2000-01-01T00:00:00+00:01"))[0] is Reason.PAST


def test_one_member_given_twice_counts_as_its_last_but_each_must_be_valid() -> None:
    assert accepted(text().replace(b'"c"}', b'"c","client_id":"d"}')).data.client_id == "d"
    assert "client_id" in why_invalid(text().replace(b'"c"}', b'5,"client_id":"d"}'))
    twice = text().replace(b'"type":"client.seen"', b'"type":"client.seen","type":"user.active"')
    assert rejected(twice, topic="activity.client")[0] is Reason.WRONG_TOPIC
    assert why_invalid(text("user.active").replace(b'"type"', b'"type":"user.logged_in","type"')) == (
        "type: given twice"
    )


def test_huge_numbers_do_no_harm_where_they_are_ignored_and_are_named_where_not() -> None:
    for number in (b"9" * 10_000, b"1e400", b"-1e-400", b"1" + b"0" * 400 + b".5"):
        assert accepted(text(data={"more": "?"}).replace(b'"?"', number))
        spoiled = text("live.heartbeat", {"duration": "?"}).replace(b'"?"', number)
        assert why_invalid(spoiled).startswith("data.duration: ")


def test_no_detail_repeats_what_the_event_says() -> None:
    secret = "5ecret-" * 20
    for name, data in DATA.items():
        for field in data:
            for value in (secret, [secret], {secret: secret}, f"{secret} - at `$.{secret}`", secret + "\0"):
                found = decode(text(name, {field: value}), topic=TYPES[name].topic)
                assert not isinstance(found, Reject) or "5ecret" not in found.detail
    for field in ("id", "source", "time", "specversion", "data"):
        found = decode(msgspec.json.encode({**event(), field: secret * 10}))
        assert isinstance(found, Reject)
        assert "5ecret" not in found.detail


def test_a_projection_may_bring_event_types_of_its_own() -> None:
    class Badge(Data):
        user_id: str
        labels: dict[str, list[str]]

    class BadgeEarned(Event, tag="badge.earned"):
        topic = "activity.badge"
        data: Badge

        def __post_init__(self) -> None:
            if not self.data.labels:
                raise ValueError("data.labels: empty")
            if self.data.user_id == "bug":
                raise KeyError(self.data.user_id)

    names = {**CATALOGUE, "badge.earned": "activity.badge"}
    badges = Decoder((BadgeEarned,), "activity.badge", names, Limits())

    def found(labels: Any, user: str = "u") -> Any:
        value = text("badge.earned", {"user_id": user, "labels": labels})
        one = badges.decode(Raw(value), NOW)
        assert badges.decode_all([Raw(value)] * 2, NOW).rejects == [one] * 2 * isinstance(one, Reject)
        return one.detail if isinstance(one, Reject) else one

    assert found({"a": ["b"]}).data.labels == {"a": ["b"]}
    assert found({}) == "data.labels: empty"
    assert found({"a": ["b", 5]}) == "data.labels[...][1]: expected str, got int"
    assert found({"a": ["b", "x\0"]}).startswith("data.labels[...][1]: holds U+0000")
    assert found({"a": []}, "bug") == "event: cannot be read (KeyError)"
    stranger = badges.decode(Raw(text("client.seen")), NOW)
    assert isinstance(stranger, Reject)
    assert stranger.reason == "wrong_topic"
