"""The broker forgets everything at a bad moment; what it should have is published again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from adapters.kafka.consumer import ChangeConsumer
from adapters.kafka.publisher import Publisher
from adapters.kafka.topics import CHANGES, EVENTS
from adapters.postgres.connection import Database
from adapters.postgres.cursors import PostgresCursors
from domain.model.recorded import Recorded
from domain.use_cases import relay as use_case
from domain.use_cases.apply_changes import Applier
from domain.use_cases.relay import CURSOR, relay
from tests.contract.kafka_events import LEDGER, event_id, ids, messages
from tests.infra.brokers import OwnBroker
from tests.infra.kafka.admin import delete_topics
from tests.integration.builders import document_points
from tests.integration.faults import Wrapped
from tests.integration.worlds import World, eventually

pytestmark = pytest.mark.broker

GENERATIONS = 4
CHANGES_EACH = 10


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(use_case, "BATCH_SIZE", 10)


@asynccontextmanager
async def running(world: World, database: Database, publisher: Any, broker: Any) -> AsyncIterator:
    """A relay with this publisher, and an applier behind the broker."""
    stop = asyncio.Event()
    cursors = PostgresCursors(database)
    async with (
        ChangeConsumer(broker.settings, ledger=LEDGER) as consumer,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(relay(world.ledger, cursors, world.leaders, publisher, "relay", stop))
        group.create_task(Applier(world.tools, consumer, "applier").run(stop))
        try:
            yield
        finally:
            stop.set()


async def record(world: World) -> list[Any]:
    """Changes of some collections that overwrite each other's points."""
    random = Random(1)
    generations = [await world.generation(f"g{number}") for number in range(GENERATIONS)]
    for seed in range(CHANGES_EACH):
        for generation in generations:
            points = document_points(["1"] * 5, first=random.randrange(1, 20), seed=seed)
            await world.write(generation, points)
    return generations


async def complete(world: World, database: Database, broker: Any, generations: list[Any]) -> None:
    """Everything is applied, and every event is in its topics."""
    for generation in generations:
        status = await world.applied(generation)
        assert status.halted_at is None
        assert (await world.verify(status.physical)).equal

    async def published() -> bool:
        head = await world.ledger.head()
        cursor = await PostgresCursors(database).get(CURSOR)
        if cursor.position < head.position:
            return False
        events = await world.ledger.read(0, 10_000)
        changes = [one for one in events if one.topic.startswith("generation.")]
        there = set(ids(await messages(broker.settings, EVENTS)))
        of_changes = set(ids(await messages(broker.settings, CHANGES)))
        return set(map(event_id, events)) <= there and set(map(event_id, changes)) <= of_changes

    await eventually(published)


@pytest.mark.parametrize("wiped", [(3,), (2, 4)], ids=["once", "twice"])
async def test_wiped_between_the_acknowledgement_and_the_cursor(
    world: World, database: Database, own_broker: OwnBroker, wiped: tuple[int, ...]
) -> None:
    batches = 0

    async with Publisher(own_broker.settings) as publisher:

        async def publish(batch: Sequence[Recorded]) -> None:
            nonlocal batches
            await publisher.publish(batch)
            batches += 1
            if batches in wiped:
                own_broker.wipe()
                await own_broker.start()

        generations = await record(world)
        faulty = Wrapped(publisher, publish=publish)
        async with running(world, database, faulty, own_broker):
            await complete(world, database, own_broker, generations)
    assert batches > max(wiped)


@pytest.mark.parametrize("topic", [CHANGES, EVENTS], ids=["changes", "events"])
async def test_one_topic_deleted_in_the_middle(
    world: World, database: Database, own_broker: OwnBroker, topic: Any
) -> None:
    batches = 0

    async with Publisher(own_broker.settings) as publisher:

        async def publish(batch: Sequence[Recorded]) -> None:
            nonlocal batches
            await publisher.publish(batch)
            batches += 1
            if batches == 3:
                await delete_topics(own_broker.settings, [topic])

        generations = await record(world)
        faulty = Wrapped(publisher, publish=publish)
        async with running(world, database, faulty, own_broker):
            await complete(world, database, own_broker, generations)
    assert batches > 3
