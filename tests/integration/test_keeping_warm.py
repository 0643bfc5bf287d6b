"""The old side gets what is written to the new one, so that a rollback has nothing to copy."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.model.flow import Flow
from domain.model.migration import Migration, State
from domain.model.points import decode_payload, encode_payload, id_of, key_of
from domain.use_cases import work_flows
from domain.use_cases.flows import reading
from domain.use_cases.old_sides import old_sides
from domain.use_cases.retain import leaving
from domain.use_cases.steer_migration import roll_back_migration
from domain.use_cases.write_points import Delete, Upsert
from tests.integration.builders import DOCS, document_points
from tests.integration.faults import Crash, Wrapped, after
from tests.integration.retaining import keep_since_now
from tests.integration.worlds import MARA, STORE, World, eventually
from tests.integration.writers import Plain, adopted, live_write, one, payloads

WARM = {"warm_for": "7d"}


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points and changes come in many parts."""
    monkeypatch.setattr(reading, "CHANGE_SETS_A_RANGE", 1)
    monkeypatch.setattr(reading, "CHANGED_POINTS_A_RANGE", 1)
    monkeypatch.setattr(work_flows, "LEASE_SECONDS", 0.5)


async def warm_split(world: World, **changes: Any) -> Migration:
    await adopted(world)
    done = await world.run(await world.plan(**{**WARM, **changes}))
    assert done.state is State.COMPLETED, done.error
    return done


async def returned(world: World) -> None:
    """Wait until nothing that was written to a copy is left to give back, and the store has it."""

    async def through() -> bool:
        return not await world.tools.ranges.remaining()

    await eventually(through)
    await world.applied((await world.looked_after(world.docs)).generation)


async def write_to_copies(world: World) -> Plain:
    """Change, delete, add and move points of the copies; returns what the shared one is to be."""
    shared = await world.points(world.docs)
    model = {id_of(k): decode_payload(p) for k, p in zip(shared.keys, shared.payloads, strict=True)}
    first, second = (world.names[source, "documents"] for source in ("1", "2"))
    points = await world.points(first)
    for number in range(5):
        changed = points.take([number])
        model[id_of(points.keys[number])] = {"source_id": 1, "later": number}
        changed.payloads[0] = encode_payload({"source_id": 1, "later": number})
        await live_write(world, first, Upsert(changed))
    await live_write(world, first, Delete(points.keys[4:8]))
    for key in points.keys[4:8]:
        del model[id_of(key)]
    await live_write(world, second, one(90_001, 2, "new"))
    model[90_001] = {"source_id": 2, "text": "new"}
    moved = points.take([9])
    moved.payloads[0] = encode_payload({"source_id": 1, "before": "the move"})
    await live_write(world, first, Upsert(moved))
    await live_write(world, first, one(90_002, 1, "between"))
    model[90_002] = {"source_id": 1, "text": "between"}
    moved.payloads[0] = encode_payload({"source_id": 2, "moved": True})
    await live_write(world, second, Upsert(moved))
    await live_write(world, first, Delete(moved.keys))
    model[id_of(moved.keys[0])] = {"source_id": 2, "moved": True}
    return model


async def test_the_old_side_gets_what_is_written_to_the_new_one(world: World) -> None:
    done = await warm_split(world)
    async with world.workers():
        model = await write_to_copies(world)
        await returned(world)
        assert await payloads(world, world.docs) == model
        assert (await world.verify(world.docs)).equal
        before = (await world.looked_after(world.docs)).recorded
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert await payloads(world, world.docs) == model
    changes = [
        one
        for one in await world.events("generation.change-set-recorded")
        if one.version > before
        and one.stream
        == (await world.tools.applications.generations(store=STORE, physical=world.docs))[
            0
        ].generation
    ]
    assert changes == []  # nothing was left to be carried


async def test_a_warm_side_rests_when_its_time_is_over_and_a_rollback_wakes_it(
    world: World,
) -> None:
    done = await warm_split(world, warm_for="1s")
    until = datetime.fromisoformat(done.results["hand-over"]["warm_until"])

    async def over() -> bool:
        return datetime.now(UTC) > until + timedelta(seconds=0.2)

    await eventually(over)
    before = await payloads(world, world.docs)
    model = await write_to_copies(world)
    async with world.applier():
        for name in ("1", "2"):
            copy = (await world.aliases())[world.names[name, "documents"]]
            await world.applied((await world.looked_after(copy)).generation)
    assert await world.tools.ranges.remaining() == 0
    assert await payloads(world, world.docs) == before
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    assert await payloads(world, world.docs) == model


@pytest.mark.parametrize("warm_for", ["7d", "1s"])
async def test_retention_keeps_what_a_warm_side_was_at_the_hand_over(
    world: World, warm_for: str
) -> None:
    done = await warm_split(world, warm_for=warm_for)
    result = done.results["hand-over"]
    handed_over = result["versions"]["sources"][world.docs]
    async with world.workers():
        await write_to_copies(world)
        await returned(world)
    await keep_since_now(world, world.docs)

    async def over() -> bool:
        return datetime.now(UTC) > datetime.fromisoformat(result["warm_until"])

    origin = (await world.looked_after(world.docs)).generation
    if warm_for == "1s":
        await eventually(over)
        await world.write(origin, document_points(["late"]))
    before = {one.generation: one.before for one in await leaving(world.tools)}
    assert (before.get(origin, 0) > handed_over) is (warm_for == "1s")


