"""The dead letters of one projection, by the origin of each: what was rejected, and why."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from ingest.kafka.deadletters import ORIGIN, PROJECTION, REASON
from ingest.record import Partition, Record

Origin: TypeAlias = tuple[Partition, int]


def origin(record: Record) -> Origin:
    """Where the record was first: a replayed dead letter says so itself."""
    if record.headers:
        for name, value in record.headers:
            if name == ORIGIN and (found := parsed(value)):
                return found
    return Partition(record.topic, record.partition), record.offset


def parsed(text: bytes | None) -> Origin | None:
    """`topic:partition:offset`, or None for anything else."""
    try:
        topic, number, offset = (text or b"").decode().rsplit(":", 2)
        return Partition(topic, int(number)), int(offset)
    except ValueError:
        return None


class Letters:
    """`whole`: none has been removed from the dead-letter topic, so what is not here was never rejected."""

    def __init__(self, projection: str) -> None:
        self._projection = projection.encode()
        self._reasons: dict[Partition, dict[int, str]] = {}
        self.whole = True

    def add(self, records: Iterable[Record]) -> None:
        """Take note of those that are this projection's; of an origin's letters the last one counts."""
        for record in records:
            headers = dict(record.headers)
            found = parsed(headers.get(ORIGIN))
            if found and headers.get(PROJECTION) == self._projection:
                partition, offset = found
                reason = (headers.get(REASON) or b"").decode(errors="replace")
                self._reasons.setdefault(partition, {})[offset] = reason

    def reason(self, of: Origin) -> str | None:
        """Why the record of this origin was dead-lettered; None: it was not, as far as is known."""
        partition, offset = of
        return self._reasons.get(partition, {}).get(offset)

    def offsets(self, partition: Partition) -> Mapping[int, str]:
        """The origins in one partition, with their reasons."""
        return self._reasons.get(partition, {})

    def by_reason(self, topic: str) -> dict[str, int]:
        """Number of origins in `topic` by reason; one origin counts once."""
        of = (reasons for partition, reasons in self._reasons.items() if partition.topic == topic)
        return dict(sorted(Counter(reason for reasons in of for reason in reasons.values()).items()))
