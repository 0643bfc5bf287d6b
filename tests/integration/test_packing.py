"""Packs: a history of small bodies becomes a few large ones; every version is what it was."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from adapters.postgres.connection import Database
from adapters.postgres.head_history import complete_pasts
from domain.model.bodies import decode_body, decode_manifest, encode_body
from domain.model.errors import Corrupt, ObjectMissing, Rejected
from domain.model.generation import Generation
from domain.model.points import PointBatch
from domain.use_cases import gather
from domain.use_cases.pack import PACKER, Packed, pack, pack_regularly, scattered
from domain.use_cases.tools import Tools, update
from tests.integration.builders import document_points
from tests.integration.faults import Crash, Wrapped, after
from tests.integration.retaining import content, number
from tests.integration.worlds import MARA, World, eventually

POINTS = 60


@pytest.fixture(autouse=True)
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection has several packs."""
    monkeypatch.setattr(gather, "FIRST_POINTS", 25)
    monkeypatch.setattr(gather, "MOST_POINTS", 25)


async def history(world: World) -> UUID:
    """A generation whose points were written one by one, again and again, and some deleted."""
    random = Random(7)
    generation = await world.generation()
    points = document_points(["1"] * POINTS)
    await world.write(generation, points)
    for count in range(30):
        rows = sorted(random.sample(range(POINTS), 4))
        await world.write(generation, number(points, count).take(rows))
        if count % 10 == 5:
            await world.delete(generation, [points.keys[random.randrange(POINTS)]])
    return generation


async def contents(world: World, generation: UUID) -> list[str]:
    """Every version of the history."""
    return [await content(world, generation, at) for at in range(2, 36)]


async def packed(world: World, generation: UUID, tools: Tools | None = None) -> Packed:
    return await pack(tools or world.tools, await world.status(generation), MARA)


async def rows(database: Database, table: str) -> list[Any]:
    """A table of heads."""
    async with database.connection() as connection:
        return await connection.fetch(f"SELECT * FROM {table} ORDER BY gid, id, version")  # noqa: S608


async def events(world: World) -> list[Generation.BodiesPacked]:
    return [r.event for r in await world.events(Generation.BodiesPacked.TOPIC)]  # type: ignore[misc]


async def test_every_version_is_what_it_was_and_the_last_lies_together(world: World) -> None:
    generation = await history(world)
    before = await contents(world, generation)
    bodies = await world.ledger.count_bodies(generation)

    done = await packed(world, generation)

    points = (await world.status(generation)).points
    assert (done.points, done.together, done.bodies) == (points, 0, 3)
    assert done.size > 0
    assert await world.ledger.count_bodies(generation) == 3 < bodies
    assert await contents(world, generation) == before
    assert [event.points for event in await events(world)] == [25, 25, points - 50]


async def test_a_manifest_says_where_each_point_is_and_changes_none(world: World) -> None:
    generation = await history(world)
    await packed(world, generation)

    heads = await world.ledger.heads(generation)
    first = (await events(world))[0]
    found = decode_manifest(await world.tools.objects.get(first.manifest))

    assert found.before == found.hashes == heads.hashes[:25]
    assert found.keys == heads.keys[:25]
    assert (found.objects, found.rows) == ([heads.objects[0]], [*range(25)])


async def test_what_lies_together_stays(world: World) -> None:
    generation = await history(world)
    await packed(world, generation)
    head = await world.ledger.head()

    again = await packed(world, generation)

    assert again == Packed(together=(await world.status(generation)).points)
    assert await world.ledger.head() == head


async def test_what_comes_to_lie_where_it_was_packed_before(world: World) -> None:
    """The pack is the same body again: some points are in it already, others return to it."""
    generation = await history(world)
    first = await packed(world, generation)
    before = await content(world, generation, (await world.status(generation)).recorded)
    heads = await world.ledger.heads(generation)
    body = decode_body(await world.tools.objects.get(heads.objects[0]))
    for row in range(5):
        await world.delete(generation, body.keys[row : row + 1])
        await world.write(generation, body.take([row]))

    again = await packed(world, generation)

    assert (first.bodies, again.points, again.bodies) == (3, 5, 1)
    assert await world.ledger.count_bodies(generation) == 3
    assert await content(world, generation, (await world.status(generation)).recorded) == before


