"""Collections that others write to in their store: taken in before and after the cut-over."""

import asyncio
from itertools import count
from typing import Any

import pytest

from domain.model.errors import InvalidPoint
from domain.model.migration import State
from domain.model.points import PointBatch, encode_payload, id_of, key_of
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.take_in import take_in
from domain.use_cases.write_points import Delete
from tests.integration.builders import document_points
from tests.integration.faults import Wrapped
from tests.integration.worlds import MARA, STORE, World
from tests.integration.writers import adopted, live_write, one, payloads, writing_at


async def directly(world: World, *, first: int = 20_000) -> None:
    """Write as an application that knows nothing of the ledger: add, change, move, delete."""
    points = await world.points(world.docs)
    await world.store.upsert(world.docs, document_points([1, 2, 3] * 4, first=first, seed=first))
    changed = points.take([0, 1])
    changed.payloads[0] = encode_payload({"source_id": 1, "directly": first})
    changed.payloads[1] = encode_payload({"source_id": 3, "moved": first})
    await world.store.upsert(world.docs, changed)
    await world.store.delete(world.docs, points.keys[5:9])


async def assert_split(world: World) -> None:
    """Every point of the shared collection is in the collection of its source, and nothing else."""
    expected: dict[str, dict[int | str, Any]] = {"1": {}, "2": {}, "3": {}}
    for number, payload in (await payloads(world, world.docs)).items():
        expected[str(payload["source_id"])][number] = payload
    for source, points in expected.items():
        assert await payloads(world, world.names[source, "documents"]) == points


def observed(world: World, **changes: Any) -> dict[str, Any]:
    return {"from": {**world.spec()["from"], "observed": True}, **changes}


async def test_what_others_wrote_is_taken_in(world: World) -> None:
    await adopted(world)
    await directly(world)
    status = await world.looked_after(world.docs)
    assert not (await world.verify(world.docs)).equal
    assert await take_in(world.tools, status, MARA) == 18
    async with world.applier():
        await world.applied(status.generation)
    found = await world.verify(world.docs)
    assert found.equal, str(found)
    assert await take_in(world.tools, status, MARA) == 0


async def test_a_write_that_is_not_applied_yet_is_newer_than_what_the_store_holds(
    world: World,
) -> None:
    await adopted(world)
    points = await world.points(world.docs)
    await live_write(world, world.docs, one(1, 1, "mine"))
    await live_write(world, world.docs, Delete([points.keys[7]]))
    status = await world.looked_after(world.docs)
    others = points.take([points.keys.index(key_of(1)), 7])
    others.payloads[:] = [encode_payload({"source_id": 1, "theirs": True})] * 2
    await world.store.upsert(world.docs, others)
    await take_in(world.tools, status, MARA)
    heads = await world.ledger.heads_of(status.generation, [key_of(1), points.keys[7]])
    assert heads.keys == [key_of(1)]
    async with world.applier():
        await world.applied(status.generation)
    found = await payloads(world, world.docs)
    assert found[1] == {"source_id": 1, "text": "mine"}
    assert id_of(points.keys[7]) not in found


async def test_adopting_again_takes_in_what_was_deleted(world: World) -> None:
    await adopted(world)
    await world.store.delete(world.docs, (await world.points(world.docs)).keys[:3])
    spec = {
        "version": 1,
        "name": "again",
        "recipe": "adopt-collections",
        "reason": "somebody deleted points",
        "store": STORE,
        "collections": [world.docs],
    }
    done = await world.run((await plan_migration(world.tools, spec, MARA)).migration)
    assert done.state is State.COMPLETED, done.error
    assert done.results["adopt"]["captured"] == {world.docs: 3}
    assert (await world.looked_after(world.docs)).points == 297

    await world.store.delete(world.docs, (await world.points(world.docs)).keys[:2])
    again = await world.run((await plan_migration(world.tools, spec, MARA)).migration)
    assert again.id != done.id
    assert again.results["adopt"]["captured"] == {world.docs: 2}
    assert (await world.looked_after(world.docs)).points == 295


