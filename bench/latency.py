"""How long a write takes to be readable in the store, and an event to be on its topic."""

import asyncio
import os
import random
import signal
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer

from adapters.kafka.settings import KafkaSettings
from bench.history import record_history
from bench.migrating import WHO
from bench.points import batches, schema
from bench.report import Report, Row, limit
from bench.servers import Running, running
from domain.model.bodies import encode_body
from domain.model.flow import FlowRange
from domain.model.generation import Generation
from domain.model.points import PointBatch
from domain.model.recorded import ChangeSetDraft
from domain.ports import EVENTS_TOPIC
from domain.use_cases.relay import CURSOR
from domain.use_cases.tools import save
from tests.infra.kafka import artifacts
from tests.infra.kafka.server import running_kafka

NAME = "latency"
WRITES = 1_000
EVENTS = 50_000
QUICK_WRITES = 20
QUICK_EVENTS = 2_000
DIMENSION = 384
PHYSICAL = "written"
PAUSE_SECONDS = 0.02
POLL_SECONDS = 0.001
P50_MILLISECONDS, P99_MILLISECONDS = 20, 100

_EXPLANATION = """\
*Commit to readable*: a change set of one point ({dimension} dimensions) is recorded in a generation
that workers look after; the clock runs from the answer of PostgreSQL until a read by id gives the
new point. On the way the relay publishes it, the applier takes it from Kafka, reads the ledger and
the body, and writes to the node. The point is read again every millisecond, {writes:,} writes with
random pauses of up to {pause:.0f} ms. *Commit to Kafka*: the clock runs from the answer to an
append until a plain consumer of `{topic}` has the event, {writes:,} appends. *Relay*: it is
stopped with SIGSTOP, {events:,} events are recorded, and it goes on; the rate is that at which its
cursor moves."""


async def run(*, quick: bool = False) -> Report:
    """Measure with the embedded broker, and with Apache Kafka where there is Java."""
    writes, events = (QUICK_WRITES, QUICK_EVENTS) if quick else (WRITES, EVENTS)
    notes = [
        _EXPLANATION.format(
            dimension=DIMENSION,
            writes=writes,
            events=events,
            pause=1000 * PAUSE_SECONDS,
            topic=EVENTS_TOPIC,
        )
    ]
    rows = await _measure("embedded broker", writes, events, embedded=True)
    if missing := artifacts.missing():
        notes.append(f"Apache Kafka was not measured: {missing}.")
    else:
        rows += await _measure("Apache Kafka", writes, events, embedded=False)
    return Report("Latency, and the relay", rows, notes)


async def _measure(name: str, writes: int, events: int, *, embedded: bool) -> list[Row]:
    async with _broker(embedded=embedded) as configured, running(configured) as stack:
        readable = await _readable(stack, writes)
    async with _broker(embedded=embedded) as configured, running(configured, {"relay": 1}) as stack:
        published = await _published(stack, writes, embedded=embedded)
        rate = await _relayed(stack, events)
    p50, p99 = _quantile(readable, 50), _quantile(readable, 99)
    return [
        limit(f"{name}: commit to readable, median", p50, P50_MILLISECONDS, "ms"),
        limit(f"{name}: commit to readable, p99", p99, P99_MILLISECONDS, "ms"),
        Row(f"{name}: commit to Kafka, median", f"{_quantile(published, 50):.1f} ms"),
        Row(f"{name}: commit to Kafka, p99", f"{_quantile(published, 99):.1f} ms"),
        Row(f"{name}: relay", f"{rate:,.0f} events/s"),
    ]


@asynccontextmanager
async def _broker(*, embedded: bool) -> AsyncIterator[dict[str, str]]:
    """What to configure for a broker that has no messages yet: each ledger needs its own."""
    if embedded:
        yield {}
        return
    async with running_kafka() as kafka:
        yield {"kafka_bootstrap": kafka.bootstrap}


def _quantile(seconds: Sequence[float], percent: int) -> float:
    """A percentile in milliseconds."""
    return 1000 * statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


