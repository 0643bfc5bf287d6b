"""Events to publish, and what a broker has of them."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters.kafka.broker import Broker
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import TopicSpec
from domain.model.aggregate import Actor, Context
from domain.model.application import Application
from domain.model.generation import Generation
from domain.model.recorded import Recorded

LEDGER = "a-ledger"
PATIENT = 60.0
"""Seconds for a call to a broker that may be slow to start."""
CONTEXT = Context(Actor("mara", "os-user"), "because", "migration-1", "step-2")
RECORDED_AT = datetime(2026, 11, 21, 3, 4, 5, 678901, tzinfo=UTC)


def alias_pointed(position: int, stream: UUID, version: int, alias: str = "docs") -> Recorded:
    event = Generation.AliasPointed(
        originator_id=stream,
        originator_version=version,
        timestamp=RECORDED_AT,
        alias=alias,
        previous=None,
    )
    return _recorded(position, event)


def changes_applied(position: int, stream: UUID, version: int) -> Recorded:
    event = Application.ChangesApplied(
        originator_id=stream,
        originator_version=version,
        timestamp=RECORDED_AT,
        through=version,
        points=10,
    )
    return _recorded(position, event)


def history(count: int, streams: Sequence[UUID], *, after: int = 0) -> list[Recorded]:
    """Events of generations, round robin, at positions (after, after + count]."""
    return [
        alias_pointed(position, streams[position % len(streams)], 1 + position // len(streams))
        for position in range(after + 1, after + count + 1)
    ]


def event_id(recorded: Recorded) -> str:
    return f"{recorded.position}/{recorded.stream}/{recorded.version}"


async def messages(settings: KafkaSettings, spec: TopicSpec) -> list[Any]:
    """All messages of a topic, partition by partition."""
    broker = Broker(settings, deadline=PATIENT)
    ends = await broker.end_offsets([spec])
    await broker.close()
    open_ends = {TopicPartition(*key): end for key, end in ends.items() if end}
    found: list[Any] = []
    if not open_ends:
        return found
    async with AIOKafkaConsumer(
        **settings.client_arguments(), auto_offset_reset="earliest", fetch_max_wait_ms=5
    ) as consumer:
        consumer.assign(list(open_ends))
        while open_ends:
            for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
                found.extend(records)
                if records[-1].offset + 1 >= open_ends[partition]:
                    consumer.pause(partition)
                    del open_ends[partition]
    return sorted(found, key=lambda record: (record.partition, record.offset))


def ids(records: Sequence[Any]) -> list[str]:
    return [dict(record.headers)["ce_id"].decode() for record in records]


def _recorded(
    position: int, event: Generation.AliasPointed | Application.ChangesApplied
) -> Recorded:
    return Recorded(
        position=position,
        stream=event.originator_id,
        version=event.originator_version,
        topic=type(event).TOPIC,
        event=event,
        context=CONTEXT,
        hash=hashlib.sha256(str(position).encode()).digest(),
    )
