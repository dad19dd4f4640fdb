"""Records that hurt, for any projection: made from the types of the events it folds.

Nothing here knows a projection or an event type by name, so a new one is covered as it stands. What
is drawn are small numbers that point into a few pools chosen for each example: that keeps drawing
quick, and makes keys, times, ids and sources collide.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from ingest.contract import Event, Limits
from ingest.projection import Projection

NOW = datetime(2200, 1, 1, tzinfo=UTC)
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LIMITS = Limits(earliest_time=EARLIEST)
"""As wide as settings allow."""

MICROSECOND = timedelta(microseconds=1)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


MOMENTS = tuple(
    map(
        _utc,
        (
            "2026-03-10T00:00:00",  # a day's edge
            "2026-12-31T23:59:59.999999",  # a year's
            "2024-02-29T12:00:00",
            "1900-01-01T00:00:00",  # the earliest there may be
            "1969-12-31T23:59:59.999999",  # on both sides of zero
            "2038-01-19T03:14:07",  # on both sides of 32 bits
            "2199-12-31T22:00:00",
            "2026-03-08T07:00:00",  # New York springs forward
            "2026-11-01T05:30:00",  # New York's doubled hour
            "2018-11-04T03:00:00",  # São Paulo skips midnight
            "2026-03-08T03:29:00",  # St John's, before an offset of -02:30
            "2011-12-30T10:00:00",  # Apia skips this whole day
            "2026-04-04T15:00:00",  # Lord Howe goes back half an hour
            "1985-12-31T18:30:00",  # Kathmandu moves from +05:30 to +05:45
            "1937-06-30T23:40:28",  # Amsterdam leaves +00:19:32
        ),
    )
)
STEPS = tuple(
    timedelta(days=days) + small
    for days in range(-4, 5)
    for small in (
        timedelta(0),
        -MICROSECOND,
        MICROSECOND,
        timedelta(milliseconds=1),
        timedelta(seconds=59, microseconds=999_999),
        timedelta(minutes=5),
        timedelta(minutes=60),
        timedelta(hours=11, minutes=17),
    )
)
SAME = (timedelta(0),) * 24
OFFSETS = ("Z", "+00:00", "+05:30", "+05:45", "-03:30", "+14:00", "-12:00")
TAILS = ("", "", "", "000", "999")
"""Digits after the microseconds: they are cut off."""

ZONES = (
    "UTC",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Europe/Amsterdam",
    "+05:30",
    "+05:45",
    "-03:30",
    "+14:00",
    "-12:00",
    "+23:59",
    "-23:59",
)
TEXTS = (
    "a",
    "B",
    "A",
    "ä",
    "_",
    "😀",
    "\uffff",  # before 😀 by code point, behind it in UTF-16
    "é",
    "e\u0301",
    "a ",
    "a_b",
    "b_c",
    "c",
    "0",
    "10",
    "9",
    '"',
    "\\",
    "\\N",
    "'",
    "{}",
    "{a,b}",
    '{"a"}',
    ",",
    "%s$1",
    "NaN",
    "null",
    "NULL",
    "Infinity",
    "-infinity",
    "true",
    "\t\r\n",
    "\x01\x7f",
    "\u2028\u202e",
    "../../etc",
    "long: x",
    "long: 😀",
)
"""Under `long: c` a field gets as many `c` as it takes."""
TEXTS_IN_AN_EXAMPLE = 5


class Pick(NamedTuple):
    """Stands for a value until the example's pools are known."""

    of: str
    index: int


class Pools(NamedTuple):
    """What one example chooses from."""

    moments: Sequence[datetime]
    texts: Sequence[str]
    zones: Sequence[str]

    def text(self, index: int, most: int) -> str:
        text = self.texts[index % len(self.texts)]
        return text[6] * most if text.startswith("long: ") else text[:most]


class Moment(NamedTuple):
    """A time as drawn: how far from which of the example's moments, and how it is spelled."""

    index: int
    step: timedelta
    offset: str
    tail: str

    def time(self, pools: Pools) -> datetime:
        time = pools.moments[self.index % len(pools.moments)] + self.step
        return min(max(time, EARLIEST), NOW)

    def spelled(self, pools: Pools) -> str:
        sign = -1 if self.offset.startswith("-") else 1
        hours, _, minutes = "0:0" if self.offset == "Z" else self.offset[1:].partition(":")
        zone = timezone(sign * timedelta(hours=int(hours), minutes=int(minutes)))
        text = self.time(pools).astimezone(zone).isoformat(timespec="microseconds")
        return f"{text[:26]}{self.tail}{self.offset}"


