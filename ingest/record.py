"""What Kafka hands over and how it is addressed: partitions, offsets, records, refusals.

Pure data, no behaviour: every other file speaks in these names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias

LOG_APPEND_TIME = 1  # a record's `timestamp_type` when the broker, not the producer, stamped it


class Partition(NamedTuple):
    """One partition of one topic; sorts by topic name, then number."""

    topic: str
    number: int


Offsets: TypeAlias = Mapping[Partition, int]
"""For each partition the *next* offset to read, as Kafka commits it (not the last one read)."""


class Record(Protocol):
    """One Kafka record as read, bytes untouched. An aiokafka `ConsumerRecord` is one as it stands."""

    @property
    def topic(self) -> str: ...

    @property
    def partition(self) -> int: ...

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int:
        """Epoch milliseconds; who set it is said by `timestamp_type`. -1 where there is none."""
        ...

    @property
    def timestamp_type(self) -> int:
        """0 = set by the producer (CreateTime), 1 = set by the broker (LogAppendTime)."""
        ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Reason(StrEnum):
    """Why a record went to the dead-letter topic; a bounded set, so a metric label as well."""

    MALFORMED = "malformed"
    INVALID = "invalid"
    UNKNOWN_TYPE = "unknown_type"
    WRONG_TOPIC = "wrong_topic"
    FUTURE = "future"
    PAST = "past"
    TOO_LARGE = "too_large"
    UNSTORABLE = "unstorable"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be folded, with the reason and where in the event it lies.

    `detail` is one bounded line for people (at most 500 characters) and repeats no id from the event.
    `sqlstate` and `constraint` are set only where Postgres refused the row (`UNSTORABLE`).
    """

    record: Record
    reason: Reason
    detail: str
    sqlstate: str | None = None
    constraint: str | None = None
