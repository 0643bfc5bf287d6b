"""The producer of the ledger's topics."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError

from adapters.kafka.broker import Broker
from adapters.kafka.closing import abandon_producer
from adapters.kafka.cloud_events import SOURCE, Message, encode, source_of, witness_of
from adapters.kafka.failures import translated
from adapters.kafka.sending import keep_connections, send_once
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import CHANGES, EVENTS, TOPICS, TopicSpec, partition_of
from domain.model.errors import Unavailable
from domain.model.recorded import Recorded
from domain.model.timeline import Standing, Witness

_CHANGES_PREFIX = "generation."
_BATCH_BYTES = 512 * 1024  # half of what brokers accept
_ENCODED_AT_ONCE = 100  # events, about a millisecond

Lane = tuple[TopicSpec, int]
"""A topic and a partition of it."""


class Publisher:
    """Publishes events, in order per stream. See `domain.ports.EventPublisher`.

    A failed call throws the producer away and the next one builds another: after a broker is gone
    a producer may hang for ever (https://github.com/aio-libs/aiokafka/issues/1101).

    Args:
        settings: of the broker.
        source: which ledger, as a URI reference, until `begin` says it.
        deadline: seconds for a call.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        source: str = SOURCE,
        deadline: float = 10.0,
    ) -> None:
        self._settings = settings
        self._source = source
        self._timeline = 1
        self._deadline = deadline
        self._broker = Broker(settings, deadline=deadline)
        self._producer: Any = None
        self._acknowledged: dict[Lane, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._discard()
        await self._broker.close()

    async def ensure_topics(self) -> None:
        """Create the topics that are missing.

        Raises:
            PartitionMismatch: a topic has another number of partitions.
            Unavailable: the broker did not do it within the deadline.
        """
        await self._broker.ensure(TOPICS)

    async def end_offsets(self) -> dict[tuple[str, int], int]:
        """How many messages were ever in each (topic, partition), of the topics that exist.

        Raises:
            PartitionMismatch: a topic has another number of partitions.
            Unavailable: the broker did not say within the deadline.
        """
        ends = await self._broker.end_offsets(TOPICS)
        for (spec, partition), offset in self._acknowledged.items():
            # What is missing has been said by this answer; publishing does not say it again.
            self._acknowledged[spec, partition] = min(offset, ends.get((spec.name, partition), 0))
        return ends

    def begin(self, standing: Standing) -> None:
        """Say with every message from here on of which ledger and timeline it is."""
        self._source, self._timeline = source_of(standing.ledger), standing.timeline
        self._acknowledged.clear()

    async def witnesses(self, ends: Mapping[tuple[str, int], int]) -> list[Witness]:
        """What the last message of each partition of the events topic says.

        Partitions that end with what this publisher wrote or looked at already are left out.

        Raises:
            Unavailable: the broker did not answer within the deadline.
        """
        found = []
        for (topic, partition), end in ends.items():
            lane = EVENTS, partition
            if topic != EVENTS.name or not end or self._acknowledged.get(lane) == end:
                continue
            headers = await self._broker.last_headers(topic, partition, end)
            witness = witness_of(f"topic {topic}[{partition}]", headers)
            if witness is not None:
                found.append(witness)
            self._acknowledged[lane] = end
        return found

    async def publish(self, batch: Sequence[Recorded]) -> None:
        """Publish events; returns when the broker has acknowledged all of them.

        Raises:
            Unavailable: it did not, within the deadline; any of them may have been published.
        """
        try:
            with translated("acknowledge events"):
                async with asyncio.timeout(self._deadline):
                    lanes = await self._lanes(batch)
                    producer = await self._connected()
                    if not self._settings.idempotent:
                        # The embedded broker takes messages of topics that it has lost, so what
                        # it has is asked before each batch, and only it gets the batch.
                        await _ask_for_topics(producer)
                    while lanes:
                        await self._send(producer, lanes)
                        lanes = {lane: messages for lane, messages in lanes.items() if messages}
        except BaseException:
            await self._discard()
            raise

    async def _lanes(self, batch: Sequence[Recorded]) -> dict[Lane, deque[Message]]:
        lanes: dict[Lane, deque[Message]] = defaultdict(deque)
        for start in range(0, len(batch), _ENCODED_AT_ONCE):
            for recorded in batch[start : start + _ENCODED_AT_ONCE]:
                message = encode(recorded, self._source, self._timeline)
                partition = partition_of(message.key, EVENTS.partitions)
                lanes[EVENTS, partition].append(message)
                if recorded.topic.startswith(_CHANGES_PREFIX):
                    partition = partition_of(message.key, CHANGES.partitions)
                    lanes[CHANGES, partition].append(message)
            await asyncio.sleep(0)
        return dict(lanes)

    async def _connected(self) -> Any:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                **self._settings.client_arguments(),
                acks="all",
                enable_idempotence=self._settings.idempotent,
                max_batch_size=_BATCH_BYTES,
                request_timeout_ms=int(self._deadline * 1000),
            )
            await self._producer.start()
            if not self._settings.idempotent:
                send_once(self._producer)
                await keep_connections(self._producer)
            await _ask_for_topics(self._producer)
        return self._producer

    async def _send(self, producer: Any, lanes: Mapping[Lane, deque[Message]]) -> None:
        """Send one batch of each lane and wait for all of them.

        The next batch of a lane is sent only then, so that a failed one leaves no hole in front
        of a later one.
        """
        sent = []
        for lane, messages in lanes.items():
            spec, partition = lane
            if producer.client.cluster.partitions_for_topic(spec.name) is None:
                raise UnknownTopicOrPartitionError(spec.name)
            builder = _filled(producer.create_batch(), messages)
            acknowledgement = await producer.send_batch(builder, spec.name, partition=partition)
            acknowledgement.add_done_callback(_seen)
            sent.append((lane, builder.record_count(), acknowledgement))
        for lane, count, acknowledgement in sent:
            self._acknowledge(lane, (await asyncio.shield(acknowledgement)).offset, count)

    def _acknowledge(self, lane: Lane, offset: int, count: int) -> None:
        spec, partition = lane
        if offset < self._acknowledged.get(lane, 0):
            raise Unavailable(f"the Kafka broker lost messages of {spec.name}[{partition}]")
        self._acknowledged[lane] = offset + count

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        self._acknowledged.clear()
        if producer is not None:
            await abandon_producer(producer)


async def _ask_for_topics(producer: Any) -> None:
    """Learn of all topics that exist. By name, the broker would be allowed to create them.

    Raises:
        KafkaConnectionError: no broker said.
    """
    if not await producer.client.force_metadata_update():
        raise KafkaConnectionError("no broker said which topics it has")


def _seen(acknowledgement: asyncio.Future[Any]) -> None:
    """Look at how a batch ended, so that one that nobody waits for any more is no error."""
    if not acknowledgement.cancelled():
        acknowledgement.exception()


def _filled(builder: Any, messages: deque[Message]) -> Any:
    """Move messages into a batch until it is full."""
    while messages:
        key, value, headers = messages[0]
        # No timestamp: it would be the event's, and retention would drop old events that are
        # published again.
        if builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
            break
        messages.popleft()
    builder.close()
    return builder