@dataclass(frozen=True, slots=True)
class PlainRecord:
    """A record without Kafka."""

    value: bytes | None = None
    topic: str = "topic"
    partition: int = 0
    offset: int = 0
    timestamp: int = int(NOW.timestamp() * 1000)
    timestamp_type: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = field(default_factory=list)


class Twin(NamedTuple):
    """An event that claims the identity and time of an earlier one, with another value in one field."""

    back: int
    place: int


Spec: TypeAlias = tuple[str, Moment, int, int, Mapping[str, Any], bool]


def logs(
    projection: Projection, catalogue: Mapping[str, str], max_size: int = 30
) -> st.SearchStrategy[list[PlainRecord]]:
    """What a topic may hold: mostly events of `projection`, some that it skips or must reject."""
    events = st.one_of([_spec(event) for event in projection.events])
    strange = st.sampled_from(_strange(projection, catalogue))
    # Strange ones and twins are rare enough to leave the tables full.
    kinds = {11: strange, 10: _twins, 9: _twins}
    entry = st.integers(0, 11).flatmap(lambda n: kinds.get(n, events))
    few, many = st.lists(entry, max_size=6), st.lists(entry, min_size=8, max_size=max_size)
    return st.builds(_log, st.just(projection.topic), _pools, st.one_of(few, many), st.integers(1, 3))


_pools = st.builds(
    Pools,
    st.lists(st.sampled_from(MOMENTS), min_size=1, max_size=2),
    st.lists(st.sampled_from(TEXTS), min_size=1, max_size=TEXTS_IN_AN_EXAMPLE, unique=True),
    st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True),
)
_twins = st.builds(Twin, st.integers(0, 3), st.integers(0, 11))
_moments = st.builds(
    Moment,
    st.integers(0, 1),
    st.sampled_from(SAME + STEPS),
    st.sampled_from(OFFSETS),
    st.sampled_from(TAILS),
)


def _log(
    topic: str, pools: Pools, entries: Iterable[Spec | Twin | bytes | None], partitions: int
) -> list[PlainRecord]:
    records: list[PlainRecord] = []
    specs: list[Spec] = []
    for entry in entries:
        if isinstance(entry, Twin):
            entry = _twin(entry, specs)
        if isinstance(entry, tuple):
            specs.append(entry)
        value, headers = _message(entry, pools) if isinstance(entry, tuple) else (entry, [])
        n = len(records)
        place, offset = n % partitions, n // partitions
        records.append(PlainRecord(value, topic, place, offset, timestamp_type=n % 2, headers=headers))
    return records


def _twin(twin: Twin, specs: Sequence[Spec]) -> Spec | None:
    if not specs:
        return None
    event_type, *identity, data, binary = specs[-1 - twin.back % len(specs)]
    others = [spec for spec in specs if spec[0] == event_type]
    other = others[twin.place % len(others)][-2]
    name = sorted(data.keys() | other.keys())[twin.place % len(data.keys() | other.keys())]
    changed = {k: v for k, v in data.items() if k != name} | ({name: other[name]} if name in other else {})
    return (event_type, *identity, changed, binary)  # type: ignore[return-value]


def _message(spec: Spec, pools: Pools) -> tuple[bytes, list[tuple[str, bytes | None]]]:
    event_type, moment, id_index, source_index, data, binary = spec
    attributes = {
        "specversion": "1.0",
        "id": pools.text(id_index, 128),
        "source": pools.text(source_index, 255),
        "type": event_type,
        "time": moment.spelled(pools),
    }
    body = {name: _resolved(value, pools, moment) for name, value in data.items()}
    if binary:
        return msgspec.json.encode(body), [(f"ce_{n}", v.encode()) for n, v in attributes.items()]
    return msgspec.json.encode({**attributes, "data": body}), []


def _resolved(value: Any, pools: Pools, moment: Moment) -> Any:
    if isinstance(value, Pick):
        if value.of == "zone":
            return pools.zones[value.index % len(pools.zones)]
        if value.of == "date":
            return (moment.time(pools).date() - timedelta(days=value.index)).isoformat()
        return pools.text(value.index, int(value.of))
    if isinstance(value, Moment):
        return value.spelled(pools)
    if isinstance(value, dict):
        return {name: _resolved(part, pools, moment) for name, part in value.items()}
    return [_resolved(part, pools, moment) for part in value] if isinstance(value, list) else value


