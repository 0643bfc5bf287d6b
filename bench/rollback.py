"""How long a rollback takes until the old names serve again, and what comes after it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from adapters.bootstrap import DEFAULT
from bench.migrating import POLL_SECONDS, WHO, make, migrate, shared, warm_up
from bench.points import batches
from bench.report import Report, Row, limit
from bench.servers import Running, running
from domain.model.migration import Migration, State
from domain.model.recorded import Recorded
from domain.use_cases.old_sides import old_sides
from domain.use_cases.steer_migration import roll_back_migration
from domain.use_cases.write_points import Upsert, open_live

NAME = "rollback"
SIZES = (10_000, 500_000)
QUICK_SIZES = (500, 1_000)
DIMENSION = 128
SOURCES = 8
LATER = 2_000
QUICK_LATER = 100
BATCH = 100
APPLICATION = "knowledge"
SWITCH_AIM = 1.0

_EXPLANATION = """\
A shared collection of {dimension} dimensions is split into {sources}; then {later:,} points are
written to one of the new collections, {batch} at a time. *The switch* is from the request of the
rollback until the names are gone and the old collection takes writes. *Warm, lag 0*: with
`warm_for`, when the old side has everything that was written; nothing is compared before the
switch. *Not warm*: every new collection is compared with the ledger first, and the later writes are
given back. *The rest* compares the new collections and drops them. *Held* is how long the forward
migration refuses writes to the old collection before the new ones take them. Each size has new
servers."""


async def run(*, quick: bool = False) -> Report:
    """Measure each size, with a warm old side and without one."""
    later = QUICK_LATER if quick else LATER
    small, large = QUICK_SIZES if quick else SIZES
    rows = [
        *await _measure(small, later, warm=True),
        *await _measure(small, later, warm=False),
        *await _measure(large, later, warm=True),
    ]
    explanation = _EXPLANATION.format(
        dimension=DIMENSION, sources=SOURCES, later=later, batch=BATCH
    )
    return Report("Rollback", rows, [explanation])


async def _measure(points: int, later: int, *, warm: bool) -> list[Row]:
    async with running() as stack:
        await warm_up(stack, DIMENSION)
        await make(stack, APPLICATION, points, DIMENSION, SOURCES)
        events = await migrate(stack, APPLICATION, **({"warm_for": "1h"} if warm else {}))
        migration = events[0].stream
        began = time.perf_counter()
        await _write(stack, points + 1, later)
        behind = await _behind(stack, migration)
        caught_up = await _caught_up(stack, migration) if warm else 0.0
        writing = time.perf_counter() - began
        events = await _roll_back(stack, migration)
        found = await stack.service.stores.store(DEFAULT).describe(shared(APPLICATION))
        if found is None or found.points != points + later:
            raise RuntimeError(f"{points + later:,} points were expected, and there are {found}")
    switch = _between(events, "rollback-requested", "", "step-compensated", "hand-over")
    rest = _between(events, "step-compensated", "hand-over", "rolled-back", "")
    held = _between(events, "step-started", "hand-over", "step-completed", "resume")
    size = f"{points:,} points"
    if not warm:
        return [Row(f"{size}, not warm, the switch", f"{switch:.2f} s")]
    return [
        limit(f"{size}, warm, lag 0, the switch", switch, SWITCH_AIM, "s"),
        Row(f"{size}, the rest", f"{rest:.1f} s"),
        Row(f"{size}, held", f"{held:.2f} s"),
        Row(
            f"{size}, lag",
            f"{behind} changes behind after the last write, 0 after {caught_up:.2f} s",
            f"{later:,} points were written in {writing - caught_up:.1f} s",
        ),
    ]


async def _write(stack: Running, first: int, count: int) -> None:
    """Write new points to the collection of the first source."""
    live = await open_live(stack.service.tools, DEFAULT, f"{APPLICATION}_1_documents")
    for points in batches(count, DIMENSION, SOURCES, seed=2, first=first):
        for start in range(0, len(points), BATCH):
            part = points.take(range(start, min(start + BATCH, len(points))))
            await live.write(Upsert(part), str(uuid4()), WHO)


async def _behind(stack: Running, migration: UUID) -> int:
    found = await stack.service.ledger.load(Migration, migration)
    if found is None:
        raise RuntimeError(f"migration {migration} is not in the ledger")
    return sum(side.behind for side in await old_sides(stack.service.tools, found))


async def _caught_up(stack: Running, migration: UUID) -> float:
    began = time.perf_counter()
    while await _behind(stack, migration):
        await asyncio.sleep(POLL_SECONDS)
    return time.perf_counter() - began


async def _roll_back(stack: Running, migration: UUID) -> list[Recorded]:
    tools = stack.service.tools
    await roll_back_migration(tools, migration, WHO)
    while True:
        found = await tools.ledger.load(Migration, migration)
        if found is not None and found.state.settled:
            break
        await asyncio.sleep(POLL_SECONDS)
    if found.state is not State.ROLLED_BACK:
        raise RuntimeError(f"the migration was not rolled back: {found.error}")
    return await tools.ledger.events(migration)


def _between(
    events: Sequence[Recorded], topic: str, step: str, last_topic: str, last_step: str
) -> float:
    """Seconds between two events, by the database's clock."""
    at: dict[tuple[Any, str], Any] = {
        (one.topic.removeprefix("migration."), getattr(one.event, "step", "")): one.recorded_at
        for one in events
    }
    seconds: float = (at[last_topic, last_step] - at[topic, step]).total_seconds()
    return seconds
