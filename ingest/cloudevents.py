"""CloudEvents 1.0 on Kafka: the event's JSON text, from a record in either content mode.

*Structured* mode: the value is the whole event. *Binary* mode: the value is `data`, and the headers
`ce_id`, `ce_source`, `ce_type`, `ce_time`, `ce_specversion` hold the attributes. Which one it is:

1. a `content-type` that begins with `application/cloudevents` means structured, whatever else is there;
2. otherwise any of those `ce_` headers means binary;
3. otherwise structured: most producers of structured events send no headers at all.

Header names are compared without regard to case; of a header given twice the last one counts.
"""

from collections.abc import Mapping, Sequence

import msgspec

from ingest.jsontext import Refused, check_object, check_text, invalid, malformed
from ingest.record import Reason, Record

ATTRIBUTES = {f"ce_{name}": name for name in ("type", "specversion", "id", "source", "time")}
STRUCTURED = b"application/cloudevents"


def attributes(headers: Sequence[tuple[str, bytes | None]]) -> Mapping[str, bytes | None]:
    """The event's attributes where these are the headers of a record in binary mode; else none."""
    found: dict[str, bytes | None] = {}
    for name, value in headers:
        name = name.lower()
        if name in ATTRIBUTES:
            found[ATTRIBUTES[name]] = value
        elif name == "content-type" and value and value.lstrip().lower().startswith(STRUCTURED):
            return {}
    return found


def event_text(record: Record, most: int) -> bytes:
    """The whole event as JSON text, not looked into any further in structured mode.

    Raises Refused where it is larger than `most` bytes (the value and, in binary mode, the attributes),
    where there is no value, and in binary mode where value and headers make no JSON object.
    """
    value = record.value
    size = 0 if value is None else len(value)
    given = attributes(record.headers) if record.headers else None
    if given:
        size += sum([len(text or b"") for text in given.values()])
    if size > most:
        raise Refused(Reason.TOO_LARGE, f"{size} bytes, of which at most {most} are allowed")
    if value is None:
        raise malformed("no value (a tombstone)")
    return _assembled(value, given) if given else value


def _assembled(data: bytes, given: Mapping[str, bytes | None]) -> bytes:
    check_text(data)
    # By itself first: a value such as `1,"id":"x"` must not get to write the envelope.
    check_object(data)
    members = [
        f'"{name}":'.encode() + _text(name, given[name]) for name in ATTRIBUTES.values() if name in given
    ]
    return b"{" + b",".join([*members, b'"data":' + data]) + b"}"


def _text(name: str, value: bytes | None) -> bytes:
    try:
        return msgspec.json.encode(None if value is None else value.decode())
    except UnicodeDecodeError:
        raise invalid(name, f"the header ce_{name} is not UTF-8") from None
