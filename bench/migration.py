"""A whole migration against a bare loop and against the client's own `migrate`, on one node."""

import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import QdrantClient

from bench import bare
from bench.migrating import make, migrate, shared, step_seconds, warm_up
from bench.processes import cpu_seconds
from bench.report import Report, Row, table
from bench.servers import Running, running

NAME = "migration"
DIMENSIONS = (384, 1536)
POINTS = 100_000
ROUNDS = 3
QUICK_DIMENSIONS = (64,)
QUICK_POINTS = 2_000
QUICK_ROUNDS = 1
SOURCES = 8
APPLICATION = "knowledge"
AIM_BARE, AIM_CLIENT = 0.6, 3.0
SHOWN_STAGES = 6

_EXPLANATION = """\
{points:,} points with texts of 40 words in a shared collection go to the collections of their
{sources} sources. *Ours* is the whole migration, from the request to its end, as `up` runs it: the
points are adopted (bodies to objects, heads and events to PostgreSQL), collections created, points
routed and recorded, published to Kafka, applied, receipts recorded, aliases pointed. Its last step
reads both sides back and compares every bit with the ledger; the first rows are without that step,
since a bare loop does nothing of the kind, and *checked* is with it.

The *bare loop* scrolls the shared collection in pages of 500 and writes each point to the
collection of its source: generated gRPC stubs without the client's conversions, the next page is
fetched meanwhile, full batches of 500, four writes in flight, each waited for. Checked, it also
reads both sides back, but has nothing to compare them with. *`migrate`* is `QdrantClient.migrate()`
over gRPC, which copies the collection as it is, in batches of 64; its target has another name on
the same node. Ratios are of times; {rounds} rounds, each in a new folder with new servers, in
turns, medians."""

_ONE_NODE = """\
The embedded node runs Python around the engine and has one interpreter, so it is busy for most of
the time on either side, and its calls bound both. A real server has threads for them: there the
other processes count more."""

Seconds = dict[str, list[float]]


async def run(*, quick: bool = False) -> Report:
    """Measure each dimension, and take a profile of one more round."""
    points = QUICK_POINTS if quick else POINTS
    rounds = QUICK_ROUNDS if quick else ROUNDS
    rows: list[Row] = []
    notes = [_EXPLANATION.format(points=points, sources=SOURCES, rounds=rounds)]
    for dimension in QUICK_DIMENSIONS if quick else DIMENSIONS:
        seconds: Seconds = defaultdict(list)
        for number in range(rounds):
            await _round(points, dimension, number, seconds)
        middle = {what: statistics.median(all_) for what, all_ in seconds.items()}
        rows += _rows(points, dimension, middle)
        notes += [_limit(dimension, middle), _steps(dimension, middle)]
        notes.append(await _profile(points, dimension))
    return Report("A whole migration", rows, [*notes, _ONE_NODE])


def _rows(points: int, dimension: int, seconds: Mapping[str, float]) -> list[Row]:
    def row(ours: str, other: str, said: str, aim: float | None) -> Row:
        return Row(
            f"{dimension} dimensions, {said}",
            f"{seconds[ours]:.1f} s, {points / seconds[ours]:,.0f}/s",
            f"{seconds[other]:.1f} s, {points / seconds[other]:,.0f}/s",
            seconds[other] / seconds[ours],
            aim,
        )

    return [
        row("ours", "bare", "against a bare loop", AIM_BARE),
        row("ours", "client", "against `migrate`", AIM_CLIENT),
        row("ours, checked", "bare, checked", "checked, against a bare loop that reads back", None),
        row("ours, checked", "bare", "checked, against a bare loop", None),
        row("ours, checked", "client", "checked, against `migrate`", None),
    ]


async def _round(points: int, dimension: int, number: int, seconds: Seconds) -> None:
    """Measure all sides once, beginning with another one each time."""
    async with running() as stack:
        await warm_up(stack, dimension)
        await make(stack, APPLICATION, points, dimension, SOURCES)
        sides = [_ours, _bare, _client]
        for at in range(len(sides)):
            side = sides[(number + at) % len(sides)]
            for what, took in (await side(stack, points, dimension)).items():
                seconds[what].append(took)


async def _ours(stack: Running, _points: int, _dimension: int) -> dict[str, float]:
    steps = step_seconds(await migrate(stack, APPLICATION))
    return {
        "ours, checked": steps["all"],
        "ours": steps["all"] - steps["check"],
        **{f"step {step}": took for step, took in steps.items() if step != "all"},
    }


