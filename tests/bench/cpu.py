"""Decode and fold alone, in processor time: what an event costs us beside bare msgspec.

The least of several rounds is told, because whatever else the machine does can only add to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from time import process_time
from typing import Any

from aiokafka.structs import ConsumerRecord

from ingest.batch import Batch, Caps
from ingest.contract import Limits
from ingest.postgres.sink import columns
from ingest.record import Partition
from ingest.registry import Registry
from ingest.worker import POLL_RECORDS
from tests.bench.cases import Case, Message, now

EVENTS = 50_000
ROUNDS = 9
HERE = Partition("bench", 0)


@dataclass(frozen=True, slots=True)
class Cost:
    """Nanoseconds of processor time an event."""

    bare: float
    decode: float
    add: float
    close: float


def cost(registry: Registry, case: Case, rounds: int = ROUNDS) -> Cost:
    projection = registry.projections[case.projection]
    decoder = registry.decoder(projection, Limits())
    settings = projection.options()
    caps = Caps()
    moment = now()
    messages = list(islice(case.messages(1_000_000, moment), EVENTS))
    getters = [[attrgetter(name) for name in table.columns] for table in projection.tables]
    read = decoder._decode

    def bare(records: Sequence[Any]) -> None:
        [read(one.value) for one in records]

    def decode(records: Sequence[Any]) -> None:
        decoder.decode_all(records, moment)

    def add(records: Sequence[Any]) -> None:
        batch.add(HERE, records, moment, 0.0)

    def close() -> None:
        flush = batch.close("bench")
        for rows, get in zip(flush.rows, getters, strict=True):
            columns(rows, get)

    best = [float("inf")] * 4
    for _ in range(rounds):
        batch = Batch(projection, settings, decoder, 0)
        took = [0.0] * 4
        for start in range(0, EVENTS, POLL_RECORDS):
            # Made just before, as a poll does, so that they are as near to the processor as then.
            records = [record(*pair) for pair in enumerate(messages[start : start + POLL_RECORDS], start)]
            for place, part in enumerate((bare, decode, add)):
                took[place] += timed(part, records)
            if batch.full(caps):
                took[3] += timed(close)
                batch = Batch(projection, settings, decoder, 0)
        took[3] += timed(close)
        best = list(map(min, best, took))
    return Cost(*(seconds / EVENTS * 1e9 for seconds in best))


def timed(part: Callable[..., None], *arguments: Any) -> float:
    started = process_time()
    part(*arguments)
    return process_time() - started


def record(offset: int, message: Message) -> Any:
    key, value = (bytes(bytearray(part)) for part in message)
    return ConsumerRecord("bench", 0, offset, 1_700_000_000_000, 0, key, value, 0, len(key), len(value), ())
