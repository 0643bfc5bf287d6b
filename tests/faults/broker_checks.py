"""What must hold on the topics: nothing is missing, nothing out of order, no offset too far."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters.kafka.broker import Broker
from adapters.kafka.cloud_events import Change, Message, decode
from adapters.kafka.consumer import group_of
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import CHANGES, EVENTS, TopicSpec

SECONDS = 20.0
EXAMPLES = 3

# Where generations are applied.
_APPLIED = "SELECT generation, applied, halted_at FROM migration_ledger.applications"

# Which ledger it is.
_LEDGER = "SELECT ledger::text FROM migration_ledger.timeline"

# How far the relay says that it is.
_CURSOR = "SELECT position FROM migration_ledger.cursors WHERE name = 'relay'"

Topic = dict[int, list[tuple[int, Change]]]
"""Partition to its messages with their offsets."""


@asynccontextmanager
async def _consumer(bootstrap: str, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **KafkaSettings.embedded(bootstrap).client_arguments(),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=5,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def contents(bootstrap: str, spec: TopicSpec) -> Topic:
    """Everything in a topic, by partition; empty if the topic does not exist."""
    broker = Broker(KafkaSettings.embedded(bootstrap))
    try:
        ends = {p: end for (_, p), end in (await broker.end_offsets([spec])).items()}
    finally:
        await broker.close()
    found: Topic = {partition: [] for partition in ends}
    async with asyncio.timeout(SECONDS), _consumer(bootstrap) as consumer:
        consumer.assign([TopicPartition(spec.name, partition) for partition in ends])
        while any(_next(found[partition]) < end for partition, end in ends.items()):
            batch = await consumer.getmany(timeout_ms=200)
            for partition, messages in batch.items():
                found[partition.partition] += [
                    (m.offset, decode(Message(m.key, m.value, m.headers))) for m in messages
                ]
    return found


def _next(messages: list[tuple[int, Change]]) -> int:
    return messages[-1][0] + 1 if messages else 0


def check_topic(topic: Topic, through: int, after: int = 0) -> list[str]:
    """Every event up to a position is there, and in the order of its stream."""
    findings = []
    seen: dict[UUID, int] = defaultdict(int)
    positions = set()
    for messages in topic.values():
        for _, change in messages:
            positions.add(change.position)
            if change.version > seen[change.stream] + 1:
                findings.append(
                    f"stream {change.stream} goes from {seen[change.stream]} to {change.version}"
                )
            seen[change.stream] = max(seen[change.stream], change.version)
    missing = sorted(set(range(after + 1, through + 1)) - positions)
    if missing:
        findings.append(
            f"{len(missing)} of {through} events are not on the topic, such as {missing[:EXAMPLES]}"
        )
    return findings[:EXAMPLES]


async def check_published(bootstrap: str, connection: asyncpg.Connection) -> list[str]:
    """Everything that the relay's cursor is over is on the topic."""
    cursor = await connection.fetchval(_CURSOR) or 0
    topic = await contents(bootstrap, EVENTS)
    if not topic:
        return []  # a broker that has just lost everything
    return check_topic(topic, cursor)


async def check_offsets(bootstrap: str, connection: asyncpg.Connection) -> list[str]:
    """What the group of appliers has committed is applied, or halts in the ledger."""
    committed = await _committed(bootstrap, await connection.fetchval(_LEDGER))
    if not committed:
        return []
    topic = await contents(bootstrap, CHANGES)
    applied: dict[str, Any] = {
        str(row["generation"]): row["applied"] if row["halted_at"] is None else None
        for row in await connection.fetch(_APPLIED)
    }
    findings = []
    for partition, offset in committed.items():
        for at, change in topic.get(partition, []):
            through = applied[str(change.stream)]
            if at < offset and through is not None and change.version > through:
                findings.append(
                    f"offset {offset} of partition {partition} is committed, and change "
                    f"{change.version} of {change.stream} at {at} is not applied"
                )
    return findings[:EXAMPLES]


async def _committed(bootstrap: str, ledger: str) -> dict[int, int]:
    found = {}
    async with asyncio.timeout(SECONDS), _consumer(bootstrap, group_of(ledger)) as consumer:
        partitions = [TopicPartition(CHANGES.name, n) for n in range(CHANGES.partitions)]
        consumer.assign(partitions)
        for partition in partitions:
            offset = await consumer.committed(partition)
            if offset is not None and offset > 0:
                found[partition.partition] = offset
    return found
