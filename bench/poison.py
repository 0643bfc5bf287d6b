"""What a collection that halts at a change its store refuses costs the others."""

import asyncio
import statistics
import time
from uuid import UUID

import numpy as np

from bench.held import held_generation, start_appliers
from bench.migrating import WHO
from bench.points import batches
from bench.report import Report, Row
from bench.servers import Running, running
from domain.model.bodies import encode_body
from domain.model.points import FLOAT32, PointBatch
from domain.model.recorded import ChangeSetDraft
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec

NAME = "poison"
COLLECTIONS = 50
CHANGES_EACH = 64
POINTS_EACH = 25
ROUNDS = 5
QUICK_COLLECTIONS = 6
QUICK_CHANGES_EACH = 10
QUICK_ROUNDS = 1
DIMENSION = 64
AIM = 0.9
POLL_SECONDS = 0.05
SCHEMA = CollectionSchema({"": VectorSpec(VectorKind.DENSE, DIMENSION, Distance.COSINE)})

_EXPLANATION = """\
{collections} collections get {changes} change sets of {points} points each, from one applier and
the embedded node. In every other round there is one more collection, whose second change has
vectors of another dimension and which has as many changes behind it: it halts there. Everything is
recorded before the applier may begin; the clock runs until the {collections} have everything.
Medians of {rounds} rounds each, in turns."""


async def run(*, quick: bool = False) -> Report:
    """Measure with and without a poison change, in turns."""
    collections = QUICK_COLLECTIONS if quick else COLLECTIONS
    changes = QUICK_CHANGES_EACH if quick else CHANGES_EACH
    rounds = QUICK_ROUNDS if quick else ROUNDS
    seconds: dict[bool, list[float]] = {False: [], True: []}
    turns = (False, True, True, False)
    async with running({}, {"relay": 1}) as stack:
        for number in range(1, 2 * rounds + 1):
            poisoned = turns[number % len(turns)]
            took = await _measure(stack, number, collections, changes, poisoned=poisoned)
            seconds[poisoned].append(took)
    total = collections * changes * POINTS_EACH
    rate = {poisoned: total / statistics.median(took) for poisoned, took in seconds.items()}
    row = Row(
        f"{collections} collections beside one that halts",
        f"{rate[True]:,.0f} points/s",
        f"{rate[False]:,.0f} points/s without it",
        rate[True] / rate[False],
        AIM,
    )
    notes = _EXPLANATION.format(
        collections=collections, changes=changes, points=POINTS_EACH, rounds=rounds
    )
    return Report("A poison change", [row], [notes])


async def _measure(
    stack: Running, number: int, collections: int, changes: int, *, poisoned: bool
) -> float:
    """Seconds until all collections but the poisoned one have everything."""
    name = f"round{number}"
    well = [await held_generation(stack, f"{name}_{n}", SCHEMA) for n in range(collections)]
    sick = [await held_generation(stack, f"{name}_sick", SCHEMA)] if poisoned else []
    for generation in sick:
        await _record(stack, generation, _wrong(), 1)
    for generation in well + sick:
        points = PointBatch.concatenate(list(batches(changes * POINTS_EACH, DIMENSION, 1)))
        await _record(stack, generation, points, changes)
    appliers = await start_appliers(stack, [number])
    began = time.perf_counter()
    await _until_done(stack, well)
    took = time.perf_counter() - began
    await _until_done(stack, sick)
    await _check(stack, sick)
    await stack.supervisor.stop(appliers)
    return took


async def _until_done(stack: Running, generations: list[UUID]) -> None:
    """Wait until these have everything, or halt."""
    waiting = set(generations)
    while waiting & {status.generation for status in await stack.service.applications.lagging()}:
        await asyncio.sleep(POLL_SECONDS)


async def _check(stack: Running, sick: list[UUID]) -> None:
    """The poison has halted its collection.

    Raises:
        RuntimeError: it has not.
    """
    for generation in sick:
        status = await stack.service.applications.status(generation)
        if status is None or status.halted_at is None:
            raise RuntimeError("the poisoned collection did not halt")


def _wrong() -> PointBatch:
    """A point with a vector of another dimension, and an id that no other change has."""
    (points,) = batches(1, DIMENSION, 2)
    key = points.keys[0][:1] + b"\x7f" + points.keys[0][2:]
    vector = np.ones(DIMENSION - 1, FLOAT32).tobytes()
    return PointBatch(keys=[key], payloads=points.payloads, vectors={"": [vector]})


async def _record(stack: Running, generation: UUID, points: PointBatch, changes: int) -> None:
    """Record points in so many change sets, which refer to one body."""
    address = await stack.service.objects.put(encode_body(points))
    hashes = points.hashes()
    size = len(points) // changes
    drafts = [
        ChangeSetDraft(
            generation,
            points.keys[start : start + size],
            list(hashes[start : start + size]),
            [address],
            [0] * size,
            list(range(start, start + size)),
        )
        for start in range(0, len(points), size)
    ]
    await stack.service.ledger.record(f"write/{generation}/{address}", WHO, drafts)
