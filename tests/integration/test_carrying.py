"""Live writes and migrations: held while points are on their way, carried back by a rollback."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from domain.model.canonical import points_of
from domain.model.errors import (
    Conflict,
    InvalidSpec,
    NotFound,
    Rejected,
    Unavailable,
    WritesHeld,
)
from domain.model.generation import Generation
from domain.model.migration import Migration, State
from domain.model.points import PointBatch, decode_payload, encode_payload, id_of, key_of
from domain.use_cases import tools
from domain.use_cases.flows import reading
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.steer_migration import cancel_migration, roll_back_migration
from domain.use_cases.tools import Tools, update
from domain.use_cases.versions import tag_version
from domain.use_cases.write_points import Delete, SetPayload, Upsert
from tests.integration.builders import CODE, DOCS, code_points, document_points
from tests.integration.faults import Crash, Wrapped, after
from tests.integration.test_versions import planned, rebuild, written
from tests.integration.worlds import MARA, STORE, World, eventually
from tests.integration.writers import Plain, adopted, live_write, one, payloads


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later writes are carried in many parts."""
    monkeypatch.setattr(tools, "EVENTS_AT_ONCE", 3)
    monkeypatch.setattr(reading, "CHANGED_POINTS_A_RANGE", 4)


async def write_later(world: World, name: str) -> PointBatch:
    """Change some points of the first source's documents, delete some, add some."""
    points = await world.points(name)
    for number in range(6):
        changed = points.take([number])
        changed.payloads[0] = encode_payload({"source_id": 1, "later": number})
        await live_write(world, name, Upsert(changed))
    await live_write(world, name, Delete(points.keys[5:9]))
    await live_write(world, name, SetPayload({points.keys[10]: {"set": True}}))
    new = document_points([1] * 5, first=10_000, seed=5)
    await live_write(world, name, Upsert(new))
    return points


def expected(before: Plain, points: PointBatch) -> Plain:
    """What the shared collection is to be after a rollback."""
    ids = [id_of(key) for key in points.keys]
    model = dict(before)
    for number in range(6):
        model[ids[number]] = {"source_id": 1, "later": number}
    for gone in ids[5:9]:
        del model[gone]
    model[ids[10]] = {**model[ids[10]], "set": True}
    new = document_points([1] * 5, first=10_000, seed=5)
    for key, payload in zip(new.keys, new.payloads, strict=True):
        model[id_of(key)] = decode_payload(payload)
    return model


async def split(world: World, **changes: Any) -> tuple[Any, Plain, str]:
    await world.fill()
    before = await payloads(world, world.docs)
    done = await world.migrate(**changes)
    return done, before, world.names["1", "documents"]


@pytest.mark.parametrize("naming", ["alias", "physical"])
async def test_later_writes_survive_a_rollback(world: World, naming: str) -> None:
    to = {"store": STORE, "naming": naming}
    done, before, name = await split(world, to=to)
    points = await write_later_applied(world, name)
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert await payloads(world, world.docs) == expected(before, points)
    assert await world.collections() == {world.docs, world.code}


async def write_later_applied(world: World, name: str) -> PointBatch:
    async with world.applier():
        points = await write_later(world, name)
        physical = (await world.aliases()).get(name, name)
        await world.applied((await world.looked_after(physical)).generation)
    return points


async def test_later_writes_go_back_into_a_collection_that_was_dropped(world: World) -> None:
    from_ = {**world.spec()["from"]}
    done, before, name = await split(world, **{"from": from_}, after="drop")
    assert world.docs not in await world.collections()
    points = await write_later_applied(world, name)
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert await payloads(world, world.docs) == expected(before, points)


async def test_a_rollback_is_killed_while_it_carries(world: World) -> None:
    """Whatever was done already, the next coordinator carries the rest, once each.

    The target was there before, so that its points are deleted after they were carried.
    """
    name = world.names["1", "documents"]
    await world.store.create(name, DOCS)
    done, before, _ = await split(world, to={"store": STORE, "naming": "physical"})
    points = await write_later_applied(world, name)
    await roll_back_migration(world.tools, done.id, MARA)
    for nth in range(1, 12):
        record = after(world.ledger.record, Crash("killed"), nth=nth)
        tools = Wrapped(world.tools, ledger=Wrapped(world.ledger, record=record))
        with pytest.RaisesGroup(Crash, allow_unwrapped=True, flatten_subgroups=True):
            async with world.workers(tools):
                await world.settled(done.id)
            raise Crash("it went through")
    async with world.workers():
        back = await world.settled(done.id)
    assert back.state is State.ROLLED_BACK, back.error
    assert await payloads(world, world.docs) == expected(before, points)


