"""Questions to a broker that must not create topics by asking.

The producer, the consumer and the admin client of aiokafka name topics in their metadata requests
and always allow the broker to create them, with as many partitions as the broker likes. So the
requests for what exists are made here.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    BrokerNotAvailableError,
    KafkaError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    NoError,
    NotLeaderForPartitionError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import CreateTopicsRequest, DeleteGroupsRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

from adapters.kafka.closing import CLOSE_SECONDS
from adapters.kafka.connecting import connecting, unusable
from adapters.kafka.failures import translated
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import PartitionMismatch, TopicSpec
from domain.model.errors import Unavailable

_LATEST = -1
_ANY_REPLICA = -1
_READ_UNCOMMITTED = 0
_FETCH_WAIT_MS = 50
_FETCH_BYTES = 100
_RETRY_SECONDS = 0.05
# Part of a call's deadline in which partitions may get leaders; after it we say which has none.
_SETTLING = 0.4
_NO_LEADER = -1
# A partition has no leader for a moment when it is new, gone, or its leader is.
_UNSETTLED = (LeaderNotAvailableError, NotLeaderForPartitionError, UnknownTopicOrPartitionError)

T = TypeVar("T")
# The topics are the ledger from its beginning: whoever subscribes later reads it all, whatever
# the broker does with other topics.
_CONFIGURATION = [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")]


class Broker:
    """Describes and creates topics, and tells how long they are.

    Every call ends within the deadline; after a failure the next one connects anew.

    Args:
        settings: of the broker.
        deadline: seconds for a call.
    """

    def __init__(self, settings: KafkaSettings, *, deadline: float = 5.0) -> None:
        self._settings = settings
        self._deadline = deadline
        self._client: Any = None

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """Create the topics that are missing and check the others; they can then be used.

        Raises:
            PartitionMismatch: a topic has another number of partitions.
            Unavailable: the broker did not answer in time.
        """
        async with self._asking("create topics") as client:

            async def missing() -> list[TopicSpec]:
                return _missing(await _leaders(client, specs), specs)

            if uncreated := await self._settled(missing):
                await self._create(client, uncreated)
                while await self._settled(missing):
                    await asyncio.sleep(_RETRY_SECONDS)
                # A partition is known a moment before its leader takes messages.
                await self._settled(lambda: _ends(client, specs))

    async def end_offsets(self, specs: Sequence[TopicSpec]) -> dict[tuple[str, int], int]:
        """The offset that the next message of each (topic, partition) gets.

        A topic that does not exist has none.

        Raises:
            PartitionMismatch: a topic has another number of partitions.
            Unavailable: the broker did not answer in time.
        """
        async with self._asking("tell the ends of topics") as client:
            return await self._settled(lambda: _ends(client, specs))

    async def _settled(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, asked for again as long as partitions are changing their leaders."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + self._deadline * _SETTLING
        while True:
            try:
                return await ask()
            except _UNSETTLED:
                if clock() >= give_up_at:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)

    async def last_headers(self, topic: str, partition: int, end: int) -> list[tuple[str, bytes]]:
        """The headers of the last message before an offset; none if there is no message.

        Raises:
            Unavailable: the broker did not answer in time.
        """
        async with self._asking("tell the last message of a topic") as client:
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            request = FetchRequest(
                max_wait_time=_FETCH_WAIT_MS,
                min_bytes=1,
                # A broker answers with at least one whole batch, however large.
                max_bytes=_FETCH_BYTES,
                isolation_level=_READ_UNCOMMITTED,
                topics=[(topic, [(partition, end - 1, _FETCH_BYTES)])],
            )
            response = await client.send(leader, request)
            [(_, [(_, code, *_rest, records)])] = response.topics
            _raise_for(code, topic, partition)
            return _last_headers(records or b"", end)

    async def forget_group(self, group: str) -> None:
        """Delete a consumer group with its offsets; nothing if the broker lets nobody do that.

        Raises:
            Unavailable: the broker did not answer in time.
        """
        async with self._asking("delete a consumer group") as client:
            node = client.get_random_node()
            if node is None:
                raise BrokerNotAvailableError
            await client.send(node, DeleteGroupsRequest([group]))

    async def _create(self, client: Any, specs: Sequence[TopicSpec]) -> None:
        factor = self._settings.replication_factor
        request = CreateTopicsRequest(
            [(spec.name, spec.partitions, factor, [], _CONFIGURATION) for spec in specs],
            int(self._deadline * 1000),
            False,  # noqa: FBT003  (validate only; aiokafka names it differently in each version)
        )
        response = await client.send(client.cluster.controller.nodeId, request)
        for topic, code, *message in response.topic_errors:
            error = for_code(code)
            # Another process may create the same topics at the same time.
            if error not in (NoError, TopicAlreadyExistsError):
                said = f": {message[0]}" if message and message[0] else ""
                raise error(f"topic {topic}{said}")

    @asynccontextmanager
    async def _asking(self, doing: str) -> AsyncIterator[Any]:
        try:
            with translated(doing):
                async with asyncio.timeout(self._deadline):
                    client = await self._connect()
                    try:
                        yield client
                    except NodeNotReadyError as exc:
                        nodes = [(node.host, node.port) for node in client.cluster.brokers()]
                        raise await unusable(self._settings, nodes) from exc
        except (Unavailable, asyncio.CancelledError):
            await self.close()
            raise

    async def _connect(self) -> Any:
        if self._client is None:
            self._client = AIOKafkaClient(
                **self._settings.client_arguments(),
                request_timeout_ms=int(self._deadline * 1000),
            )
            async with connecting(self._settings):
                await self._client.bootstrap()
        return self._client

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await client.close()


async def _ends(client: Any, specs: Sequence[TopicSpec]) -> dict[tuple[str, int], int]:
    leaders = await _leaders(client, specs)
    _missing(leaders, specs)
    by_leader: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for partition, leader in leaders.items():
        by_leader[leader].append(partition)
    ends: dict[tuple[str, int], int] = {}
    for leader, partitions in by_leader.items():
        ends |= await _high_watermarks(client, leader, partitions)
    return ends


async def _leaders(client: Any, specs: Sequence[TopicSpec]) -> dict[tuple[str, int], int]:
    """The node that leads each partition, of the topics that exist."""
    node = client.get_random_node()
    if node is None:
        raise BrokerNotAvailableError
    names = [spec.name for spec in specs]
    response = await client.send(node, MetadataRequest(names, allow_auto_topic_creation=False))
    client.cluster.update_metadata(response)
    leaders = {}
    for topic in response.to_object()["topics"]:
        error = for_code(topic["error_code"])
        # A topic that we may not see, or not yet, is not a topic that is gone.
        if error not in (NoError, UnknownTopicOrPartitionError):
            raise error(f"topic {topic['topic']}")
        for partition in topic["partitions"]:
            if partition["leader"] == _NO_LEADER:
                raise LeaderNotAvailableError(f"{topic['topic']}[{partition['partition']}]")
            leaders[topic["topic"], partition["partition"]] = partition["leader"]
    return leaders


def _missing(leaders: Mapping[tuple[str, int], int], specs: Sequence[TopicSpec]) -> list[TopicSpec]:
    """The topics that do not exist.

    Raises:
        PartitionMismatch: one exists with another number of partitions.
    """
    counts = Counter(topic for topic, _ in leaders)
    for spec in specs:
        if counts[spec.name] not in (0, spec.partitions):
            raise PartitionMismatch(spec.name, spec.partitions, counts[spec.name])
    return [spec for spec in specs if not counts[spec.name]]


async def _high_watermarks(
    client: Any, leader: int, partitions: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], int]:
    """The ends of partitions as a fetch at their last offset says them.

    Tansu 0.6 answers ListOffsets with the first offset of the last batch plus one; what a fetch
    says is right. To Kafka both are the same.
    """
    last = await _last_offsets(client, leader, partitions)
    request = FetchRequest(
        max_wait_time=_FETCH_WAIT_MS,
        min_bytes=0,
        max_bytes=_FETCH_BYTES,
        isolation_level=_READ_UNCOMMITTED,
        topics=_by_topic({key: (offset, _FETCH_BYTES) for key, offset in last.items()}),
    )
    response = await client.send(leader, request)
    ends = {}
    for topic, answers in response.topics:
        for partition, code, high_watermark, *_rest in answers:
            _raise_for(code, topic, partition)
            ends[topic, partition] = high_watermark
    if ends.keys() != last.keys():
        raise KafkaError("partitions are missing in the answer")
    return ends


async def _last_offsets(
    client: Any, leader: int, partitions: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], int]:
    topics = _by_topic(dict.fromkeys(partitions, (_LATEST,)))
    response = await client.send(leader, OffsetRequest(_ANY_REPLICA, _READ_UNCOMMITTED, topics))
    last = {}
    for topic, answers in response.topics:
        for partition, code, _timestamp, offset in answers:
            _raise_for(code, topic, partition)
            last[topic, partition] = offset
    return last


def _last_headers(records: bytes, end: int) -> list[tuple[str, bytes]]:
    """The headers of the last message before an offset, of the batches of a fetch."""
    headers: list[tuple[str, bytes]] = []
    batches = MemoryRecords(records)
    while (batch := batches.next_batch()) is not None:
        for record in batch:
            if record.offset < end:
                headers = list(record.headers)
    return headers


def _by_topic(
    values: Mapping[tuple[str, int], tuple[int, ...]],
) -> list[tuple[str, list[tuple[int, ...]]]]:
    """As requests want it: topics, each with its partitions and a value for each."""
    topics: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for (topic, partition), value in values.items():
        topics[topic].append((partition, *value))
    return list(topics.items())


def _raise_for(code: int, topic: str, partition: int) -> None:
    error = for_code(code)
    if error is not NoError:
        raise error(f"{topic}[{partition}]")