async def test_stores_get_on_as_if_nothing_had_happened(world: World) -> None:
    generation = await history(world)
    await packed(world, generation)
    await world.write(generation, number(document_points(["1"] * 3), 99))
    async with world.applier():
        status = await world.applied(generation)
    assert status.applied == status.recorded
    assert (await world.verify(world.named("direct"))).equal


async def test_to_read_it_no_old_body_is_needed(world: World) -> None:
    generation = await history(world)
    await packed(world, generation)
    read: list[str] = []

    async def get(address: str) -> bytes:
        read.append(address)
        return await world.tools.objects.get(address)

    tools = replace(world.tools, objects=Wrapped(world.tools.objects, get=get))
    await content(world, generation, (await world.status(generation)).recorded, tools)
    assert len(read) == 3


async def test_what_is_written_meanwhile_is_packed_as_it_is_then(world: World) -> None:
    generation = await history(world)
    heads = await world.ledger.heads(generation)
    new = number(document_points(["1"] * POINTS), 77).take([3])
    gone = heads.keys[9]
    written: list[str] = []

    async def record(*given: Any) -> int:
        if not written:
            written.append(await world.write(generation, new))
            await world.delete(generation, [gone])
        return await world.ledger.pack(*given)

    tools = replace(world.tools, ledger=Wrapped(world.ledger, pack=record))
    before = await content(world, generation, 35)
    done = await packed(world, generation, tools)

    assert done.points == len(heads) - 1  # the deleted one is not there any more
    now = await world.ledger.heads_of(generation, [new.keys[0], gone])
    assert now.keys == new.keys
    assert now.objects != written  # it was read again, and packed with the others
    assert await content(world, generation, 35) == before
    after_pack = (await world.status(generation)).recorded
    assert (await content(world, generation, after_pack)).startswith(f"{len(heads) - 1} points")


async def killed_after_a_body(tools: Tools) -> Tools:
    put = after(tools.objects.put, Crash(), nth=2)  # type: ignore[arg-type]
    return replace(tools, objects=Wrapped(tools.objects, put=put))


async def killed_after_a_record(tools: Tools) -> Tools:
    record = after(tools.ledger.pack, Crash(), nth=2)  # type: ignore[arg-type]
    return replace(tools, ledger=Wrapped(tools.ledger, pack=record))


@pytest.mark.parametrize(("killed", "left"), [(killed_after_a_body, 2), (killed_after_a_record, 1)])
async def test_killed_anywhere_it_goes_on(
    world: World, killed: Callable[[Tools], Awaitable[Tools]], left: int
) -> None:
    generation = await history(world)
    before = await contents(world, generation)
    with pytest.raises(Crash):
        await packed(world, generation, await killed(world.tools))
    assert await contents(world, generation) == before

    assert (await packed(world, generation)).bodies == left
    assert await contents(world, generation) == before


async def test_heads_that_are_made_anew_are_the_same(world: World, database: Database) -> None:
    generation = await history(world)
    await packed(world, generation)
    points = number(document_points(["1"] * POINTS), 88)
    await world.write(generation, points.take([1, 30]))
    await packed(world, generation)
    await world.write(generation, points.take([2, 30]))
    before = [await rows(database, table) for table in ("heads", "past_heads")]

    async with database.connection() as connection:
        await connection.execute("UPDATE generations SET has_past = false")
    await complete_pasts(database)

    assert [await rows(database, table) for table in ("heads", "past_heads")] == before


async def test_a_body_that_is_gone_is_named_and_what_was_packed_stays_right(world: World) -> None:
    generation = await history(world)
    lost = (await world.ledger.heads(generation)).objects[40]

    async def get(address: str) -> bytes:
        if address == lost:
            raise ObjectMissing(f"object {lost} is missing")
        return await world.tools.objects.get(address)

    tools = replace(world.tools, objects=Wrapped(world.tools.objects, get=get))
    with pytest.raises(ObjectMissing, match=lost):
        await packed(world, generation, tools)
    assert await contents(world, generation)


