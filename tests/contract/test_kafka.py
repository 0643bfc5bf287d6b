"""The publisher and the consumer, against a real broker."""

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from adapters.kafka.broker import Broker
from adapters.kafka.cloud_events import Change, Message, decode
from adapters.kafka.consumer import SESSION_SECONDS, ChangeConsumer
from adapters.kafka.publisher import Publisher
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import CHANGES, EVENTS, PartitionMismatch, partition_of
from domain.model.errors import Unavailable
from domain.model.recorded import Recorded
from domain.model.timeline import Standing
from tests.contract.kafka_events import (
    LEDGER,
    PATIENT,
    alias_pointed,
    changes_applied,
    event_id,
    history,
    ids,
    messages,
)
from tests.infra.brokers import OwnBroker
from tests.infra.kafka.admin import administrator, delete_topics

# Takes 20 changes of a stream, completes those of even positions, and goes on until killed.
COMPLETES_EVEN_ONES = """
import asyncio, json, sys
from adapters.kafka.consumer import ChangeConsumer
from adapters.kafka.settings import KafkaSettings

async def main():
    settings, group, stream = sys.argv[1:]
    settings = KafkaSettings(**json.loads(settings))
    async with ChangeConsumer(settings, ledger=group) as consumer:
        taken = 0
        while True:
            for change in await consumer.fetch():
                ours = str(change.stream) == stream
                taken += ours
                if not ours or change.position % 2 == 0:
                    consumer.complete(change)
            if taken == 20:
                print("taken", flush=True)

asyncio.run(main())
"""


pytestmark = pytest.mark.broker


@pytest.fixture
def settings(broker_settings: KafkaSettings) -> KafkaSettings:
    return broker_settings


@pytest.fixture
async def publisher(settings: KafkaSettings) -> AsyncIterator[Publisher]:
    async with Publisher(settings, deadline=PATIENT) as publisher:
        await publisher.ensure_topics()
        yield publisher


async def take(
    consumer: ChangeConsumer, wanted: Callable[[Change], bool], count: int
) -> list[Change]:
    """Fetch until there are so many of the wanted ones; the others are done."""
    taken: list[Change] = []
    async with asyncio.timeout(60):
        while len(taken) < count:
            for change in await consumer.fetch():
                if wanted(change):
                    taken.append(change)
                else:
                    consumer.complete(change)
    return taken


