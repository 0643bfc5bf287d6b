"""Work that reads points and records them, while points of the same bodies are erased."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from domain.model.migration import State
from domain.model.points import PointBatch, id_of
from domain.use_cases.erase import all_erasures
from domain.use_cases.no_longer_true import no_longer_true
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.steer_migration import roll_back_migration
from domain.use_cases.take_in import take_in
from domain.use_cases.tools import Tools
from tests.integration.builders import document_points
from tests.integration.erasures import ART_17, erase, erasing, find
from tests.integration.faults import Wrapped
from tests.integration.retaining import number
from tests.integration.worlds import MARA, STORE, World


def erasing_before(world: World, part_of_key: str, one: int | str) -> Tools:
    """Tools with which a point is erased right before something is recorded for the first time."""
    erased: list[int] = []

    async def record(key: str, *given: Any, **more: Any) -> Any:
        if part_of_key in key and not erased:
            work = erasing(world)
            (part,) = (await find(world, [one])).parts()
            async with work.alone("erasing"):
                erased.append((await work.begin(part, ART_17)).number)
                await work.finish(erased[0])
        return await world.ledger.record(key, *given, **more)

    return replace(world.tools, ledger=Wrapped(world.ledger, record=record))


@pytest.mark.parametrize("step", ["/restore", "/give-back"])
async def test_a_restore_goes_on_when_somebody_is_erased(world: World, step: str) -> None:
    """What it goes back to, and what its undoing does, lies in a body with that person."""
    generation, points = await world.generation("docs"), document_points(["1"] * 9)
    await world.write(generation, points)
    [event] = await world.ledger.events(generation, after=1)
    await world.write(generation, number(points, 2))
    async with world.applier():
        await world.applied(generation)
    spec = {
        "version": 1,
        "name": "back",
        "recipe": "restore-version",
        "reason": "OPS-7",
        "store": STORE,
        "collection": world.named("docs"),
        "to": str(event.position),
        "later_writes": "discard",
        "on_failure": "pause",
    }
    person, *others = points.keys
    tools = erasing_before(world, step, id_of(person))
    migration = (await plan_migration(world.tools, spec, MARA)).migration

    done = await world.run(migration, tools)

    assert done.state is State.COMPLETED, done.error
    there = await now(world, generation)
    assert [there[key] for key in others] == points.hashes()[1:]
    assert await no_longer_true(world.tools, done) == []
    done = await rolled_back(world, done.id, tools)
    assert done.state is State.ROLLED_BACK, done.error
    assert await now(world, generation) == {
        key: point_hash for key, point_hash in hashes(number(points, 2)).items() if key != person
    }
    async with world.applier():
        await world.applied(generation)
    assert (await world.verify(world.named("docs"))).equal


async def test_a_rebuild_fails_when_somebody_is_erased_meanwhile(world: World) -> None:
    """Without `without_erased` its result is the version as it was planned, or there is none."""
    generation, points = await world.generation("docs"), document_points(["1"] * 9)
    await world.write(generation, points)
    spec = {
        "version": 1,
        "name": "then",
        "recipe": "rebuild-version",
        "reason": "OPS-7",
        "from": {"store": STORE, "collection": world.named("docs"), "at": "2"},
        "to": {"store": STORE, "collection": world.named("then")},
        "on_failure": "pause",
    }
    migration = (await plan_migration(world.tools, spec, MARA)).migration

    async def create(*given: Any, **more: Any) -> None:
        work = erasing(world)
        if not await all_erasures(world.tools):
            (part,) = (await find(world, [id_of(points.keys[0])])).parts()
            await work.begin(part, ART_17)
        await world.store.create(*given, **more)

    done = await world.run(migration, world.with_store(Wrapped(world.store, create=create)))

    assert (done.state, done.results.get("aliases")) == (State.FAILED, None)
    assert "then__g1 has digest" in done.error


async def now(world: World, generation: UUID) -> dict[bytes, bytes]:
    heads = await world.ledger.heads(generation)
    return dict(zip(heads.keys, heads.hashes, strict=True))


def hashes(points: PointBatch) -> dict[bytes, bytes]:
    return dict(zip(points.keys, points.hashes(), strict=True))


async def rolled_back(world: World, migration: UUID, tools: Tools) -> Any:
    await roll_back_migration(world.tools, migration, MARA)
    async with world.workers(tools):
        return await world.settled(migration)


async def test_what_is_taken_in_is_read_again_when_somebody_is_erased(world: World) -> None:
    """The same points are in another collection, so they are in the same body."""
    generation, other = await world.generation("docs"), await world.generation("other")
    points = document_points(["1"] * 4)
    async with world.applier():
        await world.applied(generation)
        await world.applied(other)
    await world.store.upsert(world.named("docs"), points)
    erased: list[bool] = []

    async def record(key: str, context: Any, drafts: Any) -> Any:
        if not erased:
            erased.append(True)
            await world.record(replace(drafts[0], generation=other, captured_at=None))
            await erase(world, await find(world, [id_of(points.keys[1])], "other"))
        return await world.ledger.record(key, context, drafts)

    tools = replace(world.tools, ledger=Wrapped(world.ledger, record=record))
    status = await world.status(generation)
    assert await take_in(tools, status, MARA) == 4

    assert await now(world, generation) == hashes(points)
    assert await now(world, other) == hashes(points.take([0, 2, 3]))
    async with world.applier():
        await world.applied(generation)
    assert (await world.verify(world.named("docs"))).equal
