"""Records that hurt, for any projection: made from the types of the events it folds.

Nothing here knows a projection or an event type by name, so a new one is covered as it stands.
Hypothesis draws bytes and a `Tape` reads choices off them: that is quick, keeps every example
different from the last, and shrinks to few events made of the first of each list below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from ingest.contract import Event
from ingest.projection import Projection
from tests.values import (
    DAYS,
    EARLIEST,
    LIMITS,
    MICROSECOND,
    MOMENTS,
    NOW,
    OFFSETS,
    SMALL,
    TAILS,
    TEXTS,
    ZONE_OF,
    ZONES,
)

__all__ = ["LIMITS", "NOW", "PlainRecord", "Tape", "event", "logs", "tapes"]

T = TypeVar("T")
MOST_RECORDS = 30


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


class Tape:
    """Choices read off bytes; once these are used up, always the first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __repr__(self) -> str:
        return f"Tape({self._data.rstrip(bytes(1))!r})"

    @property
    def used_up(self) -> bool:
        return self._at >= len(self._data)

    def number(self, below: int) -> int:
        """A number from 0 up to `below`, at most 256."""
        byte = 0 if self.used_up else self._data[self._at]
        self._at += 1
        return byte % below

    def choice(self, options: Sequence[T]) -> T:
        return options[self.number(len(options))]

    def one_in(self, n: int) -> bool:
        return self.number(n) == n - 1

    def shuffled(self, items: Sequence[T]) -> list[T]:
        rest = list(items)
        return [rest.pop(self.number(len(rest))) for _ in items]

    def chunks(self, items: Sequence[T], most: int = 5) -> list[Sequence[T]]:
        """`items` cut into 1 to `most` parts, some of them perhaps empty."""
        cuts = sorted(self.number(len(items) + 1) for _ in range(self.number(most)))
        return [items[a:b] for a, b in pairwise([0, *cuts, len(items)])]

    def parted(self, items: Sequence[T]) -> tuple[list[T], list[T]]:
        """Each item on one of two sides."""
        sides: tuple[list[T], list[T]] = ([], [])
        for item in items:
            sides[self.number(2)].append(item)
        return sides


tapes = st.builds(Tape, st.binary(min_size=100, max_size=100))
"""Choices about what to do with the records of an example."""


def logs(projection: Projection, catalogue: Mapping[str, str]) -> st.SearchStrategy[list[PlainRecord]]:
    """What a topic may hold: mostly events of `projection`, some that it skips or must reject."""
    # Equal alternatives would count as one, and short logs are found by shrinking anyway.
    sizes = ((15, 60), (100, 300), (160, 480), (200, 480))
    data = st.one_of([st.binary(min_size=least, max_size=most) for least, most in sizes])
    return data.map(lambda drawn: _log(projection, catalogue, Tape(drawn)))


def event(
    kind: type[Event], time: datetime | str, id: str = "1", source: str = "/test", **data: Any
) -> bytes:
    """One event as it stands in a record's value."""
    spelled = time if isinstance(time, str) else time.isoformat()
    envelope = {"specversion": "1.0", "type": kind.type_name(), "id": id, "source": source, "time": spelled}
    return msgspec.json.encode({**envelope, "data": data})


class Scene:
    """What the events of one example choose from: few enough to make them collide."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self._moments = [tape.choice(MOMENTS) for _ in range(1 + tape.number(2))]
        self._texts = [tape.choice(TEXTS) for _ in range(1 + tape.number(5))]
        self._zones = [tape.choice(ZONES) for _ in range(1 + tape.number(3))]

    def text(self, most: int) -> str:
        text = self._texts[min(self.tape.number(7), self.tape.number(7)) % len(self._texts)]
        return text[6] * most if text.startswith("long: ") else text[:most]

    def zone(self) -> str:
        return self.tape.choice(self._zones)

    def time(self) -> datetime:
        days, small = self.tape.choice(DAYS), self.tape.choice(SMALL)
        return min(max(self.tape.choice(self._moments) + days + small, EARLIEST), NOW)

    def spelled(self, time: datetime) -> str:
        offset = self.tape.choice(OFFSETS)
        text = time.astimezone(ZONE_OF[offset]).isoformat(timespec="microseconds")
        return text[:26] + self.tape.choice(TAILS) + offset


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before it is encoded; `time` is its spelling."""

    kind: type[Event]
    id: str
    source: str
    time: str
    data: Mapping[str, Any]


