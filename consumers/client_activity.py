"""When was each client first and last seen? One row per client."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from ingest.contract import ClientSeen
from ingest.projection import Key, Options, Projection, Table


class ClientActivity(Struct, gc=False):
    client_id: str
    last_seen: datetime
    created_at: datetime


def fold(rows: dict[str, ClientActivity], events: Iterable[ClientSeen], options: Options) -> None:
    """last_seen is the greatest event time, created_at the least."""
    for event in events:
        client_id = event.data.client_id
        time = event.time
        row = rows.get(client_id)
        if row is None:
            rows[client_id] = ClientActivity(client_id, time, time)
        elif time > row.last_seen:
            row.last_seen = time
        elif time < row.created_at:
            row.created_at = time


class Reference:
    def __init__(self, options: Options) -> None:
        self._times: dict[str, set[datetime]] = defaultdict(set)

    def add(self, event: ClientSeen) -> None:
        self._times[event.data.client_id].add(event.time)

    def rows(self) -> Mapping[str, Mapping[Key, tuple[Any, ...]]]:
        return {"client_activity": {client: (max(t), min(t)) for client, t in self._times.items()}}

    def within(self, table: str, less: tuple[Any, ...], more: tuple[Any, ...]) -> bool:
        return bool(less[0] <= more[0] and less[1] >= more[1])


PROJECTION = Projection(
    name="client_activity",
    topic="activity.client",
    events=(ClientSeen,),
    tables=(Table(name="client_activity", row=ClientActivity, fold=fold),),
    reference=Reference,
)
