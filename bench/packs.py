"""How fast a collection with a long history is made again once it is packed."""

import time
from itertools import count
from random import Random

from bench.live import DIMENSION, collection
from bench.migrating import WHO, warm_up
from bench.points import batches
from bench.report import Report
from bench.servers import Running, running
from bench.versions import rebuilt, row
from domain.model.points import PointBatch
from domain.ports import GenerationStatus
from domain.use_cases.pack import Packed, pack
from domain.use_cases.wait_applied import wait_applied
from domain.use_cases.write_points import Upsert

NAME = "packs"
POINTS = 20_000
HISTORY = 20
ROUNDS = 3
QUICK_POINTS = 1_000
QUICK_HISTORY = 3
QUICK_ROUNDS = 1
BATCH = 500
AIM = 0.77
"""The time of no history, times 1.3."""

_EXPLANATION = """\
Two collections of {points:,} points, {dimension} dimensions. Each point of one was written once;
those of the other {history} times on average, in writes of {batch} random points. Both are made
again under another name, from the ledger and its objects, with the comparison of every bit at the
end: before the second is packed, and after. Ratios are of times, against the one without a history;
{rounds} rounds in turns, medians."""


async def run(*, quick: bool = False) -> Report:
    """Measure one size."""
    points, history, rounds = (
        (QUICK_POINTS, QUICK_HISTORY, QUICK_ROUNDS) if quick else (POINTS, HISTORY, ROUNDS)
    )
    async with running() as stack:
        await warm_up(stack, DIMENSION)
        await _written(stack, "once", points, 1)
        status = await _written(stack, "often", points, history)
        scattered, once = await _in_turns(stack, rounds)
        began = time.perf_counter()
        done = await pack(stack.service.tools, status, WHO)
        seconds = time.perf_counter() - began
        packed, again = await _in_turns(stack, rounds)
    explanation = _EXPLANATION.format(
        points=points, dimension=DIMENSION, history=history, batch=BATCH, rounds=rounds
    )
    rows = [
        row("not packed, against no history", points, scattered, once),
        row("packed, against no history", points, packed, again, AIM),
    ]
    return Report("Rebuild after a long history", rows, [explanation, _pack(done, seconds)])


def _pack(done: Packed, seconds: float) -> str:
    return (
        f"The pack itself took {seconds:.1f} s for {done.points:,} points "
        f"({done.points / seconds:,.0f}/s); it wrote {done.bodies} bodies, "
        f"{done.size / 2**20:.0f} MiB together."
    )


async def _written(stack: Running, name: str, points: int, times: int) -> GenerationStatus:
    """A collection whose points were written so many times; appliers have all of it."""
    live = await collection(stack, name)
    random, last = Random(1), 0  # noqa: S311
    for time_ in range(times):
        whole = PointBatch.concatenate([*batches(points, DIMENSION, 8, seed=time_)])
        for start in range(0, points, BATCH):
            rows = random.sample(range(points), BATCH) if time_ else range(start, start + BATCH)
            write = Upsert(whole.take(rows))
            last = (await live.write(write, f"{name}/{time_}/{start}", WHO)).through
    tools = stack.service.tools
    await wait_applied(tools, live.status.generation, last)
    status = await tools.applications.status(live.status.generation)
    if status is None or status.points != points:
        raise RuntimeError(f"{name} does not have {points} points")
    return status


_NUMBERS = count(1)


async def _in_turns(stack: Running, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of rebuilding the one with a history, and the one without."""
    often: list[float] = []
    once: list[float] = []
    for number in range(rounds):
        turns = [("often", often), ("once", once)]
        for name, seconds in turns if number % 2 else reversed(turns):
            took = await rebuilt(stack, name, f"{name}_again_{next(_NUMBERS)}")
            seconds.append(took["all"])
    return often, once
