"""What an Apache Kafka keeps of our topics, and what it is asked to."""

from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from adapters.kafka.consumer import ChangeConsumer
from adapters.kafka.publisher import Publisher
from adapters.kafka.topics import CHANGES, EVENTS, TOPICS
from tests.contract.kafka_events import LEDGER, PATIENT, history
from tests.infra.kafka.admin import administrator, delete_topics
from tests.infra.kafka.server import Kafka

pytestmark = [pytest.mark.broker, pytest.mark.kafka]

EVERYTHING = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
# Of a broker whose administrators think of other topics.
FORGETFUL = {
    "log.cleanup.policy": "compact",
    "log.retention.ms": "1000",
    "log.retention.bytes": "1000",
}


async def test_topics_keep_everything_whatever_the_broker_does_with_others(
    tmp_path: Path,
) -> None:
    async with Kafka(tmp_path, properties=FORGETFUL) as kafka:
        async with Publisher(kafka.settings, deadline=PATIENT) as publisher:
            await publisher.ensure_topics()
        async with administrator(kafka.settings) as admin:
            resources = [
                ConfigResource(ConfigResourceType.TOPIC, topic.name, dict.fromkeys(EVERYTHING))
                for topic in TOPICS
            ]
            (described,) = await admin.describe_configs(resources)
    found = {
        name: {entry[0]: entry[1] for entry in entries}
        for _code, _message, _kind, name, entries in described.resources
    }
    assert found == {EVENTS.name: EVERYTHING, CHANGES.name: EVERYTHING}


async def test_deleted_records_are_not_lost_messages(own_kafka: Kafka) -> None:
    await own_kafka.start()
    settings = own_kafka.settings
    await delete_topics(settings)
    stream = uuid4()
    async with (
        Publisher(settings, deadline=PATIENT) as publisher,
        ChangeConsumer(settings, ledger=LEDGER) as consumer,
    ):
        await publisher.ensure_topics()
        await publisher.publish(history(20, [stream]))
        ends = await publisher.end_offsets()
        ((_, partition),) = [key for key, end in ends.items() if key[0] == CHANGES.name and end]
        async with administrator(settings) as admin:
            place = TopicPartition(CHANGES.name, partition)
            await admin.delete_records({place: RecordsToDelete(15)})
        assert await publisher.end_offsets() == ends
        await publisher.publish(history(5, [stream], after=20))
        positions: list[int] = []
        while len(positions) < 10:
            positions.extend(change.position for change in await consumer.fetch())
    assert positions == list(range(16, 26))
