"""What must hold of an event's JSON text beyond what msgspec checks, and the refusals that follow.

msgspec skips what no type names: there it accepts bytes that are not UTF-8. It accepts U+0000, which
Postgres cannot store, calls half a surrogate pair a syntax error, rounds times to microseconds, and
its limit on nesting depends on how deep its caller's stack happens to be.
"""

import re

import msgspec

from ingest.record import Reason

MOST_LEVELS = 500
"""Deepest nesting of arrays and objects that is accepted."""

_syntax = msgspec.json.Decoder(msgspec.Raw).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_strings_and_brackets = re.compile(rb'"(?:[^"\\]|\\.)*"|([\[{])|[\]}]', re.DOTALL)
_escapes = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair: one character
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_long_fraction = re.compile(rb"\.\d{7}").search
_zero_digit_or_stop = re.compile(rb"\\u00(?:00|2[eE]|3\d)").search


class Refused(Exception):
    """The record is to be rejected for `reason`; `detail` says which field and why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def malformed(why: str) -> Refused:
    return Refused(Reason.MALFORMED, why)


def invalid(field: str, why: str) -> Refused:
    return Refused(Reason.INVALID, f"{field}: {why}")


def has_long_fraction(text: bytes) -> bool:
    """Whether `text` may hold a time finer than microseconds; never wrongly False, escapes apart."""
    return _long_fraction(text) is not None


def has_treacherous_escape(text: bytes) -> bool:
    """Whether `text` may hold U+0000, or a digit or full stop of a time, spelled as an escape."""
    return b"\\" in text and _zero_digit_or_stop(text) is not None


def is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        return bool(text.decode())
    except UnicodeDecodeError:
        return False


def check_text(value: bytes) -> None:
    """Raises Refused where `value` is not UTF-8 throughout or is nested too deeply."""
    if not is_utf8(value):
        raise malformed("not UTF-8")
    if too_deep(value):
        raise malformed(f"nested deeper than {MOST_LEVELS} levels")


def too_deep(value: bytes) -> bool:
    """Whether arrays and objects lie more than MOST_LEVELS deep in `value`."""
    if len(value) <= 2 * MOST_LEVELS or value.count(b"[") + value.count(b"{") <= MOST_LEVELS:
        return False
    level = deepest = 0
    for found in _strings_and_brackets.finditer(value):
        if found[1]:
            level += 1
            deepest = max(deepest, level)
        elif found[0] in b"]}":
            level -= 1
    return deepest > MOST_LEVELS


def check_object(value: bytes) -> None:
    """Raises Refused where `value` is not exactly one JSON object."""
    try:
        _syntax(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise malformed(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    first = value.lstrip()[:1]
    if first != b"{":
        kinds = {b"[": "an array", b'"': "a string", b"n": "null", b"t": "a boolean", b"f": "a boolean"}
        raise malformed(f"not a JSON object but {kinds.get(first, 'a number')}")


def without_lone_surrogates(value: bytes) -> bytes:
    """`value` with U+0000 in place of every escape that stands for half a surrogate pair.

    Half a pair is no character and cannot be stored, any more than U+0000: one check finds both.
    """
    return _escapes.sub(lambda found: rb"\u0000" if found[1] else found[0], value)


def member(value: bytes, path: str) -> object:
    """What lies at `path` (names joined by dots) in the JSON object `value`; None where nothing does."""
    try:
        for name in path.split("."):
            value = bytes(_members(value)[name])
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, KeyError):
        return None


def text_member(value: bytes, name: str) -> str:
    """The text at `name` in the JSON object `value`. Raises Refused where it is missing or no text."""
    raw = _members(value).get(name)
    if raw is None:
        raise invalid(name, "missing")
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.ValidationError:
        raise invalid(name, "not a string") from None
