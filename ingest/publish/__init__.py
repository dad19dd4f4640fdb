"""From NDJSON files to Kafka: good lines are published byte for byte, bad ones are named.

ndjson      files to lines
check       which lines are events, and where each one goes
outbox      sending at a rate, and what could not be delivered
background  reading without blocking
"""

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from datetime import datetime

from ingest.errors import FoundWrong, IngestError
from ingest.publish.background import in_background
from ingest.publish.check import Checker, Complaints
from ingest.publish.ndjson import Line, chunks
from ingest.publish.outbox import Failures, Outbox, Publisher

__all__ = [
    "DAMAGED", "Checker", "Complaints", "Failures", "Line", "Outbox", "Outcome", "Publisher", "chunks",
    "in_background", "publish_file", "tell_undelivered",
]  # fmt: skip

DAMAGED, NOT_DELIVERED = "damaged", "not delivered"


@dataclass(slots=True)
class Outcome:
    """What became of the lines so far; blank ones are not counted. `published`: acknowledged by Kafka."""

    lines: int = 0
    good: int = 0
    published: int = 0


async def publish_file(
    name: str,
    lines: AsyncIterable[list[Line]],
    checker: Checker,
    outbox: Outbox | None,
    complaints: Complaints,
    outcome: Outcome,
    clock: Callable[[], datetime],
    on_progress: Callable[[Outcome], None] = lambda outcome: None,
) -> None:
    """Publish the good lines of one file and complain of the others; without `outbox` only complain.

    Raises Unavailable or Misconfigured where something could not be delivered; a damaged file is
    only complained of, because the next one may be good.
    """
    try:
        async for chunk in lines:
            good, rejects = checker.check(chunk, clock())
            for reject in rejects:
                complaints.add(f"{name}:{reject.record.offset}", reject.reason, reject.detail)
            for line in good:
                if outbox is not None:
                    await outbox.send(line.topic, line.key, line.value, line)
                outcome.good += 1
            outcome.lines += len(chunk)
            on_progress(outcome)
    except FoundWrong as damage:
        complaints.add(name, DAMAGED, damage.message.removeprefix(f"{name}: "))


def tell_undelivered(complaints: Complaints) -> Callable[[object, IngestError], None]:
    """Names each line that was sent and not acknowledged."""

    def tell(tag: object, error: IngestError) -> None:
        assert isinstance(tag, Line)
        complaints.add(tag.where, NOT_DELIVERED, error.message)

    return tell
