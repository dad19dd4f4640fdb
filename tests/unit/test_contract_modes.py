"""CloudEvents on Kafka: structured and binary content mode, told apart by the headers."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from ingest.contract import Decoder, Event, Limits
from ingest.record import Reason, Reject
from tests.unit.contract_cases import CATALOGUE, DATA, NOW, TYPES, Raw, accepted, decoder, event, text

Headers = list[tuple[str, bytes | None]]


def binary(name: str = "client.seen", value: bytes | None = None, **attributes: bytes | None) -> Raw:
    """`event(name)` in binary mode, with attributes (and other headers) changed or added."""
    whole = event(name)
    headers: dict[str, bytes | None] = {
        f"ce_{n}": str(whole[n]).encode() for n in ("id", "source", "type", "time", "specversion")
    }
    headers.update({f"ce_{n}": v for n, v in attributes.items()})
    return Raw(msgspec.json.encode(whole["data"]) if value is None else value, list(headers.items()))


def read(record: Raw, name: str = "client.seen") -> Event | Reject | None:
    """As decoded alone, which must be as decoded among others."""
    home = decoder(TYPES[name].topic)
    alone = home.decode(record, NOW)
    among = home.decode_all([Raw(text(name)), record, binary(name)], NOW)
    assert [*among.rejects, among.events[1]][0] == alone
    return alone


def refused(record: Raw) -> tuple[Reason, str]:
    found = read(record)
    assert isinstance(found, Reject)
    return found.reason, found.detail


@pytest.mark.parametrize("name", DATA)
def test_both_modes_carry_the_same_event(name: str) -> None:
    assert read(binary(name), name) == accepted(text(name))


def test_header_names_are_compared_without_case_and_the_last_of_two_counts() -> None:
    record = binary()
    shouted = Raw(record.value, [("CE_ID", b"first"), *((n.upper(), v) for n, v in record.headers)])
    assert read(shouted) == accepted(text())


def test_texts_in_headers_are_utf8_and_may_need_escapes_in_json() -> None:
    found = read(binary(id='ä"\\\n😀'.encode()))
    assert isinstance(found, Event)
    assert found.id == 'ä"\\\n😀'


@pytest.mark.parametrize(
    ("content_type", "mode"),
    [
        (b"application/cloudevents+json", "structured"),
        (b"application/cloudevents+json; charset=UTF-8", "structured"),
        (b" Application/CloudEvents", "structured"),
        (b"application/json", "binary"),
        (b"", "binary"),
        (None, "binary"),
    ],
)
def test_the_content_type_decides_where_it_names_cloudevents(content_type: bytes | None, mode: str) -> None:
    headers: Headers = [("Content-Type", content_type), *binary(id=b"from-the-header").headers]
    for ordered in (headers, headers[::-1]):
        found = read(Raw(msgspec.json.encode({**event(), **DATA["client.seen"]}), ordered))
        assert isinstance(found, Event)
        assert found.id == ("i" if mode == "structured" else "from-the-header")


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", b"00-1-2-01")],
        [("content-type", b"application/json")],
        [("ce_other", b"x")],
        [("x", None)],
    ],
)
def test_other_headers_leave_the_mode_structured(headers: Headers) -> None:
    assert read(Raw(text(), headers)) == accepted(text())


@pytest.mark.parametrize(
    ("attributes", "detail"),
    [
        ({"id": None}, "id: expected str, got null"),
        ({"id": b""}, "id: empty"),
        ({"id": b"a\0b"}, "id: holds U+0000 or half a surrogate pair, which cannot be stored"),
        ({"id": b"\xff"}, "id: the header ce_id is not UTF-8"),
        ({"source": b"\xed\xa0\x80"}, "source: the header ce_source is not UTF-8"),
        ({"source": b"s" * 256}, "source: longer than 255 characters (256)"),
        ({"time": b"yesterday"}, "time: not an RFC 3339 date and time"),
        ({"specversion": b"0.3"}, "specversion: expected '1.0'"),
        ({"type": None}, "type: not a string"),
    ],
)
def test_an_invalid_attribute_is_named_as_in_structured_mode(
    attributes: Mapping[str, Any], detail: str
) -> None:
    assert refused(binary(**attributes)) == (Reason.INVALID, detail)


@pytest.mark.parametrize("name", ["id", "source", "type", "time", "specversion"])
def test_a_missing_attribute_is_named(name: str) -> None:
    record = binary()
    assert refused(Raw(record.value, [h for h in record.headers if h[0] != f"ce_{name}"])) == (
        Reason.INVALID,
        f"{name}: missing",
    )


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"", "not JSON: Input data was truncated"),
        (b"[]", "not a JSON object but an array"),
        (b'{"client_id":"\xff"}', "not UTF-8"),
        (b'{"client_id":"c"},"id":"forged"', "not JSON: trailing characters"),
        (b'{"client_id":"c"}}', "not JSON: trailing characters"),
        (b"[" * 30_000, "nested deeper than 500 levels"),
    ],
)
def test_data_that_is_no_json_object_is_malformed_and_cannot_forge_the_envelope(
    value: bytes, detail: str
) -> None:
    reason, found = refused(binary(value=value))
    assert (reason, found[: len(detail)]) == (Reason.MALFORMED, detail)


def test_a_tombstone_is_malformed_in_binary_mode_too() -> None:
    assert refused(Raw(None, binary().headers)) == (Reason.MALFORMED, "no value (a tombstone)")


def test_a_time_in_a_header_is_cut_off_to_microseconds_too() -> None:
    found = read(binary(time=b"2026-11-21T09:59:59.999999999Z"))
    assert isinstance(found, Event)
    assert found.time.isoformat() == "2026-11-21T09:59:59.999999+00:00"


def test_the_size_of_an_event_in_binary_mode_includes_its_attributes() -> None:
    record = binary()
    size = len(record.value or b"") + sum(len(v or b"") for _, v in record.headers)
    for most, kind in ((size, "ClientSeen"), (size - 1, "Reject")):
        clients = Decoder((TYPES["client.seen"],), "activity.client", CATALOGUE, Limits(most))
        assert type(clients.decode(record, NOW)).__name__ == kind
        assert len(clients.decode_all([record] * 3, NOW).rejects) == 3 * (kind == "Reject")
