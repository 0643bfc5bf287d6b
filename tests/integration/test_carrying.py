"""Live writes and migrations: held while points are on their way, carried back by a rollback."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from domain.model.canonical import points_of
from domain.model.errors import NotFound, Rejected, WritesHeld
from domain.model.migration import State
from domain.model.points import PointBatch, decode_payload, encode_payload, id_of
from domain.use_cases import carry
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.steer_migration import roll_back_migration
from domain.use_cases.write_points import Delete, SetPayload, Upsert, Write, open_live
from tests.integration.builders import DOCS, document_points
from tests.integration.faults import Crash, Wrapped, after
from tests.integration.test_versions import planned, rebuild, written
from tests.integration.worlds import MARA, STORE, World

Plain = dict[int | str, dict[str, Any]]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later writes are carried in many parts."""
    monkeypatch.setattr(carry, "EVENTS_AT_ONCE", 3)
    monkeypatch.setattr(carry, "POINTS_AT_ONCE", 4)


async def live_write(world: World, name: str, write: Write) -> None:
    live = await open_live(world.tools, STORE, name)
    await live.write(write, str(uuid4()), MARA)


async def payloads(world: World, name: str) -> Plain:
    found = await world.points(name)
    return {
        id_of(key): decode_payload(payload)
        for key, payload in zip(found.keys, found.payloads, strict=True)
    }


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
        one = 50_000 + number % 7
        point = {"id": one, "payload": {"source_id": 1, "n": number}, "vector": [1.0] * 8}
        try:
            await live_write(world, name, Upsert(points_of(DOCS, [point])))
        except (WritesHeld, NotFound):
            return acknowledged
        acknowledged[one] = number
    raise AssertionError("writes were never held")


@pytest.mark.parametrize("direction", ["forward", "back"])
async def test_nothing_acknowledged_is_lost_under_a_writer(world: World, direction: str) -> None:
    await world.fill()
    adoption = {
        "version": 1,
        "name": "adoption",
        "recipe": "adopt-collections",
        "reason": "so that applications may write through the ledger",
        "store": STORE,
        "collections": [world.docs],
    }
    adopted = await world.run((await plan_migration(world.tools, adoption, MARA)).migration)
    assert adopted.state is State.COMPLETED
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
    for one, number in writing.result().items():
        assert found[one]["n"] == number


async def test_later_writes_that_the_store_refuses_stop_the_rollback(world: World) -> None:
    done, before, name = await split(world)
    points = await write_later_applied(world, name)

    async def upsert(to: str, batch: PointBatch) -> None:
        if to == world.docs:
            raise Rejected("not today")
        await world.store.upsert(to, batch)

    await roll_back_migration(world.tools, done.id, MARA)
    async with world.workers(world.with_store(Wrapped(world.store, upsert=upsert))):
        stopped = await world.settled(done.id)
    assert stopped.state is State.FAILED
    assert stopped.error is not None
    assert "see `dead-letter list`" in stopped.error
    source = await world.looked_after(world.docs)
    await world.tools.applications.retry(source.generation, MARA)
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert await payloads(world, world.docs) == expected(before, points)
