"""Questions to the brokers that need no group and change nothing: topics, offsets, commits, members.

Each names the topics it asks for and forbids creating them: a careless question makes a topic on
brokers that create topics by themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import LeaderNotAvailableError, UnknownTopicOrPartitionError
from aiokafka.protocol.admin import DescribeConfigsRequest, DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from ingest.errors import IngestError, Misconfigured, Unavailable
from ingest.kafka.answers import READ_COMMITTED, READ_UNCOMMITTED, by_topic, commits_in, ends_in, offsets_in
from ingest.kafka.client import Connection
from ingest.kafka.faults import KafkaError, code, fault, retriable
from ingest.kafka.placing import Log
from ingest.record import Offsets, Partition

T = TypeVar("T")

EARLIEST, LATEST = -2, -1
BETWEEN_ATTEMPTS = 0.1  # seconds
ATTEMPTS = 10
ANSWER_WITHIN = 100  # milliseconds
TOPIC_RESOURCE = 2
CREATE_TOPICS = "activity-ingest topics --create"


class Group(NamedTuple):
    """A consumer group as its coordinator sees it; `state` in Kafka's words, such as Stable or Empty."""

    state: str
    members: tuple[str, ...]


class Lookup:
    """One client for such questions. Every method raises Unavailable or Misconfigured.

    `patience`: seconds that a question is repeated while brokers fail; none: the request time-out.
    """

    def __init__(self, connection: Connection, patience: float | None = None) -> None:
        self._connection = connection
        self._patience = connection.settings.request_timeout if patience is None else patience
        self._client: Any = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect. Raises Misconfigured where the brokers refuse us, Unavailable where none answers."""
        self._client = AIOKafkaClient(**self._connection.arguments)
        try:
            await self._client.bootstrap()
        except KafkaError:
            await self.stop()
            raise await self._connection.why_unreachable() from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def ping(self) -> None:
        """Returns when a broker answers."""
        await self._insist("asking Kafka for its brokers", lambda: self._metadata([]))

    async def brokers(self) -> int:
        """How many brokers the cluster has now."""
        answer = await self._insist("asking Kafka for its brokers", lambda: self._metadata([]))
        return len(answer.brokers)

    async def topics(self, names: Collection[str]) -> dict[str, int]:
        """Number of partitions of each of these topics that exists."""
        return await self._insist("asking Kafka for topics", lambda: self._topics(sorted(set(names))))

    async def partitions(self, *topics: str) -> list[Partition]:
        """All partitions of these topics, in order. Raises Misconfigured where one does not exist."""
        counts = await self.topics(topics)
        # A broker hears of a new topic a moment after whoever made it was told of success.
        for _ in range(ATTEMPTS):
            if counts.keys() >= set(topics):
                break
            await asyncio.sleep(BETWEEN_ATTEMPTS)
            counts = await self.topics(topics)
        for topic in topics:
            if topic not in counts:
                raise Misconfigured(f"topic {topic} does not exist", CREATE_TOPICS)
        return [Partition(topic, number) for topic in topics for number in range(counts[topic])]

    async def settings(self, topic: str) -> dict[str, str]:
        """The topic's settings as the brokers tell them; the embedded one repeats what it was told."""
        request = DescribeConfigsRequest([(TOPIC_RESOURCE, topic, None)])
        answer = await self._insist(
            f"asking for settings of {topic}", lambda: self._ask(self._any(), request)
        )
        (number, about, _, _, entries), *_ = answer.resources
        if number:
            raise fault(code(number, about), f"asking for settings of {topic}")
        return {entry[0]: entry[1] for entry in entries}

    async def beginnings(self, partitions: Collection[Partition]) -> Offsets:
        """The first offset that each partition still has."""
        return await self._offsets(partitions, EARLIEST)

    async def ends(self, partitions: Collection[Partition]) -> Offsets:
        """The high watermarks: the offset that comes after the last record."""
        return await self._ends(partitions, READ_UNCOMMITTED)

    async def stable_ends(self, partitions: Collection[Partition]) -> Offsets:
        """The last stable offsets: how far can be read now, before any open transaction."""
        return await self._ends(partitions, READ_COMMITTED)

    async def logs(self, partitions: Collection[Partition]) -> dict[Partition, Log]:
        """Both ends of what each partition holds."""
        begins, ends = await self.beginnings(partitions), await self.ends(partitions)
        return {partition: Log(begins[partition], ends[partition]) for partition in partitions}

    async def offsets_at(self, partitions: Collection[Partition], epoch_ms: int) -> Offsets:
        """First offset stamped at or after a moment; partitions without such a record are left out."""
        found = await self._offsets(partitions, epoch_ms)
        return {partition: offset for partition, offset in found.items() if offset >= 0}

    async def committed(self, group: str, partitions: Collection[Partition]) -> Offsets:
        """Offsets the group has committed; partitions without a commit are left out. Joins nothing."""
        if not partitions:
            return {}
        return await self._insist(
            f"asking for commits of {group}", lambda: self._committed(group, partitions)
        )

    async def group(self, name: str) -> Group:
        """The group's state and its members' client ids."""
        return await self._insist(f"asking for group {name}", lambda: self._group(name))

    async def _insist(self, doing: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Until it succeeds, cannot succeed, or patience is over."""
        last: IngestError = Unavailable(f"{doing}: no answer", "kafka_timeout")
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    try:
                        return await attempt()
                    except (KafkaError, OSError, AssertionError) as error:
                        last = fault(error, doing)
                        if not retriable(error):
                            raise last from error
                    await asyncio.sleep(BETWEEN_ATTEMPTS)
        except TimeoutError:
            raise await self._connection.why_unreachable(last) from None

    async def _ask(self, node: Any, request: Any, group: Any = ConnectionGroup.DEFAULT) -> Any:
        return await self._client.send(node, request, group=group)

    def _any(self) -> Any:
        return self._client.get_random_node()

    async def _metadata(self, topics: list[str]) -> Any:
        return await self._ask(self._any(), MetadataRequest(topics, allow_auto_topic_creation=False))

    async def _topics(self, names: list[str]) -> dict[str, int]:
        if not names:
            return {}
        found = {}
        for number, name, _, partitions in (await self._metadata(names)).topics:
            error = code(number, name)
            if number == 0:
                found[name] = len(partitions)
            elif not isinstance(error, UnknownTopicOrPartitionError):
                raise error
        return found

    async def _leaders(self, topics: list[str]) -> dict[Partition, int]:
        leaders: dict[Partition, int] = {}
        for number, topic, _, partitions in (await self._metadata(topics)).topics:
            if number:
                raise code(number, topic)
            leaders |= {Partition(topic, p[1]): p[2] for p in partitions}
        return leaders

    async def _offsets(self, partitions: Collection[Partition], when: int) -> Offsets:
        return await self._insist("asking for offsets", lambda: self._list(partitions, when))

    async def _ends(self, partitions: Collection[Partition], isolation: int) -> Offsets:
        return await self._insist("asking for ends", lambda: self._listed_ends(partitions, isolation))

    async def _listed_ends(self, partitions: Collection[Partition], isolation: int) -> Offsets:
        """Asked by a fetch of nothing at the listed end, because the embedded broker lists too little."""
        listed = await self._list(partitions, LATEST, isolation)

        def fetch(asked: Collection[Partition]) -> FetchRequest:
            topics = [
                (t, [(n, listed[Partition(t, n)], 1) for n in numbers]) for t, numbers in by_topic(asked)
            ]
            return FetchRequest(ANSWER_WITHIN, 0, 1, isolation, topics)

        return {**listed, **await self._of_leaders(partitions, fetch, partial(ends_in, isolation))}

    async def _list(self, partitions: Collection[Partition], when: int, isolation: int = 0) -> Offsets:
        def ask(asked: Collection[Partition]) -> OffsetRequest:
            return OffsetRequest(
                -1, isolation, [(topic, [(n, when) for n in numbers]) for topic, numbers in by_topic(asked)]
            )

        return await self._of_leaders(partitions, ask, offsets_in)

    async def _of_leaders(
        self,
        partitions: Collection[Partition],
        request: Callable[[Collection[Partition]], Any],
        parse: Callable[[Any], Offsets],
    ) -> Offsets:
        found: dict[Partition, int] = {}
        for leader, theirs in (await self._by_leader(partitions)).items():
            found |= parse(await self._ask(leader, request(theirs)))
        return {partition: found[partition] for partition in partitions if partition in found}

    async def _by_leader(self, partitions: Collection[Partition]) -> dict[int, list[Partition]]:
        leaders = await self._leaders(sorted({p.topic for p in partitions})) if partitions else {}
        asked: dict[int, list[Partition]] = {}
        for partition in partitions:
            leader = leaders.get(partition)
            if leader is None:
                raise UnknownTopicOrPartitionError(partition)
            if leader < 0:
                raise LeaderNotAvailableError(partition)
            asked.setdefault(leader, []).append(partition)
        return asked

    async def _committed(self, group: str, partitions: Collection[Partition]) -> Offsets:
        request = OffsetFetchRequest(group, by_topic(partitions))
        answer = await self._ask(await self._coordinator(group), request, ConnectionGroup.COORDINATION)
        return commits_in(answer)

    async def _group(self, name: str) -> Group:
        answer = await self._ask(
            await self._coordinator(name), DescribeGroupsRequest([name]), ConnectionGroup.COORDINATION
        )
        number, _, state, _, _, members, *_ = answer.groups[0]
        if number:
            raise code(number, name)
        return Group(state, tuple(member[1] for member in members))

    async def _coordinator(self, group: str) -> Any:
        return await self._client.coordinator_lookup(CoordinationType.GROUP, group)
