"""A collection becomes exactly a version again, and back; what is lost by it was asked for."""

import asyncio
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from adapters.postgres.connection import SCHEMA as LEDGER
from domain.model.canonical import points_of
from domain.model.errors import InvalidSpec, Rejected, WritesHeld
from domain.model.generation import Generation
from domain.model.migration import Migration, State
from domain.model.points import PointBatch, key_of
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.steer_migration import roll_back_migration
from domain.use_cases.steps import restore as restore_step
from domain.use_cases.tools import save, update
from domain.use_cases.versions import digest_at, tag_version
from domain.use_cases.write_points import Delete, SetPayload, Upsert, Write, open_live
from tests.integration.builders import CODE, DOCS, document_points
from tests.integration.faults import Crash, Wrapped, after
from tests.integration.test_writing import at_random
from tests.integration.worlds import MARA, STORE, World

LABEL = "before the clean-up"


async def write(world: World, asked: Write) -> None:
    live = await open_live(world.tools, STORE, world.named("docs"))
    await live.write(asked, str(uuid4()), MARA)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every undoing of a restore looks for later changes more than once."""
    monkeypatch.setattr(restore_step, "POINTS_AT_ONCE", 7)


async def collection(world: World, schema: Any = DOCS) -> UUID:
    generation = await world.generation("docs", schema)
    async with world.applier():
        await world.applied(generation)
    return generation


def restore(world: World, to: str = LABEL, later: str = "discard", **more: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": world.named("restore"),
        "recipe": "restore-version",
        "reason": "OPS-7",
        "store": STORE,
        "collection": world.named("docs"),
        "to": to,
        "later_writes": later,
        "batch": {"size": 5},
        **more,
    }


async def planned(world: World, spec: dict[str, Any]) -> Migration:
    return (await plan_migration(world.tools, spec, MARA)).migration


async def restored(world: World, spec: dict[str, Any]) -> Migration:
    done = await world.run(await planned(world, spec))
    assert done.state is State.COMPLETED, done.error
    return done


async def digest(world: World, generation: UUID, through: int) -> str:
    found = await digest_at(world.ledger, generation, through)
    return f"{found.points} points {found.hexdigest()}"


async def stored(world: World) -> str:
    """The digest of the store, once an applier is through."""
    name = world.named("docs")
    async with world.applier():
        await world.applied((await world.looked_after(name)).generation)
    assert (await world.verify(name)).equal
    return await world.digest(name)


async def with_history(world: World) -> UUID:
    """Forty points, then a label, then ten writes."""
    generation = await collection(world)
    points = document_points(["1"] * 40)
    await write(world, Upsert(points))
    await tag_version(world.tools, STORE, world.named("docs"), LABEL, None, MARA)
    await write(world, Upsert(document_points(["2"] * 12, seed=1)))
    await write(world, Delete(points.keys[8:20]))
    await write(world, SetPayload({key: {"set": 1} for key in points.keys[20:30]}))
    await write(world, Upsert(document_points(["3"] * 9, first=900, seed=7)))
    return generation


@pytest.mark.parametrize("seed", range(3))
async def test_every_version_of_a_history_and_back(world: World, seed: int) -> None:
    random = Random(seed)
    generation = await collection(world)
    for number in range(12):
        asked = at_random(random, number)
        if not isinstance(asked, SetPayload):
            await write(world, asked)
    last = (await world.status(generation)).recorded
    versions = random.sample(range(1, last), 4)
    for through in versions:
        [event] = await world.ledger.events(generation, after=through - 1, through=through)
        before = await stored(world)
        done = await restored(world, restore(world, str(event.position)))
        assert await stored(world) == await digest(world, generation, through)
        if random.random() < 0.5:
            back = await world.roll_back(done)
            assert back.state is State.ROLLED_BACK, back.error
            assert await stored(world) == before


async def test_only_what_differs_is_written(world: World) -> None:
    generation = await with_history(world)
    recorded = (await world.status(generation)).recorded
    done = await restored(world, restore(world))
    events = await world.ledger.events(generation, after=recorded)
    sizes = [vars(e.event).get("upserts", 0) + vars(e.event).get("deletes", 0) for e in events]
    differing = 8 + 12 + 10 + 9  # of the first write, 8 that were not deleted later
    assert sum(sizes) == differing
    assert max(sizes) == 5
    assert done.results["restore"] == {"written": 30, "deleted": 9}
    assert {e.context.reason for e in events} == {MARA.reason}


async def test_later_writes_do_not_go_unasked(world: World) -> None:
    await with_history(world)
    await write(world, Delete([key_of(123_456)]))  # which changes nothing
    before = await stored(world)
    with pytest.raises(InvalidSpec, match=r"writes would go \(4\): 9 points would be deleted, 12 "):
        await planned(world, restore(world, later="fail"))
    assert await stored(world) == before


async def test_a_write_that_came_after_the_plan_does_not_go_unasked(world: World) -> None:
    generation = await collection(world)
    await world.write(generation, document_points(["1"] * 9))
    await tag_version(world.tools, STORE, world.named("docs"), LABEL, None, MARA)
    await world.delete(generation, document_points(["1"] * 9).keys[:3])
    started, asked = restore(world, later="fail"), restore(world, later="fail", ticket="OPS-8")
    migration = await planned(world, started)
    await planned(world, asked)
    await world.start(migration)
    await write(world, Upsert(document_points(["late"])))
    before = await stored(world)
    async with world.workers():
        done = await world.settled(migration.id)
    assert done.state is State.ROLLED_BACK
    assert done.error is not None
    assert "would go (1)" in done.error
    assert await stored(world) == before
    await write(world, Delete([key_of(4)]))  # nothing is held
    with pytest.raises(InvalidSpec, match=r"would go \(2\)"):
        await world.start(await planned(world, asked))


async def test_writes_between_plan_and_start_go_if_they_may(world: World) -> None:
    generation = await with_history(world)
    migration = await planned(world, restore(world))
    await write(world, Upsert(document_points(["late"], first=77)))
    assert (await world.run(migration)).state is State.COMPLETED
    assert await stored(world) == await digest(world, generation, 2)


async def test_what_was_written_after_a_restore_survives_its_rollback(world: World) -> None:
    await with_history(world)
    await stored(world)
    points = await world.points(world.named("docs"))
    done = await restored(world, restore(world))
    mine = document_points(["mine"] * 3)  # of ids that the restore wrote, too
    await write(world, Upsert(mine))
    await write(world, Delete(document_points(["1"] * 40).keys[8:10]))
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert (await world.verify(world.named("docs"))).equal
    expected = by_key(points) | by_key(mine)
    assert by_key(await world.points(world.named("docs"))) == expected


async def test_two_restores_are_undone_one_after_the_other(world: World) -> None:
    """What the second one changed and gave back is no later change; what was deleted is one."""
    await collection(world)
    for label, text in ("one", "1"), ("two", "2"), ("three", "3"):
        await write(world, Upsert(document_points([text] * 6)))
        await tag_version(world.tools, STORE, world.named("docs"), label, None, MARA)
    late = document_points(["late"] * 2, first=901)
    await write(world, Upsert(late))
    await tag_version(world.tools, STORE, world.named("docs"), "all", None, MARA)
    await stored(world)
    before = by_key(await world.points(world.named("docs")))
    first = await restored(world, restore(world, "one"))
    await write(world, Upsert(late.take([0])))
    await write(world, Delete(late.keys[:1]))
    between = await stored(world)
    second = await restored(world, restore(world, "all"))
    third = await restored(world, restore(world, "two"))
    for undone in (third, second):
        assert (await world.roll_back(undone)).state is State.ROLLED_BACK
    assert await stored(world) == between
    assert (await world.roll_back(first)).state is State.ROLLED_BACK
    await stored(world)
    del before[late.keys[0]]
    assert by_key(await world.points(world.named("docs"))) == before


def by_key(points: PointBatch) -> dict[bytes, bytes]:
    return dict(zip(points.keys, points.payloads, strict=True))


async def test_the_same_spec_again(world: World) -> None:
    generation = await with_history(world)
    first = await restored(world, restore(world))
    again = await planned(world, restore(world))
    assert (again.id, again.state) == (first.id, State.COMPLETED)
    await write(world, Delete([key_of(1)]))
    second = await planned(world, restore(world))
    assert (second.attempt, second.state) == (2, State.PLANNED)
    assert (await restored(world, restore(world))).id == second.id
    assert await stored(world) == await digest(world, generation, 2)


@pytest.mark.parametrize("direction", ["do", "undo"])
async def test_killed_anywhere(world: World, direction: str) -> None:
    generation = await with_history(world)
    await stored(world)
    before = by_key(await world.points(world.named("docs")))
    mine = document_points(["mine"] * 3)
    migration = await planned(world, restore(world))
    await world.start(migration)
    if direction == "undo":
        async with world.workers():
            assert (await world.settled(migration.id)).state is State.COMPLETED
        await write(world, Upsert(mine))
        await roll_back_migration(world.tools, migration.id, MARA)
    killed = 0
    for nth in range(1, 4):
        record = after(world.ledger.record, Crash("killed"), nth=nth)
        tools = Wrapped(world.tools, ledger=Wrapped(world.ledger, record=record))
        try:
            async with world.workers(tools):
                await world.settled(migration.id)
        except BaseExceptionGroup:
            killed += 1
    assert killed == 3
    async with world.workers():
        done = await world.settled(migration.id)
    if direction == "do":
        assert done.state is State.COMPLETED, done.error
        assert await stored(world) == await digest(world, generation, 2)
        assert (await world.roll_back(done)).state is State.ROLLED_BACK
    else:
        before |= by_key(mine)
    await stored(world)
    assert by_key(await world.points(world.named("docs"))) == before
    await write(world, Delete([key_of(1)]))  # nothing is held


async def test_under_a_writer(world: World) -> None:
    """Writes are refused while it works; what is acknowledged after it stays."""
    generation = await with_history(world)
    migration = await planned(world, restore(world))
    acknowledged: list[int] = []
    held = asyncio.Event()

    async def keep_writing(stop: asyncio.Event) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            point = {"id": 7000, "payload": {"n": number}, "vector": [1.0] * 8}
            try:
                await write(world, Upsert(points_of(DOCS, [point])))
            except WritesHeld:
                held.set()
                acknowledged.clear()
            else:
                acknowledged.append(number)

    await world.start(migration)
    stop = asyncio.Event()
    async with world.workers(), asyncio.TaskGroup() as group:
        writing = group.create_task(keep_writing(stop))
        done = await world.settled(migration.id)
        await held.wait()
        while not acknowledged:
            await asyncio.sleep(0.01)
        stop.set()
        await writing
    assert done.state is State.COMPLETED, done.error
    await stored(world)
    [now] = (await world.store.retrieve(world.named("docs"), [key_of(7000)])).payloads
    assert now == b'{"n":%d}' % acknowledged[-1]
    checked = done.results["check"]["digests"][world.named("docs")]
    assert checked == (await digest_at(world.ledger, generation, 2)).hexdigest()


async def test_what_cannot_be_restored_is_said_before(world: World) -> None:
    generation = await collection(world)
    address = await world.write(generation, document_points(["1"] * 7))
    await tag_version(world.tools, STORE, world.named("docs"), LABEL, None, MARA)
    await write(world, Delete([key_of(1)]))
    await world.sql(f"DELETE FROM {LEDGER}.objects WHERE address = $1", bytes.fromhex(address))  # noqa: S608
    for spec in (
        restore(world),
        {
            **{k: restore(world)[k] for k in ("version", "name", "reason")},
            "recipe": "rebuild-version",
            "from": {"store": STORE, "collection": world.named("docs"), "at": LABEL},
            "to": {"store": STORE, "collection": world.named("then")},
        },
    ):
        with pytest.raises(InvalidSpec, match="bodies of 7 points are missing"):
            await planned(world, spec)
    await update(world.ledger, Generation, generation, "drop", MARA, Generation.drop)
    with pytest.raises(InvalidSpec, match="nothing serves"):
        await planned(world, restore(world))


async def test_other_vectors(world: World) -> None:
    """The collection was dropped, and made again with other vectors."""
    generation = await collection(world)
    await world.write(generation, document_points(["1"] * 7))
    await tag_version(world.tools, STORE, world.named("docs"), LABEL, None, MARA)
    await update(world.ledger, Generation, generation, "drop", MARA, Generation.drop)
    async with world.applier():
        await world.applied(generation)
    made = Generation("docs", STORE, world.named("docs"), 2, CODE.to_json(), "created")
    await save(world.ledger, made, "again", MARA)
    with pytest.raises(InvalidSpec, match="has other vectors than the version"):
        await planned(world, restore(world))


async def test_a_live_write_that_the_store_refuses_is_not_given_up(world: World) -> None:
    """A rollback gives up what its own migration recorded, and nothing else."""
    await with_history(world)
    done = await restored(world, restore(world))
    await write(world, Upsert(document_points(["mine"])))

    async def upsert(*_write: Any) -> None:
        raise Rejected("not today")

    refusing = world.with_store(Wrapped(world.store, upsert=upsert))
    await roll_back_migration(world.tools, done.id, MARA)
    async with world.workers(refusing):
        stopped = await world.settled(done.id)
    assert stopped.state is State.FAILED
    status = await world.looked_after(world.named("docs"))
    assert status.halted_at is not None
    await world.tools.applications.retry(status.generation, MARA)
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    [now] = (await world.store.retrieve(world.named("docs"), [key_of(1)])).payloads
    assert b"mine" in now


async def test_a_collection_that_was_made_anew_is_not_taken_for_the_one_before(
    world: World,
) -> None:
    generation = await with_history(world)
    done = await restored(world, restore(world))
    await update(world.ledger, Generation, generation, "drop", MARA, Generation.drop)
    async with world.applier():
        await world.applied(generation)
    made = Generation("docs", STORE, world.named("docs"), 2, DOCS.to_json(), "created")
    await save(world.ledger, made, "again", MARA)
    await roll_back_migration(world.tools, done.id, MARA)
    async with world.workers():
        stopped = await world.settled(done.id)
    assert stopped.state is State.ROLLED_BACK, stopped.error
    status = await world.looked_after(world.named("docs"))
    assert (status.number, status.points, status.holders) == (2, 0, ())
