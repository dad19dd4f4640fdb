"""Brokers' answers about offsets, read with every error code in them minded. Pure."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from ingest.kafka.faults import code
from ingest.record import Offsets, Partition

READ_UNCOMMITTED, READ_COMMITTED = 0, 1


def by_topic(partitions: Iterable[Partition]) -> list[tuple[str, list[int]]]:
    """As the protocol wants them: each topic once, with its partitions."""
    return [
        (topic, [p.number for p in same]) for topic, same in groupby(sorted(partitions), lambda p: p.topic)
    ]


def offsets_in(answer: Any) -> Offsets:
    """Offsets in a ListOffsets response."""
    found = {}
    for topic, partitions in answer.topics:
        for number, error, _, offset in partitions:
            if error:
                raise code(error, Partition(topic, number))
            found[Partition(topic, number)] = offset
    return found


def ends_in(isolation: int, answer: Any) -> Offsets:
    """High watermarks, or last stable offsets, in a Fetch response; left out where it tells none."""
    found = {}
    for topic, partitions in answer.topics:
        for number, error, high, *rest in partitions:
            end = rest[0] if isolation == READ_COMMITTED and answer.API_VERSION >= 4 else high
            if error == 0 and end >= 0:
                found[Partition(topic, number)] = end
    return found


def commits_in(answer: Any) -> Offsets:
    """Commits in an OffsetFetch response, -1 meaning none.

    An error of the whole group (it moves, or we may not see it) comes with no partitions at all:
    passing over it would look like a group that never committed.
    """
    if number := getattr(answer, "error_code", 0):
        raise code(number)
    found = {}
    for topic, partitions in answer.topics:
        for number, offset, _, error in partitions:
            if error:
                raise code(error, Partition(topic, number))
            if offset >= 0:
                found[Partition(topic, number)] = offset
    return found
