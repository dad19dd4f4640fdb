"""Whatever the bytes, decoding yields an event, a Reject or a skip; and all at once is as one by one."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.contract import KNOWN_EVENTS, Decoder, Event, Limits, UserActive, UserLoggedIn
from ingest.record import Reject
from tests.unit.contract_cases import CATALOGUE, DATA, NOW, Raw, event, text

DECODERS = [
    Decoder(
        [e for e in KNOWN_EVENTS if e.topic == "activity.client"], "activity.client", CATALOGUE, Limits()
    ),
    Decoder([e for e in KNOWN_EVENTS if e.topic == "activity.user"], "activity.user", CATALOGUE, Limits()),
    Decoder([UserActive, UserLoggedIn], "activity.user", CATALOGUE, Limits(max_event_bytes=4096)),
    Decoder([e for e in KNOWN_EVENTS if e.topic == "activity.live"], "activity.live", CATALOGUE, Limits()),
]
DEEP = b"[" * 1000 + b"]" * 1000
FIELDS = sorted(
    {field for data in DATA.values() for field in data} | {"timezone", "duration", "content_title"}
)
TIMES = [
    "2026-11-21T10:00:00Z",
    "2026-11-20T23:59:59.9999999Z",
    "2026-11-21T10:00:00.123456789+05:30",
    "2026-11-21T12:04:59.999999Z",
    "2026-11-21T12:05:00.0000009Z",
    "2026-11-21T12:05:00.000001Z",
    "1999-12-31T23:59:59.9999999Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.9999999-12:00",
    "2016-12-31T23:59:60Z",
    "2126-01-01T00:00:00Z",
    "x",
]

texts = st.sampled_from(
    ["", "a", "\0", "ä😀", '"\\', "0.12345678", "@", "x" * 600, "Europe/Berlin", "+05:30"]
)
values = st.one_of(
    texts, st.none(), st.booleans(), st.integers(-1, 2**64), st.floats(), st.just([]), st.just({"a": [1]})
)
SURGERY = [
    (b"@", rb"\ud800"),
    (b"@", rb"\u0000"),
    (b"@", b"\xff"),
    (b"@", DEEP),
    (b'"a"', DEEP),
    (b'"a"', b"9" * 10_000),
    (b'"a"', b"1e999"),
    (b".", rb"\u002e"),
    (b"9", rb"\u0039"),
    (b'"type"', b'"type":"user.active","type"'),
    (b'"data"', b'"data":{},"data"'),
    (b'"id"', b'"ID"'),
    (b"{", b"\xef\xbb\xbf{"),
    (b"}", b""),
    (b":", b" :\n"),
    (b"c", b"\xc1\xa3"),
]


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """A valid event, or one with a few things wrong with it."""
    one: Any = event(draw(st.sampled_from(sorted(DATA))))
    for _ in range(draw(st.integers(0, 2))):
        where = draw(st.sampled_from(["time", "time", "data", "data", "envelope", "gone"]))
        if where == "time":
            one["time"] = draw(st.sampled_from(TIMES))
        elif where == "data" and isinstance(one.get("data"), dict):
            one["data"][draw(st.sampled_from([*FIELDS, "more"]))] = draw(values)
        elif where == "envelope":
            one[draw(st.sampled_from([*one, "more"]))] = draw(values)
        elif where == "gone":
            one.pop(draw(st.sampled_from(sorted(one))))
    value = msgspec.json.encode(one)
    for old, new in draw(st.lists(st.sampled_from(SURGERY), max_size=1)):
        value = value.replace(old, new, draw(st.integers(0, 2)))
    return value


headers: st.SearchStrategy[Any] = st.one_of(
    st.just([]),
    st.just([("content-type", b"application/cloudevents+json")]),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["ce_id", "ce_type", "CE_Source", "ce_time", "ce_specversion", "x", "content-type"]
            ),
            st.none()
            | st.binary(max_size=8)
            | st.sampled_from([b"1.0", b"user.active", b"2026-11-21T10:00:00Z"]),
        ),
        max_size=6,
    ),
)
BINARY = [
    ("ce_id", b"i"),
    ("ce_source", b"/s"),
    ("ce_type", b"user.active"),
    ("ce_time", b"2026-11-21T10:00:00.9999999Z"),
    ("ce_specversion", b"1.0"),
]
stamps = st.sampled_from(
    [(0, 0), (0, 1), (-1, 1), (-1, 0), (1_795_262_400_000, 1), (1_795_000_000_000, 1), (2**62, 1)]
)


@st.composite
def records(draw: st.DrawFn) -> Raw:
    stamp, kind = draw(stamps)
    value: bytes | None = draw(
        events() | st.none() | st.binary(max_size=40) if draw(st.booleans()) else events()
    )
    if draw(st.integers(0, 5)) == 5:
        return Raw(b'{"user_id":"a"}', BINARY, stamp, kind)
    return Raw(value, draw(headers) if draw(st.booleans()) else [], stamp, kind)


mostly_good = st.lists(records() | st.sampled_from([Raw(text(name)) for name in DATA]), max_size=12)


def same(decoder: Decoder, log: list[Raw], now: datetime = NOW) -> None:
    alone = [decoder.decode(record, now) for record in log]
    together = decoder.decode_all(log, now)
    assert together.events == [one for one in alone if isinstance(one, Event)]
    assert together.rejects == [one for one in alone if isinstance(one, Reject)]
    assert together.skipped == alone.count(None)
    assert len(together.events) + len(together.rejects) + together.skipped == len(log)
    for one in alone:
        if isinstance(one, Reject):
            assert 0 < len(one.detail) <= 500
        elif one is not None:
            assert one.time.tzinfo is UTC
            assert "\0" not in one.id + one.source


@pytest.mark.parametrize("decoder", DECODERS)
@given(log=mostly_good)
@example([])
@example([Raw(None)])
@example(
    [Raw(b"[" * 65_536), Raw(b'{"a":' * 13_000), Raw(DEEP), Raw(b'{"type":"client.seen","a":' + DEEP + b"}")]
)
@example([Raw(b"\xff" * 70_000), Raw(text()), Raw(text(more="ä" * 40_000))])
@example([Raw(text(), (), 2**62, 1), Raw(text(time="2026-11-21T12:05:00.000001Z"))])
@example([Raw(text(), (), 1, 1), Raw(text(time="1970-01-01T00:05:00.002Z"), (), 2, 1)])
def test_any_records_together_are_what_each_is_alone(decoder: Decoder, log: list[Raw]) -> None:
    same(decoder, log)


@pytest.mark.parametrize("decoder", DECODERS)
@given(value=st.none() | st.binary(max_size=300), headers=headers, stamp=stamps)
def test_any_bytes_decode_to_an_event_a_reject_or_a_skip(
    decoder: Decoder, value: bytes | None, headers: Any, stamp: tuple[int, int]
) -> None:
    same(decoder, [Raw(value, headers, *stamp)])


@pytest.mark.parametrize("decoder", DECODERS)
@given(value=events(), place=st.integers(0, 400), byte=st.integers(0, 255), cut=st.booleans())
def test_an_event_with_any_byte_changed_or_its_end_cut_off_decodes_to_something_too(
    decoder: Decoder, value: bytes, place: int, byte: int, cut: bool
) -> None:
    place %= len(value)
    spoiled = value[:place] if cut else value[:place] + bytes([byte]) + value[place + 1 :]
    same(decoder, [Raw(text("user.active")), Raw(spoiled), Raw(value)])


def test_one_bad_record_among_a_thousand_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these is looked at again by itself; the other records of its chunk are not."""
    clients = DECODERS[0]
    looked_at: list[Raw] = []
    decode = clients.decode

    def counting(record: Any, now: datetime) -> Any:
        looked_at.append(record)
        return decode(record, now)

    bad = [
        b"{",
        b"\xff",
        text(id="\0"),
        text(time="1999-01-01T00:00:00Z"),
        text(type="x"),
        text(more=[1] * 40_000),
        None,
    ]
    bad += [text(more="?").replace(b"?", b"\xff"), text(more="?").replace(b'"?"', DEEP), text(id=5)]
    log = [Raw(text(id=str(n)), offset=n) for n in range(1_000)]
    for place, value in enumerate(bad):
        log[place * 100] = Raw(value, offset=place * 100)
    monkeypatch.setattr(clients, "decode", counting)
    done = clients.decode_all(log, NOW)
    assert [r.record.offset for r in done.rejects] == [place * 100 for place in range(len(bad))]
    assert [e.id for e in done.events] == [str(n) for n in range(1_000) if n % 100]
    assert looked_at == [log[place * 100] for place in range(len(bad))]
