"""How a worker paces itself."""

from dataclasses import dataclass, field

from ingest.batch import Caps


@dataclass(frozen=True, slots=True)
class Pace:
    """All in seconds but `max_in_flight`; `jitter` is a part of the flush interval, either way.

    `revoke_timeout` bounds the wait for running flushes when partitions are taken away; at most half
    of the group's rebalance time-out, or the group would go on without us.
    """

    caps: Caps = field(default_factory=Caps)
    jitter: float = 0.1
    max_in_flight: int = 2
    revoke_timeout: float = 30.0
    drain_timeout: float = 25.0
    idle_refresh: float = 5.0
