"""How drafts become bytes and reach Kafka: stamped, sometimes spoiled, delayed, or sent twice."""

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

from msgspec import json

from ingest.simulate.broken import EventDict, spoiled
from ingest.simulate.people import DAY_S, HOUR_S
from ingest.simulate.visits import Draft

TOPICS = {"client": "activity.client", "live": "activity.live"}
USER_TOPIC = "activity.user"
LATE_SHARE = 0.25  # of what is out of order, what comes hours or days late instead of seconds


class Message(NamedTuple):
    """What to publish: the topic's default name, the record's key and its value."""

    topic: str
    key: bytes
    value: bytes


def stamp(source: str, time: float, zone: tzinfo) -> str:
    """RFC 3339 as that kind of software writes it: UTC or local, milliseconds or microseconds."""
    match source:
        case "/mobile/android":
            return datetime.fromtimestamp(time, zone).isoformat(timespec="milliseconds")
        case "/mobile/ios":
            return datetime.fromtimestamp(time, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
        case _:
            return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")


class Network:
    """Takes drafts in any order and delivers messages in the order of their arrival.

    `duplicates`, `disorder` and `invalid` are shares; nothing arrives after `end` (epoch seconds)
    but duplicates and what is a few seconds late.
    """

    def __init__(self, rng: Random, duplicates: float, disorder: float, invalid: float, end: float) -> None:
        self.sent = 0
        self._rng = rng
        self._duplicates = duplicates
        self._disorder = disorder
        self._invalid = invalid
        self._end = end
        self._under_way: list[tuple[float, int, Message]] = []
        self._encode = json.Encoder().encode

    def send(self, key: str, source: str, zone: tzinfo, draft: Draft) -> None:
        event = {
            "specversion": "1.0",
            "id": f"{int(draft.time * 1000):011x}{self._rng.getrandbits(60):015x}",
            "source": source,
            "type": draft.type,
            "time": stamp(source, draft.time, zone),
            "data": draft.data,
        }
        message = self._message(key.encode(), event)
        arrival = draft.time + self._delay(draft.time)
        self._deliver(arrival, message)
        if self._rng.random() < self._duplicates:
            self._deliver(arrival + self._rng.choice((0.0, 5.0, 600.0)) * self._rng.random(), message)

    def due(self, until: float) -> Iterator[Message]:
        """Everything that arrives before `until`, in order."""
        while self._under_way and self._under_way[0][0] < until:
            yield heappop(self._under_way)[2]

    def _message(self, key: bytes, event: EventDict) -> Message:
        topic = TOPICS.get(event["type"].partition(".")[0], USER_TOPIC)
        if self._rng.random() < self._invalid:
            topic, value = spoiled(self._rng, topic, event)
        else:
            value = self._encode(event)
        return Message(topic, key, value)

    def _delay(self, time: float) -> float:
        rng = self._rng
        if rng.random() >= self._disorder:
            return 0.0
        longest = min(3 * DAY_S, self._end - time)
        if rng.random() < LATE_SHARE and longest > HOUR_S:
            return HOUR_S + (longest - HOUR_S) * rng.random()
        return 10.0 * rng.random()

    def _deliver(self, arrival: float, message: Message) -> None:
        self.sent += 1
        heappush(self._under_way, (arrival, self.sent, message))