async def test_points_that_cannot_go_back_stop_the_rollback_and_nothing_is_undone(
    world: World,
) -> None:
    done = await warm_split(world)
    first, second = (world.names[source, "documents"] for source in ("1", "2"))
    async with world.workers():
        await live_write(world, first, one(70_001, 1, "mine"))
        await returned(world)
        await live_write(world, second, one(70_001, 2, "yours"))
        picture = await world.picture()
        await roll_back_migration(world.tools, done.id, MARA)
        stopped = await world.settled(done.id)
        assert stopped.state is State.FAILED
        assert "point 70001 is in" in str(stopped.error)
        assert "Nothing was undone so far" in str(stopped.error)
        await world.applied((await world.looked_after(f"{second}__g1")).generation)
        assert (await world.picture())["aliases"] == picture["aliases"]
        sides = {one.collection: one for one in await old_sides(world.tools, stopped)}
        side = sides[world.docs]
        assert side.behind
        assert side.warm
        assert "point 70001 is in" in str(side.stuck)
        await live_write(world, second, Delete([key_of(70_001)]))
    assert (await world.roll_back(stopped)).state is State.ROLLED_BACK
    assert (await payloads(world, world.docs))[70_001]["text"] == "mine"


async def test_a_point_that_moves_while_both_copies_give_back(world: World) -> None:
    """One worker looked at the other copy before the point came there, and records later."""
    done = await warm_split(world)
    first, second = (world.names[source, "documents"] for source in ("1", "2"))
    point = (await world.points(first)).take([0])
    looked, go_on = asyncio.Event(), asyncio.Event()

    async def heads_among(generations: Any, keys: Any) -> Any:
        found = await world.ledger.heads_among(generations, keys)
        if keys == point.keys and not looked.is_set():
            looked.set()
            await go_on.wait()
        return found

    slow = replace(world.tools, ledger=Wrapped(world.ledger, heads_among=heads_among))
    await live_write(world, first, Delete(point.keys))
    async with world.workers(slow):
        await looked.wait()
        await live_write(world, second, Upsert(point))
        async with world.flow_worker():
            copy = await world.looked_after(f"{second}__g1")
            origin = await world.looked_after(world.docs)
            flow = Flow.create_id(
                str(done.id), f"hand-over/return/{copy.physical}/{origin.generation}"
            )
            await eventually(lambda: caught_up(world, flow, copy.generation))
        go_on.set()
        await returned(world)
    assert id_of(point.keys[0]) in await payloads(world, world.docs)


async def caught_up(world: World, flow: UUID, source: UUID) -> bool:
    queued = await world.tools.ranges.next(flow)
    return queued is not None and queued[1]["since"] >= (await world.status(source)).recorded


async def test_a_copy_with_points_that_only_the_store_has_is_kept_by_a_warm_rollback(
    world: World,
) -> None:
    """The names go back at once; what the ledger does not know stays where it is."""
    done = await warm_split(world)
    kept = f"{world.names['2', 'documents']}__g1"
    await world.store.upsert(kept, document_points(["2"] * 3, first=7000))
    changed = f"{world.names['1', 'documents']}__g1"
    points = (await world.points(changed)).take([0])
    points.payloads[0] = encode_payload({"behind": "our back"})
    await world.store.upsert(changed, points)
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert sorted(back.compensated["create"]["released"]) == sorted([kept, changed])
    assert {kept, changed} <= await world.collections()
    assert not await world.aliases()


async def test_a_warm_rollback_is_killed_anywhere(world: World) -> None:
    done = await warm_split(world)
    model = await write_to_copies(world)
    await roll_back_migration(world.tools, done.id, MARA)
    kills = 0
    for nth in (1, 2, 3, 5, 8, 13):
        append = after(world.ledger.append, Crash("killed"), nth=nth)
        record = after(world.ledger.record, Crash("killed"), nth=nth)
        tools = replace(world.tools, ledger=Wrapped(world.ledger, append=append, record=record))
        try:
            async with world.workers(tools):
                await world.settled(done.id)
        except* Crash:
            kills += 1
    async with world.workers():
        back = await world.settled(done.id)
    assert back.state is State.ROLLED_BACK, back.error
    assert kills > 3
    assert await payloads(world, world.docs) == model
    assert await world.collections() == {world.docs, world.code}


async def test_what_was_written_past_the_ledger_is_not_deleted_from_a_collection_of_others(
    world: World,
) -> None:
    """A warm rollback compares collections first that were there before the migration."""
    name = world.names["1", "documents"]
    await world.store.create(name, DOCS)
    done = await warm_split(world, to={"store": STORE, "naming": "physical"})
    changed = (await world.points(name)).take([0])
    changed.payloads[0] = encode_payload({"behind": "our back"})
    await world.store.upsert(name, changed)
    refused = await world.roll_back(done)
    assert refused.state is State.FAILED
    assert "1 changed" in str(refused.error)
    assert (await payloads(world, name))[id_of(changed.keys[0])] == {"behind": "our back"}
