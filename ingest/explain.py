"""Why an event was refused, told as `field: reason` from what msgspec says.

What it says may quote the event; what is told here never does, because details end up in headers,
logs and terminals, and ids are personal.
"""

import re
from collections.abc import Callable
from datetime import date, datetime
from functools import cache

import msgspec
from msgspec import inspect

from ingest.events import Event, Timestamp
from ingest.jsontext import Refused, invalid, member
from ingest.record import Reason
from ingest.timezones import ZONE_NAMES

OUTSIDE = "outside the years 1 to 9999 in UTC"
MOST_CHOICES = 12

_rfc3339 = msgspec.json.Decoder(Timestamp).decode


def explained(error: Exception, value: bytes, event: type[Event]) -> Refused:
    """The refusal that `error` stands for, raised while `value` was decoded as an `event`."""
    if isinstance(error, OverflowError):
        return invalid("time", OUTSIDE)
    if not isinstance(error, ValueError):
        return invalid("event", f"cannot be read ({type(error).__name__})")
    # From the right: what is on the left may quote the event.
    what, found, path = str(error).rpartition(" - at `$")
    what, path = (what, path.strip("`.")) if found else (path, "")
    for pattern, tell in _TELL:
        if match := pattern.fullmatch(what):
            return tell(match, path, value, event)
    what = what.replace("`", "")
    return invalid(path, what[:1].lower() + what[1:]) if path else Refused(Reason.INVALID, what)


def cut(text: str) -> datetime:
    """The time that RFC 3339 `text` tells, without what is beyond microseconds.

    Cut off and not rounded, as msgspec does: the last instant of a day stays in that day. Raises
    msgspec.DecodeError where `text` is no such time.
    """
    if text[19:20] == "." and text[20:27].isdecimal():
        text = text[:26] + text[26:].lstrip("0123456789")
    return _rfc3339(f'"{text}"')


def _missing(match: re.Match[str], path: str, value: bytes, event: type[Event]) -> Refused:
    return invalid(f"{path}.{match[1]}" if path else match[1], "missing")


def _too_long(match: re.Match[str], path: str, value: bytes, event: type[Event]) -> Refused:
    text = member(value, path)
    actual = f" ({len(text)})" if isinstance(text, str) else ""
    return invalid(path, f"longer than {match[1]} characters{actual}")


def _empty(match: re.Match[str], path: str, value: bytes, event: type[Event]) -> Refused:
    return invalid(path, "empty" if match[1] == "1" else f"shorter than {match[1]} characters")


def _type(match: re.Match[str], path: str, value: bytes, event: type[Event]) -> Refused:
    return invalid(path, f"expected {match[1]}, got {match[2]}")


def _no_choice(match: re.Match[str], path: str, value: bytes, event: type[Event]) -> Refused:
    choices = _choices(event, path)
    if choices >= ZONE_NAMES:
        return invalid(path, "neither an IANA time zone of the tzdata package nor an offset such as +05:30")
    if 0 < len(choices) <= MOST_CHOICES:
        return invalid(path, f"expected {' or '.join(sorted(map(repr, choices)))}")
    return invalid(path, "not one of the values allowed")


def _tag(match: re.Match[str], path: str, value: bytes, event: type[Event]) -> Refused:
    return invalid(path, "given twice")


def _naive(match: re.Match[str], path: str, value: bytes, event: type[Event]) -> Refused:
    return invalid(path, "has no offset from UTC")


def _time(match: re.Match[str], path: str, value: bytes, event: type[Event]) -> Refused:
    text = member(value, path)
    if not isinstance(text, str):
        return invalid(path, "not an RFC 3339 date and time")
    if text[17:19] == "60":
        return invalid(path, "leap second (:60), which no clock here can represent")
    try:
        cut(text)
    except msgspec.DecodeError:
        return invalid(path, "not an RFC 3339 date and time")
    return Refused(Reason.FUTURE, f"{path}: in the last microsecond of the year {date.max.year}")


def _choices(event: type[Event], path: str) -> frozenset[object]:
    """The values that a Literal or an enumeration at `path` allows; empty where none is found."""
    return _allowed(event).get(path, frozenset())


@cache
def _allowed(event: type[Event]) -> dict[str, frozenset[object]]:
    found: dict[str, frozenset[object]] = {}
    _collect(inspect.type_info(event), "", found)
    return found


def _collect(kind: inspect.Type, path: str, found: dict[str, frozenset[object]]) -> None:
    match kind:
        case inspect.LiteralType(values=values):
            found[path] = frozenset(values)
        case inspect.UnionType(types=types):
            for one in types:
                _collect(one, path, found)
        case inspect.StructType(fields=fields):
            for each in fields:
                _collect(each.type, f"{path}.{each.encode_name}".lstrip("."), found)


_TELL: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], str, bytes, type[Event]], Refused]], ...] = (
    (re.compile(r"Object missing required field `(.*)`"), _missing),
    (re.compile(r"Expected `str` of length <= (\d+)"), _too_long),
    (re.compile(r"Expected `str` of length >= (\d+)"), _empty),
    (re.compile(r"Expected `datetime` with a timezone component"), _naive),
    (re.compile(r"Expected `([^`]*)`, got `([^`]*)`"), _type),
    (re.compile(r"Invalid RFC3339 encoded datetime"), _time),
    (re.compile(r"Invalid enum value .*", re.DOTALL), _no_choice),
    (re.compile(r"Invalid value .*", re.DOTALL), _tag),
)
