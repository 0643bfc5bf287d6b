"""A write that was not answered may be carried out after those that followed it."""

from typing import Any

import pytest

from domain.model.errors import Unavailable
from domain.model.points import PointBatch
from domain.use_cases import lanes
from tests.integration.builders import document_points
from tests.integration.faults import Wrapped
from tests.integration.worlds import World, eventually


async def test_a_late_write_of_our_own_is_put_right(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "SETTLE_SECONDS", 0.5)
    generation = await world.generation()
    await world.write(generation, document_points(["1"] * 5))
    late: list[PointBatch] = []

    async def upsert(name: str, points: PointBatch, *rest: Any, **named: Any) -> None:
        if not late:
            late.append(points)
            raise Unavailable("no answer")
        await world.store.upsert(name, points, *rest, **named)

    async with world.applier(world.with_store(Wrapped(world.store, upsert=upsert))):
        await world.applied(generation)
        await world.write(generation, document_points(["2"] * 3))
        await world.delete(generation, document_points(["1"] * 5).keys[3:])
        status = await world.applied(generation)
        await world.store.upsert(status.physical, late[0])
        assert not (await world.verify(status.physical)).equal

        async def equal() -> bool:
            return (await world.verify(status.physical)).equal

        await eventually(equal, within=20)