async def test_published_changes_come_in_order_per_stream(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    streams = [uuid4() for _ in range(20)]
    events = history(3000, streams)
    for start in range(0, 3000, 1000):
        await publisher.publish(events[start : start + 1000])
    async with ChangeConsumer(settings, ledger=str(uuid4())) as consumer:
        changes = await take(consumer, lambda change: change.stream in streams, 3000)
    versions = defaultdict(list)
    for change in changes:
        versions[change.stream].append(change.version)
    expected = defaultdict(list)
    for event in events:
        expected[event.stream].append(event.version)
    assert versions == expected
    assert {change.topic for change in changes} == {"generation.alias-pointed"}
    assert changes[0].state == {"alias": "docs", "previous": None}


async def test_a_batch_above_the_size_of_a_message_set_arrives_in_order(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    stream = uuid4()
    events = [alias_pointed(n, stream, n, alias="x" * 100_000) for n in range(1, 21)]
    await publisher.publish(events)
    found = [
        record for record in await messages(settings, EVENTS) if str(stream).encode() == record.key
    ]
    assert ids(found) == [event_id(event) for event in events]


async def test_only_events_of_generations_are_changes(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    change, receipt = alias_pointed(1, uuid4(), 1), changes_applied(2, uuid4(), 1)
    await publisher.publish([change, receipt])
    events = ids(await messages(settings, EVENTS))
    changes = ids(await messages(settings, CHANGES))
    assert {event_id(change), event_id(receipt)} <= set(events)
    assert event_id(change) in changes
    assert event_id(receipt) not in changes


async def test_a_key_is_in_its_partition(settings: KafkaSettings, publisher: Publisher) -> None:
    await publisher.publish(history(100, [uuid4() for _ in range(100)]))
    for record in await messages(settings, EVENTS):
        assert record.partition == partition_of(record.key, 12)
        decode(Message(record.key, record.value, record.headers))


async def test_ends_count_every_message(own_broker: OwnBroker) -> None:
    async with Publisher(own_broker.settings, deadline=PATIENT) as publisher:
        assert await publisher.end_offsets() == {}
        await publisher.ensure_topics()
        assert set((await publisher.end_offsets()).values()) == {0}
        await publisher.publish(history(500, [uuid4() for _ in range(10)]))
        ends = await publisher.end_offsets()
    assert sum(end for (topic, _), end in ends.items() if topic == EVENTS.name) == 500
    assert len(ends) == 24


async def test_a_topic_with_other_partitions_is_refused(own_broker: OwnBroker) -> None:
    settings = own_broker.settings
    async with administrator(settings) as admin:
        await admin.create_topics([NewTopic(CHANGES.name, 4, 1)])
    async with Publisher(settings, deadline=PATIENT) as publisher:
        with pytest.raises(
            PartitionMismatch, match=r"ledger\.changes has 4 .* must have 12.*Delete"
        ):
            await publisher.ensure_topics()
    async with ChangeConsumer(settings, ledger=LEDGER) as consumer:
        with pytest.raises(PartitionMismatch):
            await consumer.fetch()


async def test_nothing_creates_topics_by_asking_for_them(own_broker: OwnBroker) -> None:
    settings = own_broker.settings
    async with (
        Publisher(settings) as publisher,
        ChangeConsumer(settings, ledger=LEDGER) as consumer,
    ):
        with pytest.raises(Unavailable):
            await publisher.publish(history(1, [uuid4()]))
        assert await consumer.fetch() == []
        assert await publisher.end_offsets() == {}


@pytest.mark.parametrize("again", ["killed", "thawed"])
async def test_publishing_to_a_frozen_broker_ends_in_time_and_can_go_on(
    own_broker: OwnBroker, again: str
) -> None:
    event = alias_pointed(1, uuid4(), 1)
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with Publisher(own_broker.settings, deadline=PATIENT) as publisher:
        await publisher.ensure_topics()
    async with Publisher(own_broker.settings, deadline=4.0) as publisher:
        await publisher.publish([event])
        own_broker.freeze()
        # The deadline, and two attempts to close the producer.
        async with asyncio.timeout(9):
            with pytest.raises(Unavailable):
                await publisher.publish([event])
        async with asyncio.timeout(9):
            with pytest.raises(Unavailable):
                await publisher.end_offsets()
        if again == "killed":
            own_broker.kill()
            await own_broker.start()
        else:
            own_broker.thaw()
        await publisher.ensure_topics()
        await publisher.publish([event])
    gc.collect()
    assert not unheard


async def test_a_consumer_leaves_a_frozen_broker_in_time(own_broker: OwnBroker) -> None:
    stream = uuid4()
    async with Publisher(own_broker.settings, deadline=PATIENT) as publisher:
        await publisher.ensure_topics()
        await publisher.publish(history(5, [stream]))
    consumer = await ChangeConsumer(own_broker.settings, ledger=LEDGER).__aenter__()
    for change in await take(consumer, lambda _: True, 5):
        consumer.complete(change)
    own_broker.freeze()
    # A commit, and two attempts to stop.
    async with asyncio.timeout(10):
        await consumer.__aexit__()


async def test_consumers_of_a_group_share_the_partitions(settings: KafkaSettings) -> None:
    async with Publisher(settings, deadline=PATIENT) as publisher:
        await publisher.ensure_topics()
    group = str(uuid4())
    everything = set(range(CHANGES.partitions))

    async def fetch_until(
        consumers: list[ChangeConsumer], settled: Callable[[list[set[int]]], bool]
    ) -> None:
        async with asyncio.timeout(60):
            while not settled([consumer.assigned() for consumer in consumers]):
                await asyncio.gather(*(consumer.fetch() for consumer in consumers))

    async with ChangeConsumer(settings, ledger=group) as first:
        await fetch_until([first], lambda has: has == [everything])
        async with ChangeConsumer(settings, ledger=group) as second:
            await fetch_until(
                [first, second],
                lambda has: has[0] | has[1] == everything and not has[0] & has[1] and all(has),
            )
        await fetch_until([first], lambda has: has == [everything])


async def test_only_what_is_done_is_committed(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    stream, group = uuid4(), str(uuid4())
    await publisher.publish(history(10, [stream]))
    async with ChangeConsumer(settings, ledger=group) as consumer:
        changes = await take(consumer, lambda change: change.stream == stream, 10)
        for change in changes:
            if change.position not in (5, 8):
                consumer.complete(change)
    async with ChangeConsumer(settings, ledger=group) as consumer:
        again = await take(consumer, lambda change: change.stream == stream, 6)
    assert [change.position for change in again] == [5, 6, 7, 8, 9, 10]


async def test_after_a_pause_longer_than_a_session_nothing_is_committed(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    stream = uuid4()
    await publisher.publish(history(10, [stream]))
    async with ChangeConsumer(settings, ledger=str(uuid4())) as consumer:
        for change in await take(consumer, lambda change: change.stream == stream, 10):
            consumer.complete(change)
            assert change.delivery is not None
            place = TopicPartition(CHANGES.name, change.delivery.partition)
        end = change.delivery.offset + 1
        consumer._fetched_at -= SESSION_SECONDS + 1
        consumer._commit_at = 0
        await consumer.fetch()
        assert await consumer._consumer.committed(place) != end
        consumer._trusted_at = 0
        consumer._commit_at = 0
        await consumer.fetch()
        assert await consumer._consumer.committed(place) == end


async def test_no_more_is_fetched_while_too_much_is_open(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    stream = uuid4()
    for after in range(0, 5000, 1000):
        await publisher.publish(history(1000, [stream], after=after))
    async with ChangeConsumer(settings, ledger=str(uuid4()), max_open=1500) as consumer:
        taken = await take(consumer, lambda change: change.stream == stream, 1501)
        assert not any(change.stream == stream for change in await consumer.fetch())
        for change in taken:
            consumer.complete(change)
        rest = await take(consumer, lambda change: change.stream == stream, 1)
    assert rest[0].position == taken[-1].position + 1


async def test_changes_of_a_killed_consumer_come_to_another(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    stream, group = uuid4(), str(uuid4())
    await publisher.publish(history(20, [stream]))
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", COMPLETES_EVEN_ONES, json.dumps(asdict(settings)), group, str(stream)),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    async with asyncio.timeout(60):
        assert await child.stdout.readline() == b"taken\n"
    child.kill()
    await child.wait()
    async with ChangeConsumer(settings, ledger=group) as consumer:
        changes = await take(consumer, lambda change: change.stream == stream, 20)
    assert [change.position for change in changes] == list(range(1, 21))


async def publish_at_last(publisher: Publisher, batch: Sequence[Recorded]) -> None:
    """Publish as the relay does, again after each failure.

    A new Kafka gives the producer ids of the old one again, and refuses the second that has one.
    """
    async with asyncio.timeout(PATIENT):
        while True:
            with suppress(Unavailable):
                return await publisher.publish(batch)


async def test_a_consumer_reads_a_broker_that_forgot_everything_again(
    own_broker: OwnBroker,
) -> None:
    settings = own_broker.settings
    stream = uuid4()
    async with (
        Publisher(settings, deadline=PATIENT) as publisher,
        ChangeConsumer(settings, ledger=LEDGER) as consumer,
    ):
        await publisher.ensure_topics()
        await publisher.publish(history(50, [stream]))
        for change in await take(consumer, lambda _: True, 50):
            consumer.complete(change)
        own_broker.wipe()
        assert await consumer.fetch() == []
        await own_broker.start()
        await publisher.ensure_topics()
        with pytest.raises(Unavailable, match=r"lost messages|no broker said"):
            await publisher.publish(history(1, [stream]))
        await publish_at_last(publisher, history(3, [stream]))
        again: list[int] = []
        while not again or again[-1] < 3:
            again += [change.position for change in await consumer.fetch()]
        assert again in ([1, 2, 3], [1, 1, 2, 3])  # Kafka took the one that was refused
        assert len(consumer.assigned()) == 12


async def test_a_client_whose_group_fails_while_it_is_stopped_is_stopped(
    publisher: Publisher, settings: KafkaSettings
) -> None:
    """An assertion of the client fails now and then when a broker goes in a rebalance."""
    await publisher.publish(history(3, [uuid4()]))
    before = asyncio.all_tasks()
    async with ChangeConsumer(settings, ledger=LEDGER) as consumer:
        await take(consumer, lambda _: True, 3)
        coordinator = consumer._consumer._coordinator
        coordinator._coordination_task.cancel()

        async def fails() -> None:
            await coordinator._closing
            raise KafkaError("AssertionError()")

        coordinator._coordination_task = asyncio.ensure_future(fails())
        await consumer._leave()
        assert len(await take(consumer, lambda _: True, 3)) == 3

    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


async def test_a_shorter_topic_under_a_live_consumer_is_read_from_its_beginning(
    own_broker: OwnBroker,
) -> None:
    settings = own_broker.settings
    stream = uuid4()
    async with (
        Publisher(settings, deadline=PATIENT) as publisher,
        ChangeConsumer(settings, ledger=LEDGER) as consumer,
    ):
        await publisher.ensure_topics()
        await publisher.publish(history(50, [stream]))
        await take(consumer, lambda _: True, 50)
        await delete_topics(settings, [CHANGES])
        await publisher.ensure_topics()
        with pytest.raises(Unavailable, match="lost messages"):
            await publisher.publish(history(1, [stream]))
        await publisher.publish(history(2, [stream], after=1))
        again = await take(consumer, lambda _: True, 3)
    assert [change.position for change in again] == [1, 2, 3]


async def test_ends_of_a_gone_broker_are_unavailable(own_broker: OwnBroker) -> None:
    broker = Broker(own_broker.settings, deadline=PATIENT)
    await broker.ensure([EVENTS])
    own_broker.wipe()
    with pytest.raises(Unavailable):
        await broker.end_offsets([EVENTS])
    await own_broker.start()
    assert await broker.end_offsets([EVENTS]) == {}
    await broker.close()


async def test_the_last_message_of_each_partition_is_a_witness(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    publisher.begin(Standing("ledger-1", 3))
    streams = [uuid4() for _ in range(6)]
    events = history(2000, streams)
    await publisher.publish(events)
    assert await publisher.witnesses(await publisher.end_offsets()) == []

    async with Publisher(settings) as other:
        other.begin(Standing("ledger-2", 1))
        found = await other.witnesses(await other.end_offsets())
        last = {
            partition_of(str(event.stream).encode(), EVENTS.partitions): event for event in events
        }
        assert {witness.where for witness in found} == {
            f"topic ledger.events[{partition}]" for partition in last
        }
        for witness in found:
            event = next(one for one in last.values() if one.hash.hex() == witness.hash)
            assert (witness.position, witness.timeline) == (event.position, 3)
            assert witness.ledger == "ledger-1"
        assert await other.witnesses(await other.end_offsets()) == []
        later = [alias_pointed(2001, streams[0], 5000)]
        await publisher.publish(later)
        [witness] = await other.witnesses(await other.end_offsets())
        assert witness.position == 2001


async def test_a_batch_larger_than_a_fetch_is_read_to_its_last_message(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    stream = uuid4()
    await publisher.publish([alias_pointed(n, stream, n, alias="a" * 3000) for n in range(1, 301)])
    async with Publisher(settings) as other:
        [witness] = await other.witnesses(await other.end_offsets())
    assert witness.position == 300


async def test_messages_of_former_versions_are_of_the_first_timeline(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    await publisher.publish([alias_pointed(1, uuid4(), 1)])
    async with Publisher(settings) as other:
        [witness] = await other.witnesses(await other.end_offsets())
    assert (witness.ledger, witness.timeline) == ("", 1)
