"""How appliers scale over collections when every write takes 50 ms, and that order is kept."""

import asyncio
import statistics
from uuid import UUID

from adapters.kafka.topics import CHANGES
from bench.held import held_generation, start_appliers
from bench.migrating import WHO
from bench.points import batches
from bench.report import Report, Row
from bench.servers import Running, running
from bench.sink import Sink, running_sink
from domain.model.bodies import encode_body
from domain.model.recorded import ChangeSetDraft
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.use_cases.change_effects import WINDOW, WRITES_AT_ONCE

NAME = "appliers"
APPLIERS = (1, 2, 4)
COLLECTIONS = 50
CHANGES_EACH = 640
ROUNDS = 3
QUICK_APPLIERS = (1, 2)
QUICK_COLLECTIONS = 6
QUICK_CHANGES_EACH = 70
QUICK_ROUNDS = 1
WRITE_SECONDS = 0.05
DIMENSION = 4
AT_ONCE = 320
POLL_SECONDS = 0.05
LONGEST_SECONDS = 300.0
SCHEMA = CollectionSchema({"": VectorSpec(VectorKind.DENSE, DIMENSION, Distance.COSINE)})

_EXPLANATION = """\
A store that speaks Qdrant's protocol and answers every write after {ms:.0f} ms takes {changes:,}
changes for each of {collections} collections, one point a change. Appliers have joined the consumer
group, and everything is recorded and published, before the first of them may begin; the clock runs
from the first write to the answer of the last. An applier gathers up to {window} waiting changes of
a collection in one write; it has one write to a collection in flight and {at_once} in all, so one
applier can do {bound:,.0f} changes/s at most. The consumer group spreads {partitions} partitions
over the appliers, and collections over partitions by their hash, so the busiest applier sets the
time. Appliers, store and servers share the machine's cores. The store notes what comes: every
collection got every change once, in the order of the ledger, and never two writes at a time, in all
{runs} runs. Medians of {rounds} rounds."""


async def run(*, quick: bool = False) -> Report:
    """Measure each number of appliers, several times in turns."""
    collections = QUICK_COLLECTIONS if quick else COLLECTIONS
    changes = QUICK_CHANGES_EACH if quick else CHANGES_EACH
    counts = QUICK_APPLIERS if quick else APPLIERS
    rounds = QUICK_ROUNDS if quick else ROUNDS
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count, took in seconds.items():
            took.append(await _measure(count, collections, changes))
    middle = {count: statistics.median(took) for count, took in seconds.items()}
    rows = [_row(count, middle, collections * changes) for count in counts]
    notes = _EXPLANATION.format(
        ms=1000 * WRITE_SECONDS,
        window=WINDOW,
        at_once=WRITES_AT_ONCE,
        bound=WRITES_AT_ONCE * WINDOW / WRITE_SECONDS,
        changes=changes,
        collections=collections,
        partitions=CHANGES.partitions,
        runs=rounds * len(counts),
        rounds=rounds,
    )
    return Report("Appliers side by side", rows, [notes])


def _row(count: int, seconds: dict[int, float], changes: int) -> Row:
    name = f"{count} applier{'s' if count > 1 else ''}"
    ours = f"{changes / seconds[count]:,.0f} changes/s"
    if count == 1:
        return Row(name, ours)
    alone = f"{changes / seconds[1]:,.0f} changes/s with 1"
    return Row(name, ours, alone, seconds[1] / seconds[count])


async def _measure(appliers: int, collections: int, changes: int) -> float:
    """Seconds from the first write to the last."""
    async with running_sink(WRITE_SECONDS) as sink:
        async with running({"qdrant_url": sink.url}, {"relay": 1}) as stack:
            for number in range(collections):
                generation = await held_generation(stack, f"collection_{number}", SCHEMA)
                await _record(stack, generation, changes)
            async with asyncio.timeout(LONGEST_SECONDS):
                names = await start_appliers(stack, range(1, appliers + 1))
                while await stack.service.applications.lagging():
                    await asyncio.sleep(POLL_SECONDS)
            await stack.supervisor.stop(names)
        _check(sink, collections, changes)
        return sink.last - sink.first


async def _record(stack: Running, generation: UUID, changes: int) -> None:
    """Record changes of one point each; as in a flow, they refer to one body."""
    (points,) = batches(changes, DIMENSION, 1)
    address = await stack.service.objects.put(encode_body(points))
    drafts = [
        ChangeSetDraft(generation, [key], [hash_], [address], [0], [row])
        for row, (key, hash_) in enumerate(zip(points.keys, points.hashes(), strict=True))
    ]
    for start in range(0, changes, AT_ONCE):
        key = f"write/{generation}/{start}"
        await stack.service.ledger.record(key, WHO, drafts[start : start + AT_ONCE])


def _check(sink: Sink, collections: int, changes: int) -> None:
    """Every collection got every change once, in order, one write at a time.

    Raises:
        RuntimeError: one did not.
    """
    expected = list(range(1, changes + 1))
    wrong = [name for name, numbers in sink.written.items() if numbers != expected]
    if wrong or len(sink.written) != collections or sink.overlaps:
        raise RuntimeError(
            f"{len(wrong)} of {len(sink.written)} collections got changes out of order, "
            f"{sink.overlaps} writes overlapped"
        )
