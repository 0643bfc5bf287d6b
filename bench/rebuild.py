"""How fast all read models are built anew from the ledger."""

import statistics
import time

from bench.history import record_history
from bench.report import Report, Row, least, table
from bench.servers import Running, running
from domain.use_cases.project import Projection, rebuild
from projections import PROJECTIONS

NAME = "rebuild"
EVENTS = 200_000
ROUNDS = 5
QUICK_EVENTS = 5_000
QUICK_ROUNDS = 1
AIM = 100_000
PAGE = 2000

_EXPLANATION = """\
A history of many migrations is recorded, then every read model is built anew from it, {rounds}
times: events are read from PostgreSQL, mapped, applied by each projection, and the documents are
stored. `operations` has one document for each event, so as many rows are written as events are
read. The ledger is read once for all read models; while PostgreSQL stores one batch the next one is
mapped and applied. The next rows build one read model alone, or only read and map; the last one
says whether the projector waited for PostgreSQL, or was the limit with the one processor that it
has."""


async def run(*, quick: bool = False) -> Report:
    """Record a history, then build read models anew, several times."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    async with running(workers={}) as stack:
        topics = await record_history(stack.service.database, QUICK_EVENTS if quick else EVENTS)
        count = topics.total()
        together, busy, read = [], [], []
        alone: dict[str, list[float]] = {projection.name: [] for projection in PROJECTIONS}
        for _ in range(rounds):
            computed = time.process_time()
            seconds = await _rebuild(stack, *PROJECTIONS)
            together.append(count / seconds)
            busy.append((time.process_time() - computed) / seconds)
            for projection in PROJECTIONS:
                alone[projection.name].append(count / await _rebuild(stack, projection))
            read.append(count / await _read(stack))
    rows = [
        least("all read models", statistics.median(together), AIM, "events/s"),
        *(Row(f"`{n}` alone", f"{statistics.median(s):,.0f} events/s") for n, s in alone.items()),
        Row("read and map only", f"{statistics.median(read):,.0f} events/s"),
        Row("time that the projector computed, of all", f"{statistics.median(busy):.0%}"),
    ]
    mix = table(
        ["event", "number"], [(f"`{topic}`", f"{n:,}") for topic, n in topics.most_common()]
    )
    return Report("Rebuild of all read models", rows, [_EXPLANATION.format(rounds=rounds), mix])


async def _rebuild(stack: Running, *projections: Projection) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    await rebuild(stack.service.ledger, stack.service.views, *projections)
    return time.perf_counter() - began


async def _read(stack: Running) -> float:
    began, after = time.perf_counter(), 0
    while events := await stack.service.ledger.read(after, PAGE):
        after = events[-1].position
    return time.perf_counter() - began