async def test_what_was_split_takes_no_writes_until_the_rollback(world: World) -> None:
    done, _, name = await split(world)
    write = Upsert(points_of(DOCS, [{"id": 1, "vector": [1.0] * 8}]))
    with pytest.raises(WritesHeld, match=str(done.id)):
        await live_write(world, world.docs, write)
    await live_write(world, name, write)
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    assert (await payloads(world, world.docs))[1] == {}
    # The rollback also lets go of what it had adopted.
    assert not [s for s in await world.tools.applications.generations() if not s.gone]


async def test_a_copy_of_a_version_that_was_written_to_is_not_dropped(world: World) -> None:
    _, name = await written(world)
    done = await world.run(await planned(world, rebuild(world, name, "as imported", "then")))
    copy = world.named("then")
    points = await world.points(copy)
    one = points.take([3])
    async with world.applier():
        await live_write(world, copy, Delete(one.keys))
        await world.applied((await world.looked_after(f"{copy}__g1")).generation)
    await roll_back_migration(world.tools, done.id, MARA)
    async with world.workers():
        blocked = await world.settled(done.id)
    assert blocked.state is State.FAILED
    assert blocked.error is not None
    assert f"such as point {id_of(one.keys[0])}" in blocked.error
    assert len(await world.points(copy)) == len(points) - 1
    async with world.applier():
        await live_write(world, copy, Upsert(one))  # now it is the version again
        await world.applied((await world.looked_after(f"{copy}__g1")).generation)
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    assert world.named("then__g1") not in await world.collections()


async def keep_writing(world: World, name: str) -> dict[int, int]:
    """Write until writes are held; what was acknowledged, by id."""
    acknowledged: dict[int, int] = {}
    for number in range(10_000):
        written = 50_000 + number % 7
        point = {"id": written, "payload": {"source_id": 1, "n": number}, "vector": [1.0] * 8}
        try:
            await live_write(world, name, Upsert(points_of(DOCS, [point])))
        except (WritesHeld, NotFound):
            return acknowledged
        acknowledged[written] = number
    raise AssertionError("writes were never held")


@pytest.mark.parametrize("direction", ["forward", "back"])
async def test_nothing_acknowledged_is_lost_under_a_writer(world: World, direction: str) -> None:
    await world.fill()
    await adopted(world, filled=True)
    migration = await world.plan()
    await world.start(migration)
    held_in, found_in = world.docs, world.names["1", "documents"]
    async with world.workers(), asyncio.TaskGroup() as group:
        if direction == "back":
            await world.settled(migration.id)
            held_in, found_in = f"{found_in}__g1", held_in
        writing = group.create_task(keep_writing(world, held_in))
        if direction == "back":
            await roll_back_migration(world.tools, migration.id, MARA)
        done = await world.settled(migration.id)
    wanted = State.COMPLETED if direction == "forward" else State.ROLLED_BACK
    assert done.state is wanted, done.error
    found = await payloads(world, found_in)
    assert writing.result()
    for point, number in writing.result().items():
        assert found[point]["n"] == number


def refusing(world: World) -> Tools:
    """Tools whose store takes no points for the shared documents."""

    async def upsert(to: str, batch: PointBatch) -> None:
        if to == world.docs:
            raise Rejected("not today")
        await world.store.upsert(to, batch)

    return world.with_store(Wrapped(world.store, upsert=upsert))


async def test_later_writes_that_the_store_refuses_stop_the_rollback(world: World) -> None:
    done, before, name = await split(world)
    points = await write_later_applied(world, name)

    await roll_back_migration(world.tools, done.id, MARA)
    async with world.workers(refusing(world)):
        stopped = await world.settled(done.id)
    assert stopped.state is State.FAILED
    assert stopped.error is not None
    assert "see `dead-letter list`" in stopped.error
    assert name in await world.aliases()  # nothing was undone so far
    source = await world.looked_after(world.docs)
    await world.tools.applications.retry(source.generation, MARA)
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert await payloads(world, world.docs) == expected(before, points)


