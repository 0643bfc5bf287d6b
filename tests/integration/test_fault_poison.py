"""A change that the store refuses halts its collection, and none of fifty others.

How fast the others are beside a halted one is measured by `python -m bench poison`.
"""

from collections import Counter
from uuid import UUID

import pytest

from domain.model.points import PointBatch, encode_dense
from domain.use_cases import apply_changes
from tests.integration.builders import document_points
from tests.integration.faults import LedgerDeliveries, Wrapped
from tests.integration.worlds import MARA, World, eventually

OTHERS = 50
CHANGES = 4
LETTERS = 12
LONG = 1000.0  # seconds


def poison(first: int) -> PointBatch:
    """Points with vectors of another dimension: recorded, and refused by the store."""
    points = document_points(["1"] * 3, first=first)
    points.vectors[""] = [encode_dense([1.0, 2.0, 3.0]) for _ in points.keys]
    return points


async def test_fifty_collections_go_on_beside_a_halted_one(world: World) -> None:
    sick = await world.generation("sick")
    await world.write(sick, poison(first=500))
    others = [await world.generation(f"well{number}") for number in range(OTHERS)]
    for number in range(CHANGES):
        for generation in others:
            await world.write(generation, document_points(["1"] * 5, seed=number))
        await world.write(sick, document_points(["1"] * 5, seed=number))
    calls: Counter[str] = Counter()

    async def upsert(name: str, points: PointBatch) -> None:
        calls[name] += 1
        await world.store.upsert(name, points)

    deliveries = LedgerDeliveries(world.ledger)
    async with world.applier(
        world.with_store(Wrapped(world.store, upsert=upsert)), deliveries=deliveries
    ):
        for generation in others:
            status = await world.applied(generation)
            assert status.halted_at is None
            assert (await world.verify(status.physical)).equal
        halted = await world.applied(sick)
        await eventually(lambda: nothing_open(deliveries))
    assert (halted.applied, halted.halted_at, halted.recorded) == (1, 2, 2 + CHANGES)
    # With its neighbours, alone, and not again: a halted collection costs the others nothing.
    assert calls.pop(halted.physical) <= 2
    assert sum(calls.values()) <= OTHERS * CHANGES


async def nothing_open(deliveries: LedgerDeliveries) -> bool:
    return bool(deliveries.delivered) and not deliveries.open


async def test_decisions_are_acted_on_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of many dead letters is given up; none waits for the next look into the ledger."""
    monkeypatch.setattr(apply_changes, "POLL_SECONDS", LONG)
    sick = await world.generation("sick")
    for number in range(LETTERS):
        await world.write(sick, poison(first=10 * number + 1))
    await world.write(sick, document_points(["1"] * 5, first=900))
    applications = world.tools.applications
    async with world.applier():
        for number in range(LETTERS):
            await eventually(lambda at=number + 2: halts_at(world, sick, at))
            await applications.skip(sick, MARA)
        status = await world.applied(sick)
    assert (status.applied, status.halted_at) == (status.recorded, None)
    skipped = await world.events("application.change-skipped")
    assert [vars(one.event)["change"] for one in skipped] == [n + 2 for n in range(LETTERS)]
    assert {one.context.reason for one in skipped} == {MARA.reason}


async def halts_at(world: World, generation: UUID, version: int) -> bool:
    return (await world.status(generation)).halted_at == version
