"""How long a live write takes to be durable and readable, and how fast batches of them are."""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from adapters.bootstrap import DEFAULT
from bench import bare
from bench.migrating import WHO
from bench.points import batches, parts, schema
from bench.report import Report, Row, limit
from bench.servers import Running, running
from domain.model.generation import Generation
from domain.model.points import PointBatch
from domain.use_cases.tools import save
from domain.use_cases.wait_applied import wait_applied
from domain.use_cases.write_points import LiveCollection, Upsert, open_live
from tests.infra.kafka import artifacts
from tests.infra.kafka.server import running_kafka

NAME = "live"
DIMENSION = 384
WRITES = 1_000
POINTS = 50_000
BATCH = 500
ROUNDS = 3
QUICK_WRITES = 20
QUICK_POINTS = 2_000
QUICK_ROUNDS = 1
PAUSE_SECONDS = 0.02
DURABLE_P50, READABLE_P50, READABLE_P99 = 5, 20, 100
BATCHES_AIM = 0.6

_EXPLANATION = """\
A live write is made by the Python call that command line and API use, {dimension} dimensions, on a
system that does nothing else. *Durable*: one point, until the call returns. *Readable*: until the
receipt says that the store has it, {writes:,} writes with random pauses of up to {pause:.0f} ms.
*Batches*: {points:,} points in writes of {batch}, one after the other, until all are readable; the
*bare upserts* send the same points through generated gRPC stubs, {batch} at a time, four in flight,
each waited for. Ratios are of times; {rounds} rounds in turns, medians."""


async def run(*, quick: bool = False) -> Report:
    """Measure with the embedded broker, and with Apache Kafka where there is Java."""
    writes, points, rounds = (
        (QUICK_WRITES, QUICK_POINTS, QUICK_ROUNDS) if quick else (WRITES, POINTS, ROUNDS)
    )
    notes = [
        _EXPLANATION.format(
            dimension=DIMENSION,
            writes=writes,
            points=points,
            batch=BATCH,
            pause=1000 * PAUSE_SECONDS,
            rounds=rounds,
        )
    ]
    rows = await _measure("embedded broker", writes, points, rounds, embedded=True)
    if missing := artifacts.missing():
        notes.append(f"Apache Kafka was not measured: {missing}.")
    else:
        rows += await _measure("Apache Kafka", writes, points, rounds, embedded=False)
    return Report("Live writes", rows, notes)


@asynccontextmanager
async def _stack(*, embedded: bool) -> AsyncIterator[Running]:
    if embedded:
        async with running({}) as stack:
            yield stack
        return
    async with running_kafka() as kafka, running({"kafka_bootstrap": kafka.bootstrap}) as stack:
        yield stack


async def _measure(
    name: str, writes: int, points: int, rounds: int, *, embedded: bool
) -> list[Row]:
    async with _stack(embedded=embedded) as stack:
        live = await collection(stack, "written")
        await _one_by_one(stack, live, writes // 10)  # whatever is done once only
        durable, readable = await _one_by_one(stack, live, writes)
        ours, other = await _in_batches(stack, points, rounds)
    mine, bare_ = statistics.median(ours), statistics.median(other)
    return [
        limit(f"{name}: durable, median", _quantile(durable, 50), DURABLE_P50, "ms"),
        limit(f"{name}: readable, median", _quantile(readable, 50), READABLE_P50, "ms"),
        limit(f"{name}: readable, p99", _quantile(readable, 99), READABLE_P99, "ms"),
        Row(
            f"{name}: batches, against bare upserts",
            f"{points / mine:,.0f}/s",
            f"{points / bare_:,.0f}/s",
            bare_ / mine,
            BATCHES_AIM,
        ),
    ]


def _quantile(seconds: Sequence[float], percent: int) -> float:
    """A percentile in milliseconds."""
    return 1000 * statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


async def collection(stack: Running, name: str) -> LiveCollection:
    """A new collection that is written to through the ledger."""
    service = stack.service
    made = Generation(
        collection=name,
        store=DEFAULT,
        physical=name,
        number=1,
        schema=schema(DIMENSION).to_json(),
        origin="created",
    )
    await save(service.ledger, made, f"create/{name}", WHO)
    await wait_applied(service.tools, made.id, 1, _nobody)
    return await open_live(service.tools, DEFAULT, name)


async def _nobody() -> None:
    raise AssertionError("nothing is applied")


async def _one_by_one(
    stack: Running, live: LiveCollection, writes: int
) -> tuple[list[float], list[float]]:
    """Seconds until each write is durable, and until it is readable."""
    durable, readable = [], []
    for number in range(writes):
        (point,) = batches(1, DIMENSION, 1, seed=number)
        began = time.perf_counter()
        written = await live.write(Upsert(point), f"one/{writes}/{number}", WHO)
        durable.append(time.perf_counter() - began)
        await wait_applied(stack.service.tools, written.generation, written.through, _nobody)
        readable.append(time.perf_counter() - began)
        await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))  # noqa: S311
    return durable, readable


async def _in_batches(stack: Running, points: int, rounds: int) -> tuple[list[float], list[float]]:
    given = parts(points, DIMENSION, 8, BATCH)
    ours: list[float] = []
    other: list[float] = []
    for number in range(rounds):
        for theirs in (False, True) if number % 2 else (True, False):
            name = f"{'bare' if theirs else 'ours'}_{number}"
            if theirs:
                await bare.create(stack.qdrant_url, {name: DIMENSION})
                other.append(await bare.upsert(stack.qdrant_url, name, given, DIMENSION))
            else:
                live = await collection(stack, name)
                ours.append(await _ours(stack, live, given))
            if await stack.service.stores.store(DEFAULT).count(name) != points:
                raise AssertionError(f"{name} does not hold {points} points")
    return ours, other


async def _ours(stack: Running, live: LiveCollection, given: Sequence[PointBatch]) -> float:
    began = time.perf_counter()
    key = f"batch/{live.status.physical}"
    for number, points in enumerate(given):
        written = await live.write(Upsert(points), f"{key}/{number}", WHO)
    await wait_applied(stack.service.tools, written.generation, written.through, _nobody)
    return time.perf_counter() - began