async def test_a_vector_that_cannot_be_is_named(world: World) -> None:
    await adopted(world)
    bad = document_points([1, 1], first=30_000).take([1])
    bad.vectors[""][0] = b"\x00\x00\xc0\x7f" * 8

    async def retrieve(name: str, keys: Any) -> PointBatch:
        found = await world.store.retrieve(name, keys)
        return bad if len(found) else found

    await world.store.upsert(world.docs, document_points([1, 1], first=30_000).take([1]))
    tools = world.with_store(Wrapped(world.store, retrieve=retrieve))
    with pytest.raises(InvalidPoint, match=f"point {id_of(bad.keys[0])} has NaN"):
        await take_in(tools, await world.looked_after(world.docs), MARA)


@pytest.mark.parametrize("step", ["adopt", "flow", "check"])
async def test_what_others_write_while_a_collection_is_copied_is_copied_too(
    world: World, step: str
) -> None:
    await world.fill()
    migration = await world.plan(**observed(world))

    async def write() -> None:
        await directly(world)

    done = await world.run(migration, writing_at(world, step, write))
    assert done.state is State.COMPLETED, done.error
    assert done.results["look-again"]["late"] == {world.docs: 0, world.code: 0}
    await assert_split(world)


async def test_what_others_write_after_the_hand_over_is_named(world: World) -> None:
    await adopted(world)
    migration = await world.plan(**observed(world))

    async def write() -> None:
        await directly(world)

    done = await world.run(migration, writing_at(world, "restructure", write))
    assert done.state is State.COMPLETED, done.error
    found = done.results["look-again"]
    assert found["late"] == {world.docs: 18, world.code: 0}
    assert {kind: len(ids) for kind, ids in found["examples"][world.docs].items()} == {
        "extra": 12,
        "changed": 2,
        "missing": 4,
    }
    assert (await world.events("verification.drift-found"))[-1].context.correlation_id == str(
        done.id
    )
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    assert 20_002 in await payloads(world, world.docs)


async def test_a_writer_that_never_pauses_is_copied_until_the_hand_over(world: World) -> None:
    """What was written when the sources were held is copied, or named by the last comparison."""
    await world.fill()
    migration = await world.plan(**observed(world))
    await world.start(migration)
    stop = asyncio.Event()

    async def write() -> list[int]:
        written = []
        for number in count(60_000, 3):
            if stop.is_set():
                return written
            await world.store.upsert(world.docs, document_points([1, 1], first=number).take([1]))
            written.append(number + 1)
        raise AssertionError

    writing = asyncio.create_task(write())
    async with world.workers():
        done = await world.settled(migration.id)
        stop.set()
        written = await writing
    assert done.state is State.COMPLETED, done.error
    copied = await payloads(world, world.names["1", "documents"])
    there = [number in copied for number in written]
    assert there == sorted(there, reverse=True)  # up to some moment all, from then on none
    assert there[0]
    assert not there[-1]


async def test_a_rollback_after_direct_writes_to_a_copy_wants_to_be_told(world: World) -> None:
    await adopted(world)
    done = await world.migrate(**observed(world))
    name = world.names["2", "documents"]
    points = await world.points(name)
    await world.store.upsert(name, document_points([2, 2], first=7000).take([1]))
    await world.store.delete(name, points.keys[3:5])
    stopped = await world.roll_back(done)
    assert stopped.state is State.FAILED
    assert "Let the ledger know them" in str(stopped.error)
    spec = {
        "version": 1,
        "name": "what the application wrote is right",
        "recipe": "adopt-collections",
        "reason": "it does not know the ledger",
        "store": STORE,
        "collections": [f"{name}__g1"],
    }
    told = await world.run((await plan_migration(world.tools, spec, MARA)).migration)
    assert told.results["adopt"]["captured"] == {f"{name}__g1": 3}
    assert (await world.roll_back(stopped)).state is State.ROLLED_BACK
    found = await payloads(world, world.docs)
    assert 7001 in found
    assert not {id_of(key) for key in points.keys[3:5]} & found.keys()


async def test_without_being_asked_nothing_is_taken_in(world: World) -> None:
    """What somebody changed behind the ledger's back stops the migration and is named."""
    await adopted(world)
    await directly(world)
    done = await world.run(await world.plan())
    assert done.state is State.ROLLED_BACK
    assert "differ from the ledger" in str(done.error)
    assert "from.observed" in str(done.error)
