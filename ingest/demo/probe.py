"""How long an event takes from its time to the row that shows it, asked of the table itself."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

from ingest.contract import encode
from ingest.errors import IngestError
from ingest.postgres import Database
from ingest.publish import Outbox

CLIENT = "demo-probe"
EVERY_S = 0.25
LOOK_S = 0.02


class Probe:
    """One client that is seen again and again; `delays` in seconds."""

    def __init__(self, outbox: Outbox, database: Database, show: str) -> None:
        self.delays: list[float] = []
        self.sent = 0
        self._outbox, self._database, self._show = outbox, database, show

    async def run(self, on_event: Callable[[bytes], None]) -> None:
        """Until cancelled: publish, wait for the row, note the time. `on_event` hears of each event."""
        while True:
            seen = datetime.now(UTC)
            value = encode("client.seen", str(uuid4()), "/demo", seen, {"client_id": CLIENT})
            await self._outbox.send("activity.client", CLIENT.encode(), value)
            self.sent += 1
            on_event(value)
            await self._until_shown(seen)
            self.delays.append((datetime.now(UTC) - seen).total_seconds())
            await asyncio.sleep(EVERY_S)

    async def _until_shown(self, seen: datetime) -> None:
        shown = await self._shows(seen)
        while not shown:
            await asyncio.sleep(LOOK_S)
            shown = await self._shows(seen)

    async def _shows(self, seen: datetime) -> bool:
        try:
            rows = await self._database.fetch(self._show, CLIENT)
        except IngestError:
            return False
        return bool(rows) and rows[0]["last_seen"] >= seen
