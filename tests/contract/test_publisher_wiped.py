"""What a publisher sends to a broker that has lost everything: nothing, until somebody noticed.

The embedded broker takes messages of topics that it does not have, and keeps them when the topics
are created. Readers of a stream would meet its end before its beginning.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest

from adapters.kafka.publisher import Publisher
from adapters.kafka.topics import EVENTS
from domain.model.errors import Unavailable
from tests.contract.kafka_events import event_id, history, ids, messages
from tests.infra.tansu import Tansu

STREAMS = [uuid4() for _ in range(3)]
EARLIER, LATER = history(30, STREAMS), history(30, STREAMS, after=30)


@pytest.fixture
async def broker() -> AsyncIterator[Tansu]:
    async with Tansu() as tansu:
        yield tansu


@pytest.fixture
async def publisher(broker: Tansu) -> AsyncIterator[Publisher]:
    async with Publisher(broker.settings, deadline=5.0) as publisher:
        await publisher.ensure_topics()
        await publisher.publish(EARLIER)
        yield publisher


async def test_a_broker_wiped_between_two_batches(broker: Tansu, publisher: Publisher) -> None:
    broker.kill()
    await broker.start()
    with pytest.raises(Unavailable):
        await publisher.publish(LATER)
    await assert_begins_anew(broker, publisher)


async def test_a_broker_wiped_while_a_batch_is_sent(broker: Tansu, publisher: Publisher) -> None:
    broker.kill()
    async with asyncio.TaskGroup() as group:
        group.create_task(broker.start())
        with pytest.raises(Unavailable):
            await publisher.publish(LATER)
    await assert_begins_anew(broker, publisher)


async def test_a_broker_wiped_while_it_is_asked_for_its_topics(
    broker: Tansu, publisher: Publisher
) -> None:
    """The question fails, and another broker is there when the batch is sent."""

    async def ask(topics: Callable[[], Awaitable[bool]]) -> bool:
        broker.kill()
        answered = await topics()
        await broker.start()
        return answered

    interrupt(publisher, ask)
    with pytest.raises(Unavailable):
        await publisher.publish(LATER)
    await assert_begins_anew(broker, publisher)


async def test_a_broker_wiped_after_it_has_said_its_topics(
    broker: Tansu, publisher: Publisher
) -> None:
    async def ask(topics: Callable[[], Awaitable[bool]]) -> bool:
        answered = await topics()
        broker.kill()
        await broker.start()
        return answered

    interrupt(publisher, ask)
    with pytest.raises(Unavailable):
        await publisher.publish(LATER)
    await assert_begins_anew(broker, publisher)


def interrupt(
    publisher: Publisher, ask: Callable[[Callable[[], Awaitable[bool]]], Awaitable[bool]]
) -> None:
    """Let the producer's next question for topics be asked like this."""
    client = publisher._producer.client
    topics = client.force_metadata_update

    def asked() -> asyncio.Future[bool]:
        client.force_metadata_update = topics
        return asyncio.ensure_future(ask(topics))

    client.force_metadata_update = asked


async def assert_begins_anew(broker: Tansu, publisher: Publisher) -> None:
    """After what the relay does then, every event is there once and in order."""
    assert await publisher.end_offsets() == {}
    await publisher.ensure_topics()
    await publisher.publish(EARLIER + LATER)
    found = ids(await messages(broker.settings, EVENTS))
    for stream in STREAMS:
        expected = [event_id(one) for one in EARLIER + LATER if one.stream == stream]
        assert [name for name in found if str(stream) in name] == expected
