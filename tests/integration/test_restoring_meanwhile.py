"""Restores while other migrations copy the collection, and of copies whose old side is warm."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from domain.model.errors import InvalidSpec, Rejected
from domain.model.generation import Generation
from domain.model.migration import Migration, State
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.tools import Tools
from domain.use_cases.versions import tag_version
from domain.use_cases.write_points import Delete, Upsert
from tests.integration.builders import DOCS, document_points
from tests.integration.faults import Wrapped
from tests.integration.worlds import CONNECTION, MARA, STORE, World, eventually
from tests.integration.writers import Plain, live_write, one, payloads, writing_at

LABEL = "before the clean-up"

SPLIT: dict[str, Any] = {"recipe": "per-domain-collections", "to": {"store": STORE}}
NEW: dict[str, Any] = {"recipe": "new-generation"}
WAYS = {
    "a split": SPLIT,
    "a split that drops": SPLIT | {"after": "drop"},
    "a split that keeps warm": SPLIT | {"warm_for": "7d"},
    "a new generation": NEW | {"to": {"name": "{prefix}_new"}},
    "a new generation that replaces": NEW | {"to": {"replace": True}},
}


async def with_history(world: World) -> tuple[Plain, Plain]:
    """A collection that is managed; what it was at a label, and what it is."""
    for number in (1, 2):
        await world.add_source(number, world.named(f"Source {number}"), ["documents"])
    await world.share(world.docs, DOCS, document_points([1, 2] * 6))
    spec = {"recipe": "adopt-collections", "store": STORE, "collections": [world.docs]}
    await migrated(world, await planned(world, "adopted", spec))
    await tag_version(world.tools, STORE, world.docs, LABEL, None, MARA)
    before = await payloads(world, world.docs)
    points = await world.points(world.docs)
    async with world.applier():
        await live_write(world, world.docs, Delete(points.keys[:3]))
        await live_write(world, world.docs, Upsert(document_points([2, 1] * 3, seed=5)))
        await live_write(world, world.docs, one(90_000, 1, "later"))
        await world.applied((await world.looked_after(world.docs)).generation)
    return before, await payloads(world, world.docs)


async def planned(world: World, name: str, spec: dict[str, Any]) -> Migration:
    full = {"version": 1, "name": name, "reason": MARA.reason, "batch": {"size": 4}, **spec}
    return (await plan_migration(world.tools, full, MARA)).migration


async def moving(world: World, way: str, **more: Any) -> Migration:
    """A migration that copies the collection, and hands over to the copies."""
    source: dict[str, Any] = {"store": STORE, "collection": world.docs}
    spec = {**WAYS[way], **more}
    if spec["recipe"] == SPLIT["recipe"]:
        table = {"connection": CONNECTION, "table": f"{world.schema}.sources"}
        source = {"store": STORE, **table, "collections": {"documents": world.docs}}
    elif "name" in spec["to"]:
        spec["to"] = {"name": world.named("new")}
    return await planned(world, way, {**spec, "from": source})


async def restore(world: World, collection: str, **more: Any) -> Migration:
    spec = {"store": STORE, "collection": collection, "to": LABEL, "later_writes": "discard"}
    return await planned(world, "back", {"recipe": "restore-version", **spec, **more})


async def migrated(world: World, migration: Migration, tools: Tools | None = None) -> Migration:
    done = await world.run(migration, tools)
    assert done.state is State.COMPLETED, done.error
    return done


async def served(world: World, migration: Migration) -> Plain:
    """What the copies hold by now; each is as the ledger says."""
    found: Plain = {}
    for name in copies(migration):
        assert (await world.verify(name)).equal
        found |= await payloads(world, name)
    return found


def copies(migration: Migration) -> list[str]:
    """Physical names of the collections that a migration made."""
    [create] = [step for step in migration.plan.steps if step.id == "create"]
    return [made["physical"] for made in create.params["collections"]]


@pytest.mark.parametrize(
    ("way", "step"),
    [
        ("a split", "check"),
        ("a split that drops", "flow"),
        ("a split that keeps warm", "flow"),
        ("a new generation that replaces", "check"),
    ],
)
async def test_a_source_is_restored_while_it_is_copied(world: World, way: str, step: str) -> None:
    """The copies get what the restore changed, and both can be undone, the later one first."""
    before, after = await with_history(world)
    moved = await moving(world, way)
    restored: list[Migration] = []

    async def meanwhile() -> None:
        back = await restore(world, world.docs)
        await world.start(back)
        restored.append(await world.settled(back.id))

    moved = await migrated(world, moved, writing_at(world, step, meanwhile))

    [back] = restored
    assert back.state is State.COMPLETED, back.error
    assert await served(world, moved) == before

    refused = await world.roll_back(back)

    assert refused.state is State.FAILED
    assert f"migration {moved.id}" in str(refused.error)
    assert "Nothing was undone so far" in str(refused.error)
    assert await served(world, moved) == before
    again = {"source_id": 1, "text": "again"}
    await live_write(world, copies(moved)[0], one(90_000, 1, "again"))

    assert (await world.roll_back(moved)).state is State.ROLLED_BACK
    assert await payloads(world, world.docs) == before | {90_000: again}
    undone = await world.roll_back(back)
    assert undone.state is State.ROLLED_BACK, undone.error
    assert await payloads(world, world.docs) == after | {90_000: again}
    assert (await world.verify(world.docs)).equal
    await live_write(world, world.docs, one(1, 1, "nothing is held"))


async def held_by(world: World, migration: Migration) -> bool:
    return str(migration.id) in (await world.looked_after(world.docs)).holders


async def test_a_hand_over_waits_for_a_restore_that_is_under_way(world: World) -> None:
    """It is recorded only after the collection is held, and is in the copies all the same."""
    before, _ = await with_history(world)
    moved, back = await moving(world, "a split"), await restore(world, world.docs)

    async def start() -> None:
        await world.start(back)
        await eventually(lambda: held_by(world, back))

    looked: list[UUID] = []

    async def load(kind: type[Any], stream: UUID) -> Any:
        if stream == back.id and await held_by(world, moved):
            looked.append(stream)
        return await world.ledger.load(kind, stream)

    async def waits_or_is_through() -> bool:
        return len(looked) > 1 or "hand-over" in (await world.migration(moved.id)).results

    async def record(key: str, *drafts: Any) -> Any:
        if f"migration/{back.id}/restore" in key:
            await eventually(waits_or_is_through)
        return await world.ledger.record(key, *drafts)

    tools = writing_at(world, "check", start)
    tools = replace(tools, ledger=Wrapped(tools.ledger, record=record, load=load))
    moved = await migrated(world, moved, tools)
    assert (await world.migration(back.id)).state is State.COMPLETED
    assert await served(world, moved) == before


async def test_a_restore_that_stopped_stops_the_hand_over(world: World) -> None:
    before, _ = await with_history(world)
    back = await restore(world, world.docs, on_failure="pause")
    moved = await moving(world, "a split", on_failure="pause")

    async def record(key: str, *drafts: Any) -> Any:
        if f"migration/{back.id}/restore" in key:
            raise Rejected("not now")
        return await world.ledger.record(key, *drafts)

    refusing = replace(world.tools, ledger=Wrapped(world.ledger, record=record))
    assert (await world.run(back, refusing)).state is State.FAILED

    stopped = await world.run(moved)

    assert stopped.state is State.FAILED
    assert f"migration {back.id} restores '{world.docs}' and has stopped" in str(stopped.error)
    assert not await held_by(world, moved)
    await migrated(world, back)
    await migrated(world, moved)
    assert await served(world, moved) == before


async def test_what_was_handed_over_is_not_restored(world: World) -> None:
    """Nobody would see it: what serves its points now is restored, or they are taken back."""
    before, after = await with_history(world)
    early = await restore(world, world.docs)
    moved = await migrated(world, await moving(world, "a split"))
    who = f"'{world.docs}' takes no writes because of migration {moved.id}"
    way_out = "restore what serves them now, or cancel that or roll it back first"
    with pytest.raises(InvalidSpec, match=f"{who}, .*: {way_out}"):
        await world.start(early)
    with pytest.raises(InvalidSpec, match=who):
        await restore(world, world.docs, ticket="OPS-7")
    assert (await world.roll_back(moved)).state is State.ROLLED_BACK
    assert await payloads(world, world.docs) == after
    await migrated(world, early)
    assert await payloads(world, world.docs) == before


async def test_a_hand_over_right_before_a_restore_begins_stops_it(world: World) -> None:
    _, after = await with_history(world)
    moved, back = await moving(world, "a split"), await restore(world, world.docs)

    async def append(command: Any) -> Any:
        for event in command.events:
            if isinstance(event, Migration.StepCompleted) and event.step == "check":
                await world.start(back)
            if isinstance(event, Generation.WritesHeld) and event.migration == str(back.id):
                await eventually(lambda: held_by(world, moved))
        return await world.ledger.append(command)

    late = replace(world.tools, ledger=Wrapped(world.ledger, append=append))
    moved = await migrated(world, moved, late)
    async with world.workers():
        stopped = await world.settled(back.id)
    assert stopped.state is State.ROLLED_BACK
    assert f"'{world.docs}' takes no writes because of migration {moved.id}" in str(stopped.error)
    assert "cancel that or roll it back first" in str(stopped.error)
    assert await served(world, moved) == await payloads(world, world.docs) == after


@pytest.mark.parametrize("warm_for", ["7d", "0s"])
async def test_a_copy_is_restored_and_the_old_side_gets_that_back(
    world: World, warm_for: str
) -> None:
    """At once where it is kept warm, and by the rollback where not."""
    _, after = await with_history(world)
    moved = await migrated(world, await moving(world, "a split", warm_for=warm_for))
    name, points = copies(moved)[0], await world.points(copies(moved)[0])
    await tag_version(world.tools, STORE, name, LABEL, None, MARA)
    async with world.workers():
        await live_write(world, name, Delete(points.keys[:2]))
        await live_write(world, name, one(90_001, 1, "goes again"))
        if warm_for != "0s":
            await eventually(lambda: up_to_date(world))
            assert 90_001 in await payloads(world, world.docs)
        back = await restore(world, name)
        await world.start(back)
        done = await world.settled(back.id)
        assert done.state is State.COMPLETED, done.error
        await live_write(world, name, one(90_002, 1, "stays"))
        await world.applied((await world.looked_after(name)).generation)
        if warm_for != "0s":
            await eventually(lambda: up_to_date(world))
            assert await payloads(world, world.docs) == after | STAYS
    assert await served(world, moved) == after | STAYS
    rolled_back = await world.roll_back(moved)
    assert rolled_back.state is State.ROLLED_BACK, rolled_back.error
    assert await payloads(world, world.docs) == after | STAYS
    assert (await world.verify(world.docs)).equal


STAYS: Plain = {90_002: {"source_id": 1, "text": "stays"}}


async def up_to_date(world: World) -> bool:
    """Whether nothing is left to be given back, and the store has all of it."""
    status = await world.looked_after(world.docs)
    return not await world.tools.ranges.remaining() and status.applied >= status.recorded
