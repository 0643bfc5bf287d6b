"""How fast a collection is compared with the ledger, against a bare scroll of it."""

import statistics
import time
from collections.abc import Awaitable, Callable

from adapters.bootstrap import DEFAULT
from bench import bare
from bench.migrating import make, migrate, shared, warm_up
from bench.report import Report, Row
from bench.servers import Running, running
from domain.use_cases.verify import verify

NAME = "verify"
DIMENSIONS = (384, 1536)
POINTS = 100_000
ROUNDS = 5
QUICK_DIMENSIONS = (64,)
QUICK_POINTS = 2_000
QUICK_ROUNDS = 1
SOURCES = 8
APPLICATION = "knowledge"
AIM = 0.7

_EXPLANATION = """\
{points:,} points with texts of 40 words, which the ledger has adopted. *Ours* reads all of them
with payloads and vectors, computes the hash of each, reads the heads beside, and compares them. The
*bare scroll* reads the same points through generated gRPC stubs in pages of 500, the next page
while one is at hand, and compares nothing. Ratios are of times; {rounds} rounds in turns, medians.
"""


async def run(*, quick: bool = False) -> Report:
    """Measure each dimension with new servers."""
    points = QUICK_POINTS if quick else POINTS
    rounds = QUICK_ROUNDS if quick else ROUNDS
    rows = [
        await _measure(points, dimension, rounds)
        for dimension in (QUICK_DIMENSIONS if quick else DIMENSIONS)
    ]
    return Report("Verification", rows, [_EXPLANATION.format(points=points, rounds=rounds).strip()])


async def _measure(points: int, dimension: int, rounds: int) -> Row:
    ours: list[float] = []
    other: list[float] = []
    async with running() as stack:
        await warm_up(stack, dimension)
        await make(stack, APPLICATION, points, dimension, SOURCES)
        await migrate(stack, APPLICATION)
        name = shared(APPLICATION)
        sides: list[tuple[list[float], Callable[[], Awaitable[int]]]] = [
            (ours, lambda: _verified(stack, name)),
            (other, lambda: bare.read_back(stack.qdrant_url, [name])),
        ]
        for number in range(rounds):
            for seconds, side in sides if number % 2 else reversed(sides):
                began = time.perf_counter()
                read = await side()
                seconds.append(time.perf_counter() - began)
                if read != points:
                    raise AssertionError(f"{read} points of {points} were read")
    mine, bare_ = statistics.median(ours), statistics.median(other)
    return Row(
        f"{dimension} dimensions, against a bare scroll",
        f"{mine:.1f} s, {points / mine:,.0f}/s",
        f"{bare_:.1f} s, {points / bare_:,.0f}/s",
        bare_ / mine,
        AIM,
    )


async def _verified(stack: Running, name: str) -> int:
    found = await verify(stack.service.tools, DEFAULT, name)
    if not found.equal:
        raise AssertionError(str(found))
    return found.points
