"""What is verified, and how to go about it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from ingest.contract import Decoder
from ingest.projection import Projection
from ingest.registry import Registry, limits
from ingest.settings import Settings
from ingest.status import group_of
from ingest.verify.shares import resident


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One projection: what it folds, its verify sections, and its names at the broker.

    `skew` is max_clock_skew in seconds.
    """

    projection: Projection
    options: Any
    decoder: Decoder
    verifies: Mapping[str, str]
    group: str
    topic: str
    dead_letter_topic: str
    skew: float

    @classmethod
    def of(cls, projection: Projection, registry: Registry, settings: Settings) -> Self:
        """A projection as these settings run it."""
        return cls(
            projection=projection,
            options=settings.projection(projection.name).options,
            decoder=registry.decoder(projection, limits(settings.contract)),
            verifies=registry.sql[projection.name].verifies,
            group=group_of(projection.name),
            topic=settings.kafka.topic(projection.topic),
            dead_letter_topic=settings.kafka.dead_letter_topic,
            skew=settings.contract.max_clock_skew,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`wait` for the workers to reach the noted ends, at most `timeout` seconds (None: for ever).

    `covered`: ask only that the rows contain the log, because they held more before it began.
    `progress(phase, done, total)` hears how far each phase is. `memory_limit`: bytes that the facts of
    the log may take; more are folded in several passes. `memory` tells what the process holds.
    """

    wait: bool = True
    timeout: float | None = None
    covered: bool = False
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None
    memory_limit: int = 450 * 1024 * 1024
    memory: Callable[[], int] = resident
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
