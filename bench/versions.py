"""How fast a version of a collection is made again, against bare upserts of the same points."""

import statistics

from adapters.bootstrap import DEFAULT
from bench import bare
from bench.migrating import make, migrate, run_spec, shared, step_seconds, warm_up
from bench.points import parts
from bench.report import Report, Row
from bench.servers import Running, running

NAME = "versions"
DIMENSIONS = (384, 1536)
POINTS = 50_000
ROUNDS = 3
QUICK_DIMENSIONS = (64,)
QUICK_POINTS = 2_000
QUICK_ROUNDS = 1
SOURCES = 8
BATCH = 500
APPLICATION = "knowledge"
AIM = 0.7

_EXPLANATION = """\
`rebuild` of an adopted collection of {points:,} points with texts of 40 words under another name,
from the ledger and its objects: the new collection is made, the version's heads are read and
recorded for it, bodies are read from object storage, applied, and the name is pointed to it. Its
last step compares every bit with the ledger; the first rows are without that step, *checked* is
with it. The *bare upserts* send the same points from memory through generated gRPC stubs, {batch}
at a time, four in flight, each waited for. Ratios are of times; {rounds} rounds in turns,
medians."""


async def run(*, quick: bool = False) -> Report:
    """Measure each dimension with new servers."""
    points = QUICK_POINTS if quick else POINTS
    rounds = QUICK_ROUNDS if quick else ROUNDS
    rows = [
        measured
        for dimension in (QUICK_DIMENSIONS if quick else DIMENSIONS)
        for measured in await _measure(points, dimension, rounds)
    ]
    explanation = _EXPLANATION.format(points=points, batch=BATCH, rounds=rounds)
    return Report("Rebuild of a version", rows, [explanation])


async def _measure(points: int, dimension: int, rounds: int) -> list[Row]:
    ours: list[float] = []
    checked: list[float] = []
    other: list[float] = []
    async with running() as stack:
        await warm_up(stack, dimension)
        await make(stack, APPLICATION, points, dimension, SOURCES)
        await migrate(stack, APPLICATION)
        given = parts(points, dimension, SOURCES, BATCH)
        for number in range(rounds):
            for theirs in (False, True) if number % 2 else (True, False):
                name = f"{'bare' if theirs else 'again'}_{number}"
                if theirs:
                    await bare.create(stack.qdrant_url, {name: dimension})
                    other.append(await bare.upsert(stack.qdrant_url, name, given, dimension))
                else:
                    seconds = await rebuilt(stack, shared(APPLICATION), name)
                    ours.append(seconds["all"] - seconds["check"])
                    checked.append(seconds["all"])
                if await stack.service.stores.store(DEFAULT).count(name) != points:
                    raise RuntimeError(f"{name} does not hold {points} points")
    return [
        row(f"{dimension} dimensions, against bare upserts", points, ours, other, AIM),
        row(f"{dimension} dimensions, checked, against bare upserts", points, checked, other),
    ]


async def rebuilt(stack: Running, collection: str, name: str) -> dict[str, float]:
    """Make a collection again under another name; the seconds of each step."""
    head = await stack.service.ledger.head()
    spec = {
        "version": 1,
        "name": name,
        "recipe": "rebuild-version",
        "reason": "measuring",
        "from": {"store": DEFAULT, "collection": collection, "at": str(head.position)},
        "to": {"store": DEFAULT, "collection": name},
    }
    return step_seconds(await run_spec(stack, spec))


def row(
    name: str, points: int, ours: list[float], other: list[float], aim: float | None = None
) -> Row:
    """Seconds of rounds against those of another way, as rates of points."""
    mine, bare_ = statistics.median(ours), statistics.median(other)
    return Row(
        name,
        f"{mine:.1f} s, {points / mine:,.0f}/s",
        f"{bare_:.1f} s, {points / bare_:,.0f}/s",
        bare_ / mine,
        aim,
    )
