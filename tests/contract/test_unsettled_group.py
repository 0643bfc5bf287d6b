"""A consumer group whose leader joined and never decides: Tansu waits for it, for ever."""

import asyncio
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.protocol.group import JoinGroupRequest

from adapters.kafka import consumer as consuming
from adapters.kafka.consumer import ChangeConsumer, group_of
from adapters.kafka.publisher import Publisher
from adapters.kafka.topics import CHANGES
from tests.infra.tansu import Tansu

SETTLE_SECONDS = 5.0  # a new group takes 3 s
LONG = 3600 * 1000  # milliseconds


async def join(client: Any, group: str, member: str = "") -> str:
    """Join a group as a consumer does, and decide nothing; returns the member's id."""
    metadata = RoundRobinPartitionAssignor.metadata([CHANGES.name]).encode()
    request = JoinGroupRequest(
        group, LONG, LONG, member, "", "consumer", [("roundrobin", metadata)]
    )
    answer = await client.send(client.get_random_node(), request)
    return str(answer.member_id)


async def test_a_group_that_does_not_come_to_rest_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consuming, "SETTLE_SECONDS", SETTLE_SECONDS)
    async with Tansu() as broker:
        async with Publisher(broker.settings) as publisher:
            await publisher.ensure_topics()
        ledger = str(uuid4())
        client = AIOKafkaClient(bootstrap_servers=broker.bootstrap)
        await client.bootstrap()
        with suppress(TimeoutError):
            async with asyncio.timeout(4):
                member = await join(client, group_of(ledger))
                await join(client, group_of(ledger), member)
        async with (
            ChangeConsumer(broker.settings, ledger=ledger) as consumer,
            asyncio.timeout(10 * SETTLE_SECONDS),
        ):
            while consumer.assigned() != set(range(CHANGES.partitions)):
                await consumer.fetch()
        await client.close()