@lru_cache
def _spec(event: type[Event]) -> st.SearchStrategy[Spec]:
    info = inspect.type_info(event)
    assert isinstance(info, inspect.StructType)
    data = next(f.type for f in info.fields if f.name == "data")
    # Few ids and sources: equal ids from two sources, and one identity with two contents, must occur.
    few = st.integers(0, 2)
    return st.tuples(st.just(event.type_name()), _moments, few, few, _values("data", data), _seldom)


_skewed = st.sampled_from((0, 0, 0, 1, 1, 2, 3, 4))  # a few entities get most of the events
_seldom = st.integers(0, 9).map(lambda n: n == 9)


def _struct(kind: inspect.StructType) -> st.SearchStrategy[Any]:
    required = {f.encode_name: _values(f.name, f.type) for f in kind.fields if f.required}
    optional = {f.encode_name: _values(f.name, f.type) for f in kind.fields if not f.required}
    return st.fixed_dictionaries(required, optional=optional)


def _values(name: str, kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a field, by its type. A new kind of field needs a line here, and nothing else."""
    match kind:
        case inspect.StructType():
            return _struct(kind)
        case inspect.UnionType(types=kinds):
            return st.one_of([_values(name, k) for k in kinds])
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType(values=values) if "UTC" in values:
            return st.builds(Pick, st.just("zone"), st.integers(0, 2))
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.StrType(min_length=least, max_length=most):
            text = st.builds(Pick, st.just(str(most or 100)), _skewed)
            return text if least else st.one_of(st.just(""), text)
        case inspect.IntType(ge=least, le=most):
            return _integers(least, most)
        case inspect.FloatType(ge=least, le=most):
            return st.floats(least, most, allow_nan=False, allow_infinity=False)
        case inspect.BoolType():
            return st.booleans()
        case inspect.DateType():
            return st.builds(Pick, st.just("date"), st.integers(0, 6))
        case inspect.DateTimeType():
            return _moments
        case inspect.ListType(item_type=item):
            return st.lists(_values(name, item), max_size=3)
    raise NotImplementedError(f"no values for the field {name}: {kind}")


def _integers(least: int | None, most: int | None) -> st.SearchStrategy[int]:
    """Few values, the limits among them; a limit in the ten thousands is a length, and costs as much."""
    low = least if least is not None else -(2**31)
    high = most if most is not None else 2**31 - 1
    some = {low, low + 1, *(n for n in (2, 3, 4, 5, 9, 100) if low <= n <= high)}
    if not 10_000 <= high <= 100_000:
        some.add(high)
    return st.sampled_from(sorted(some))


def _strange(projection: Projection, catalogue: Mapping[str, str]) -> list[bytes | None]:
    """Records that nobody can read, that belong elsewhere, or that come too early or too late."""
    mine = projection.events[0].type_name()
    folded = {event.type_name() for event in projection.events}
    event = partial(_envelope, projection.events[0])
    return [
        None,
        b"",
        b"\xff",
        b"null",
        b'{"type":"',
        event({}),
        event({"time": (NOW + timedelta(days=1)).isoformat()}),
        event({"time": (EARLIEST - MICROSECOND).isoformat()}),
        event({"data": None}),
        event({"id": "\0"}),
        event({"type": "no.such"}),
        b'{"specversion":"1.0","type":"' + mine.encode() + b'","id":"\\ud800"}',
        *(event({"type": name}) for name in catalogue if name not in folded),
    ]


def _envelope(event: type[Event], changes: Mapping[str, Any]) -> bytes:
    complete = {"specversion": "1.0", "type": event.type_name(), "id": "1", "source": "s", "data": {}}
    return msgspec.json.encode({**complete, "time": MOMENTS[0].isoformat(), **changes})


def chunks(records: Sequence[PlainRecord], cuts: Iterable[int]) -> list[Sequence[PlainRecord]]:
    """`records` cut at positions that may be doubled and lie anywhere."""
    edges = [0, *sorted(cut % (len(records) + 1) for cut in cuts), len(records)]
    return [records[a:b] for a, b in pairwise(edges)]


cuts = st.lists(st.integers(0, 30), min_size=1, max_size=4)


def event(
    kind: type[Event],
    time: datetime | str,
    id: str = "1",
    source: str = "/test",
    **data: Any,
) -> bytes:
    """One event as it stands in a record's value."""
    spelled = time if isinstance(time, str) else time.isoformat()
    envelope = {"specversion": "1.0", "type": kind.type_name(), "id": id, "source": source, "time": spelled}
    return msgspec.json.encode({**envelope, "data": data})
