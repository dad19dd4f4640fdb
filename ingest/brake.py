"""Stops the fetching of records while nothing more may be taken, and counts how long."""

from collections.abc import Callable

import structlog

from ingest.metrics import ProjectionMetrics
from ingest.ports import Source

log = structlog.get_logger()


class Brake:
    """On or off; `monotonic` in seconds. Polling must go on while it is on."""

    def __init__(
        self, projection: str, source: Source, metrics: ProjectionMetrics, monotonic: Callable[[], float]
    ) -> None:
        self._projection, self._source = projection, source
        self._metrics, self._monotonic = metrics, monotonic
        self._since: float | None = None

    def on(self) -> None:
        """Fetch nothing from now on; called again, the time since the last call is counted."""
        now = self._monotonic()
        if self._since is None:
            self._source.pause()
            log.warning("paused: Postgres takes no more", projection=self._projection)
        else:
            self._metrics.paused(now - self._since)
        self._since = now

    def off(self) -> None:
        """Fetch again."""
        if self._since is not None:
            self._metrics.paused(self._monotonic() - self._since)
            self._since = None
            self._source.resume()
            log.info("resumed", projection=self._projection)