async def _bare(stack: Running, points: int, dimension: int) -> dict[str, float]:
    targets = {str(number + 1): f"bare_{number}" for number in range(SOURCES)}
    url = stack.qdrant_url

    async def copy() -> int:
        await bare.create(url, dict.fromkeys(targets.values(), dimension))
        return await bare.copy(url, shared(APPLICATION), targets)

    copied = await _timed(copy, points)
    back = await _timed(
        lambda: bare.read_back(url, [shared(APPLICATION), *targets.values()]), 2 * points
    )
    return {"bare": copied, "bare, checked": copied + back}


async def _client(stack: Running, points: int, _dimension: int) -> dict[str, float]:
    def copy() -> int:
        where = urlsplit(stack.qdrant_url)
        client = QdrantClient(
            host=where.hostname,
            grpc_port=where.port or 0,
            prefer_grpc=True,
            check_compatibility=False,
        )
        try:
            client.migrate(_Renamed(client), [shared(APPLICATION)])  # type: ignore[arg-type]
            return client.count(_Renamed.named(shared(APPLICATION))).count
        finally:
            client.close()

    return {"client": await _timed(lambda: asyncio.to_thread(copy), points)}


async def _timed(work: Callable[[], Awaitable[int]], expected: int) -> float:
    """Seconds that it takes.

    Raises:
        RuntimeError: it did not do what it should.
    """
    began = time.perf_counter()
    done = await work()
    took = time.perf_counter() - began
    if done != expected:
        raise RuntimeError(f"{done} points instead of {expected}")
    return took


class _Renamed:
    """A client whose collections have other names, so that `migrate` can stay on one node."""

    def __init__(self, client: QdrantClient) -> None:
        self._client = client

    @staticmethod
    def named(name: str) -> str:
        return f"client_{name}"

    def get_collections(self) -> Any:
        """What is there; nothing has such a name."""
        found = self._client.get_collections()
        found.collections.clear()
        return found

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._client, method)
        return lambda name, *args, **kwargs: call(self.named(name), *args, **kwargs)


def _limit(dimension: int, seconds: Mapping[str, float]) -> str:
    return (
        f"At {dimension} dimensions the bare loop itself is "
        f"{seconds['client'] / seconds['bare']:.1f} times as fast as `migrate`: both wait for the "
        "node, and so does ours."
    )


def _steps(dimension: int, seconds: Mapping[str, float]) -> str:
    steps = [(w.removeprefix("step "), s) for w, s in seconds.items() if w.startswith("step ")]
    return f"Steps of ours at {dimension} dimensions, in seconds:\n\n" + table(
        [name for name, _ in steps], [[f"{took:.1f}" for _, took in steps]]
    )


async def _profile(points: int, dimension: int) -> str:
    """Where processor time goes in a round of its own, by process and stage."""
    with tempfile.TemporaryDirectory(prefix="bench-samples-") as folder:
        async with running(samples=Path(folder)) as stack:
            await warm_up(stack, dimension)
            await make(stack, APPLICATION, points, dimension, SOURCES)
            processes = stack.processes()
            for name in processes.keys() - {"postgres", "broker"}:
                os.kill(processes[name], signal.SIGUSR1)
            before = {name: cpu_seconds(pid) for name, pid in processes.items()}
            await migrate(stack, APPLICATION)
            spent = {n: cpu_seconds(pid) - before[n] for n, pid in processes.items()}
        stages = _samples(Path(folder))
    rows = [
        (name, f"{took:.1f}", f"{1e6 * took / points:.0f}", _shares(stages, name))
        for name, took in sorted(spent.items(), key=lambda item: -item[1])
    ]
    headings = ("process", "processor s", "µs a point", "of which")
    return (
        f"Where processor time goes at {dimension} dimensions, check included (a round of its own; "
        "stages by samples of each thread every 5 ms):\n\n" + table(headings, rows)
    )


def _samples(folder: Path) -> dict[str, dict[str, int]]:
    return {file.stem: json.loads(file.read_text()) for file in folder.iterdir()}


def _shares(stages: Mapping[str, Mapping[str, int]], name: str) -> str:
    found = stages.get(name) or stages.get(f"worker-{name}-1") or {}
    total = sum(found.values()) or 1
    shown = sorted(found.items(), key=lambda item: -item[1])[:SHOWN_STAGES]
    return ", ".join(f"{stage} {count / total:.0%}" for stage, count in shown)