async def test_a_body_with_another_point_is_not_packed(world: World) -> None:
    generation = await history(world)
    wrong = encode_body(number(document_points(["1"] * POINTS), 66))

    async def get(_: str) -> bytes:
        return wrong

    tools = replace(world.tools, objects=Wrapped(world.tools.objects, get=get))
    with pytest.raises(Corrupt, match="the body of point"):
        await packed(world, generation, tools)
    assert not await events(world)


async def test_a_collection_that_is_gone_is_not_packed(world: World) -> None:
    generation = await history(world)
    await update(world.ledger, Generation, generation, "drop", MARA, Generation.drop)
    with pytest.raises(Rejected, match="dropped or released"):
        await packed(world, generation)


async def test_two_at_once_move_each_point_once(world: World) -> None:
    generation = await history(world)
    before = await contents(world, generation)
    both = await asyncio.gather(*(packed(world, generation) for _ in range(2)))
    assert sum(one.points for one in both) == (await world.status(generation)).points
    assert await contents(world, generation) == before


async def test_what_is_scattered_is_packed_regularly(world: World) -> None:
    """One without points, one gone, one with a body that is lost: none keeps another waiting."""
    await world.generation("empty")
    gone = await world.generation("gone")
    await update(world.ledger, Generation, gone, "drop", MARA, Generation.drop)
    broken = await world.generation("broken")
    for point in document_points(["1"] * 5).keys:
        await world.write(broken, of_key(point))
    lost = set((await world.ledger.heads(broken)).objects)
    generation = await history(world)

    async def get(address: str) -> bytes:
        if address in lost:
            raise ObjectMissing("gone")
        return await world.tools.objects.get(address)

    tools = replace(world.tools, objects=Wrapped(world.tools.objects, get=get))
    stop, rounds = asyncio.Event(), []

    async def count_bodies(stream: UUID) -> int:
        rounds.append(stream)
        return await world.ledger.count_bodies(stream)

    tools = replace(tools, ledger=Wrapped(world.ledger, count_bodies=count_bodies))
    async with asyncio.TaskGroup() as group:
        for holder in ("one", "other"):
            every = timedelta(milliseconds=50)
            group.create_task(pack_regularly(tools, world.leaders, holder, every, stop))

        async def packed_and_seen_again() -> bool:
            return rounds.count(generation) > 2

        await eventually(packed_and_seen_again)
        stop.set()

    recorded = await world.events(Generation.BodiesPacked.TOPIC)
    assert {one.stream for one in recorded} == {generation}
    assert {one.context.actor for one in recorded} == {PACKER}
    assert sum(one.points for one in await events(world)) == (await world.status(generation)).points
    assert gone not in rounds


def of_key(key: bytes) -> PointBatch:
    points = document_points(["1"] * 5)
    return points.take([points.keys.index(key)])


async def test_partitions_are_as_large_as_memory_allows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await history(world)
    monkeypatch.setattr(gather, "PARTITION_BYTES", 4 * document_points(["1"]).size())
    gathering = gather.Gathering(world.tools, generation)
    sizes = [len((await gathering.points(heads))[1]) async for heads in gathering.partitions()]
    assert sizes[0] == 25
    assert 2 <= max(sizes[1:]) <= 5


async def test_one_body_does_not_tell_how_large_all_points_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await history(world)
    monkeypatch.setattr(gather, "MOST_POINTS", POINTS)
    await packed(world, generation)
    assert next(event.points for event in await events(world)) == 25


async def test_large_points_are_packed_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pack has more of them than memory allows, the first one neither."""
    generation = await history(world)
    monkeypatch.setattr(gather, "PARTITION_BYTES", 10 * document_points(["1"]).size())
    done = await packed(world, generation)
    assert done.bodies > 5
    assert max(event.points for event in await events(world)) < 13

    assert (await packed(world, generation)).bodies == 0


@pytest.mark.parametrize(
    ("points", "bodies", "worth"),
    [(0, 0, False), (1, 2, False), (10, 3, True), (5_000, 12, False), (5_000, 13, True)],
)
def test_which_are_worth_packing(points: int, bodies: int, worth: bool) -> None:  # noqa: FBT001
    assert scattered(points, bodies) is worth