async def applied(world: World, *names: str) -> None:
    aliases = await world.aliases()
    async with world.applier():
        for name in names:
            await world.applied((await world.looked_after(aliases.get(name, name))).generation)


async def refused(world: World, migration: Migration) -> str:
    """Roll back, which is refused; returns why. Nothing was undone, and nothing is held."""
    before = await world.picture()
    await roll_back_migration(world.tools, migration.id, MARA)
    async with world.workers():
        stopped = await world.settled(migration.id)
    assert stopped.state is State.FAILED
    assert await world.picture() == before
    for name in set(world.names.values()):
        assert not (await world.looked_after(f"{name}__g1")).holders
    assert stopped.error is not None
    assert "Nothing was undone so far" in stopped.error
    return stopped.error


async def test_a_point_that_moved_to_another_collection(world: World) -> None:
    """Deleted in one copy and written to another: a rollback must not delete it."""
    done, before, name = await split(world)
    other = world.names["2", "documents"]
    for here, there in ((name, other), (other, name)):
        points = await world.points(here)
        moved = points.take([2])
        await live_write(world, there, Upsert(moved))
        await live_write(world, here, Delete(moved.keys))
    await applied(world, name, other)
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert await payloads(world, world.docs) == before


@pytest.mark.parametrize("after", ["keep", "drop"])
async def test_one_id_for_two_points(world: World, after: str) -> None:
    done, _, name = await split(world, after=after)
    other = world.names["2", "documents"]
    await live_write(world, name, one(70_001, 1, "mine"))
    await live_write(world, other, one(70_001, 1, "yours"))
    await applied(world, name, other)
    error = await refused(world, done)
    assert "point 70001 is in" in error
    await live_write(world, name, one(70_003, 1, "after the refusal"))
    assert await world.tools.ranges.remaining() == 0  # nothing is given back without a rollback
    await live_write(world, other, Delete([key_of(70_001)]))
    await applied(world, name, other)
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    assert (await payloads(world, world.docs))[70_001]["text"] == "mine"


async def test_an_id_that_the_source_has_for_another_point(world: World) -> None:
    """Points without a source stay where they are, and are not written over by a rollback."""
    await world.fill()
    stray = document_points(["nobody"], first=70_001)
    await world.store.upsert(world.docs, stray)
    done = await world.migrate(unplaced="keep")
    name = world.names["1", "documents"]
    await live_write(world, name, one(70_001, 1, "mine"))
    await applied(world, name)
    assert "point 70001 is in" in await refused(world, done)
    await live_write(world, name, Delete([key_of(70_001)]))
    await applied(world, name)
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    assert (await payloads(world, world.docs))[70_001]["source_id"] == "nobody"


async def test_a_collection_that_nothing_was_copied_to(world: World) -> None:
    await world.fill()
    await world.add_source(9, world.named("Pictures"), ["media"])
    done = await world.migrate(to={"store": STORE, "dimensions": {"media": 8}})
    name = world.named("Pictures_media")
    await live_write(world, name, one(5, 1, "a picture"))
    await applied(world, name)
    assert "has 1 points now" in await refused(world, done)
    await live_write(world, name, Delete([key_of(5)]))
    await applied(world, name)
    assert (await world.roll_back(done)).state is State.ROLLED_BACK


async def test_a_second_rollback_does_not_pass_what_the_store_refused(world: World) -> None:
    done, before, name = await split(world)
    points = await write_later_applied(world, name)

    for _ in range(2):  # the second time nothing is left to be carried
        await roll_back_migration(world.tools, done.id, MARA)
        async with world.workers(refusing(world)):
            stopped = await world.settled(done.id)
        assert stopped.state is State.FAILED
    source = await world.looked_after(world.docs)
    await world.tools.applications.retry(source.generation, MARA)
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert await payloads(world, world.docs) == expected(before, points)


async def test_a_copy_takes_no_writes_before_its_cut_over(world: World) -> None:
    """A write that comes while it is filled would be lost or would spoil it."""
    _, name = await written(world)
    migration = await planned(world, rebuild(world, name, "as imported", "then", naming="physical"))
    await world.start(migration)
    copy, refusals = world.named("then"), 0
    async with world.workers():
        while (await world.migration(migration.id)).state is State.RUNNING:
            try:
                await live_write(world, copy, one(80_000, 1, "early"))
            except (Conflict, NotFound):
                refusals += 1
            else:
                break
        done = await world.settled(migration.id)
    assert done.state is State.COMPLETED, done.error
    assert refusals
    assert not (await world.looked_after(copy)).holders