async def _readable(stack: Running, writes: int) -> list[float]:
    """Seconds from the commit of each write until it can be read."""
    service = stack.service
    store = service.stores.store("default")
    generation = Generation(
        collection=PHYSICAL,
        store="default",
        physical=PHYSICAL,
        number=1,
        schema=schema(DIMENSION).to_json(),
        origin="created",
    )
    await save(service.ledger, generation, "create", WHO)
    while (await _status(stack, generation.id)).applied == 0:
        await asyncio.sleep(POLL_SECONDS)
    seconds = []
    for number in range(writes):
        (point,) = batches(1, DIMENSION, 1, seed=number)
        draft = await _draft(stack, generation.id, point)
        await service.ledger.record(f"write/{number}", WHO, [draft])
        committed = time.perf_counter()
        while (await store.retrieve(PHYSICAL, point.keys)).payloads != point.payloads:
            await asyncio.sleep(POLL_SECONDS)
        seconds.append(time.perf_counter() - committed)
        await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))  # noqa: S311
    return seconds


async def _status(stack: Running, generation: UUID) -> Any:
    return await stack.service.applications.status(generation)


async def _draft(stack: Running, generation: UUID, points: PointBatch) -> ChangeSetDraft:
    address = await stack.service.objects.put(encode_body(points))
    return ChangeSetDraft(
        generation=generation,
        keys=points.keys,
        hashes=list(points.hashes()),
        objects=[address],
        object_index=[0] * len(points),
        rows=list(range(len(points))),
    )


async def _published(stack: Running, count: int, *, embedded: bool) -> list[float]:
    """Seconds from the commit of each event until a consumer has it."""
    ledger = stack.service.ledger
    committed: dict[int, float] = {}
    seen: dict[int, float] = {}
    async with _consumer(stack, embedded=embedded) as consumer, asyncio.TaskGroup() as group:

        async def consume() -> None:
            async for message in consumer:
                seen[int(dict(message.headers)["ce_position"])] = time.perf_counter()

        consuming = group.create_task(consume())
        for number in range(count):
            answer = await save(ledger, _event(number), f"event/{number}", WHO)
            committed[answer.position] = time.perf_counter()
            await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))  # noqa: S311
        while not committed.keys() <= seen.keys():
            await asyncio.sleep(POLL_SECONDS)
        consuming.cancel()
    return [max(seen[position] - at, 0.0) for position, at in committed.items()]


def _event(number: int) -> FlowRange:
    return FlowRange("bench", "route", number, 0, {}, {}, {}, None)


@asynccontextmanager
async def _consumer(stack: Running, *, embedded: bool) -> Any:
    """A consumer that has joined at the end of the topic, which the relay has made."""
    await save(stack.service.ledger, _event(-1), "event/first", WHO)
    await _caught_up(stack)
    bootstrap = stack.service.settings.kafka_bootstrap or ""
    settings = KafkaSettings.embedded(bootstrap) if embedded else KafkaSettings(bootstrap)
    consumer = AIOKafkaConsumer(
        EVENTS_TOPIC,
        **settings.client_arguments(),
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
        auto_offset_reset="latest",
    )
    await consumer.start()
    try:
        for partition in consumer.assignment():
            await consumer.position(partition)
        yield consumer
    finally:
        await consumer.stop()


async def _relayed(stack: Running, events: int) -> float:
    """Events a second that the relay publishes of a backlog."""
    relay = stack.processes()["relay"]
    os.kill(relay, signal.SIGSTOP)
    try:
        await record_history(stack.service.database, events)
        stands = await _cursor(stack)
    finally:
        os.kill(relay, signal.SIGCONT)
    while (first := await _cursor(stack)) == stands:
        await asyncio.sleep(POLL_SECONDS)
    began = time.perf_counter()
    last = await _caught_up(stack)
    return (last - first) / (time.perf_counter() - began)


async def _caught_up(stack: Running) -> int:
    """Wait until the relay has published everything; returns the last position."""
    head = (await stack.service.ledger.head()).position
    while await _cursor(stack) < head:
        await asyncio.sleep(POLL_SECONDS)
    return head


async def _cursor(stack: Running) -> int:
    return (await stack.service.cursors.get(CURSOR)).position