def _log(projection: Projection, catalogue: Mapping[str, str], tape: Tape) -> list[PlainRecord]:
    scene = Scene(tape)
    partitions = 1 + tape.number(3)
    records: list[PlainRecord] = []
    drafts: list[Draft] = []
    while not tape.used_up and len(records) < MOST_RECORDS:
        value, headers = _next(projection, catalogue, scene, drafts)
        n = len(records)
        where = (projection.topic, n % partitions, n // partitions)
        records.append(PlainRecord(value, *where, timestamp_type=n % 2, headers=headers))
    return records


def _next(
    projection: Projection, catalogue: Mapping[str, str], scene: Scene, drafts: list[Draft]
) -> tuple[bytes | None, Sequence[tuple[str, bytes | None]]]:
    what = scene.tape.number(12)
    if what == 11:
        return scene.tape.choice(_strange(projection, catalogue)), []
    draft = _twin(scene.tape, drafts) if what >= 9 and drafts else _draft(scene, projection.events)
    drafts.append(draft)
    attributes = {"id": draft.id, "source": draft.source, "type": draft.kind.type_name(), "time": draft.time}
    if scene.tape.one_in(10):
        headers = {**attributes, "specversion": "1.0"}
        return msgspec.json.encode(draft.data), [(f"ce_{n}", v.encode()) for n, v in headers.items()]
    return msgspec.json.encode({"specversion": "1.0", **attributes, "data": draft.data}), []


def _draft(scene: Scene, kinds: Sequence[type[Event]]) -> Draft:
    kind, time = scene.tape.choice(kinds), scene.time()
    data = _value(scene, time, "data", _data_type(kind))
    return Draft(kind, scene.text(128), scene.text(255), scene.spelled(time), data)


def _twin(tape: Tape, drafts: Sequence[Draft]) -> Draft:
    """An event that claims the identity and time of an earlier one, with another value in one field."""
    draft = tape.choice(drafts[-4:])
    other = tape.choice([d for d in drafts if d.kind is draft.kind])
    name = tape.choice(sorted(draft.data.keys() | other.data.keys()))
    kept = {key: value for key, value in draft.data.items() if key != name}
    changed = {name: other.data[name]} if name in other.data else {}
    return replace(draft, data=kept | changed)


@cache
def _data_type(kind: type[Event]) -> inspect.Type:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return next(f.type for f in info.fields if f.name == "data")


def _value(scene: Scene, time: datetime, name: str, kind: inspect.Type) -> Any:
    """A value of a field, by its type. A new kind of field needs a line here, and nothing else."""
    tape = scene.tape
    match kind:
        case inspect.StructType(fields=fields):
            present = [f for f in fields if f.required or tape.number(2)]
            return {f.encode_name: _value(scene, time, f.name, f.type) for f in present}
        case inspect.UnionType(types=kinds):
            return _value(scene, time, name, tape.choice(kinds))
        case inspect.NoneType():
            return None
        case inspect.LiteralType(values=values):
            return scene.zone() if "UTC" in values else tape.choice(values)
        case inspect.StrType(min_length=least, max_length=most):
            return "" if not least and tape.one_in(4) else scene.text(most or 100)
        case inspect.IntType(ge=least, le=most):
            return tape.choice(_integers(least, most))
        case inspect.FloatType():
            return tape.choice((0.0, 0.5, -1.5, 1e-9, 1e15))
        case inspect.BoolType():
            return bool(tape.number(2))
        case inspect.DateType():
            return (time.date() - timedelta(days=tape.number(7))).isoformat()
        case inspect.DateTimeType():
            return scene.spelled(scene.time())
        case inspect.ListType(item_type=item):
            return [_value(scene, time, name, item) for _ in range(tape.number(4))]
    raise NotImplementedError(f"no values for the field {name}: {kind}")


@cache
def _integers(least: int | None, most: int | None) -> Sequence[int]:
    """Few values, the limits among them; a limit in the ten thousands is a length, and costs as much."""
    low = least if least is not None else -(2**31)
    high = most if most is not None else 2**31 - 1
    some = {low, low + 1, *(n for n in (2, 3, 4, 5, 9, 100) if low <= n <= high)}
    if not 10_000 <= high <= 100_000:
        some.add(high)
    return sorted(some)


def _strange(projection: Projection, catalogue: Mapping[str, str]) -> Sequence[bytes | None]:
    """Records that nobody can read, that belong elsewhere, or that come too early or too late."""
    mine = projection.events[0]
    skipped = [n for n, home in catalogue.items() if home == projection.topic]
    foreign = [n for n, home in catalogue.items() if home != projection.topic]
    return [
        None,
        b"",
        b"\xff",
        b"null",
        b'{"type":"',
        event(mine, MOMENTS[0]),
        event(mine, NOW + timedelta(days=1)),
        event(mine, EARLIEST - MICROSECOND),
        event(mine, MOMENTS[0], id="\0"),
        *(
            event(mine, MOMENTS[0]).replace(mine.type_name().encode(), name.encode())
            for name in ("no.such", *foreign[:2], *skipped)
        ),
        b'{"specversion":"1.0","type":"' + mine.type_name().encode() + b'","id":"\\ud800"}',
    ]