async def test_writes_that_were_carried_back_are_writes_of_applications(world: World) -> None:
    await world.fill()
    await adopted(world, filled=True)
    await tag_version(world.tools, STORE, world.docs, "adopted", None, MARA)
    done = await world.migrate()
    name = world.names["1", "documents"]
    await live_write(world, name, one(70_001, 1, "mine"))
    await applied(world, name)
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    spec = {
        "version": 1,
        "name": "restore",
        "recipe": "restore-version",
        "reason": "OPS-7",
        "store": STORE,
        "collection": world.docs,
        "to": "adopted",
    }
    with pytest.raises(InvalidSpec, match=r"later writes would go \(1\): 1 points would be del"):
        await plan_migration(world.tools, spec, MARA)


async def test_a_rollback_that_was_interrupted_and_is_refused_lets_go(world: World) -> None:
    """The holds of the try before are let go of, too, or nobody could do what it asks for."""
    done, _, name = await split(world)
    other = world.names["2", "documents"]
    await live_write(world, name, one(70_001, 1, "mine"))
    await live_write(world, other, one(70_001, 1, "yours"))
    await applied(world, name, other)
    await roll_back_migration(world.tools, done.id, MARA)

    async def manifests(*_asked: Any) -> Any:
        raise Crash("killed")

    tools = Wrapped(world.tools, ledger=Wrapped(world.ledger, manifests=manifests))
    with pytest.RaisesGroup(Crash, allow_unwrapped=True, flatten_subgroups=True):
        async with world.workers(tools):
            await world.settled(done.id)
    assert (await world.looked_after(f"{name}__g1")).holders
    assert "point 70001 is in" in await refused(world, done)


async def test_a_copy_that_another_migration_dropped_is_not_followed(world: World) -> None:
    done, _, name = await split(world)
    copy = await world.looked_after(f"{name}__g1")
    await update(world.ledger, Generation, copy.generation, "drop", MARA, Generation.drop)
    await applied_through(world, copy.generation)
    await roll_back_migration(world.tools, done.id, MARA)
    async with world.workers():
        stopped = await world.settled(done.id)
    assert stopped.state is State.FAILED
    assert stopped.error is not None
    assert "was dropped by another migration since" in stopped.error


async def applied_through(world: World, generation: UUID) -> None:
    async with world.applier():
        await world.applied(generation)


async def test_a_source_whose_drop_was_not_finished_comes_back(world: World) -> None:
    """It is cancelled after the drop was recorded; what was written to the copies is kept."""
    await world.fill()
    before = await payloads(world, world.docs)
    migration = await world.plan(after="drop")
    await world.start(migration)
    name = world.names["1", "documents"]

    async def drop(_name: str) -> None:
        raise Unavailable("not now")

    async with world.workers(world.with_store(Wrapped(world.store, drop=drop))):
        await eventually(lambda: dropped(world, migration))
        await live_write(world, name, one(70_001, 1, "mine"))
        await world.applied((await world.looked_after(f"{name}__g1")).generation)
        await cancel_migration(world.tools, migration.id, MARA)
    async with world.workers():
        back = await world.settled(migration.id)
    assert back.state is State.CANCELLED, back.error
    found = await payloads(world, world.docs)
    assert found.pop(70_001)["text"] == "mine"
    assert found == before


async def dropped(world: World, migration: Migration) -> bool:
    key = f"migration/{migration.id}/drop/do/drop/{world.docs}"
    return await world.ledger.answer(key) is not None


async def test_a_name_that_was_taken_since_its_drop_stops_a_rollback(world: World) -> None:
    """What comes back is what this migration dropped, whatever had the name in between."""
    done, before, _ = await split(world, after="drop")
    await world.share(world.docs, DOCS, document_points([1] * 3))
    await world.share(world.code, CODE, code_points([1] * 3))
    taken = await adopted(world, filled=True)

    back = await world.roll_back(done)

    assert back.state is State.FAILED
    assert "there is another collection" in back.error
    assert (await world.verify(world.docs)).equal
    assert (await world.roll_back(taken)).state is State.ROLLED_BACK
    for name in (world.docs, world.code):
        await world.store.drop(name)
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert await payloads(world, world.docs) == before
