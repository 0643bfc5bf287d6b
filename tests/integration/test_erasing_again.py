"""Bodies whose points were erased come back, when a source sends the same points once more."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.model.bodies import address_of, decode_body, encode_body
from domain.model.errors import BodyErased
from domain.model.points import PointBatch, id_of
from domain.model.recorded import ChangeSetDraft
from domain.use_cases import write_points
from domain.use_cases.pack import pack
from domain.use_cases.retain import archive_versions
from domain.use_cases.sweep import sweep
from domain.use_cases.versions import digest_at
from domain.use_cases.write_points import Upsert, open_live
from tests.integration.builders import document_points
from tests.integration.erasures import ART_17, erase, erasing, find, finish_all
from tests.integration.faults import Wrapped
from tests.integration.retaining import NOW, content, keep_since_now, number
from tests.integration.worlds import MARA, STORE, World


async def send(world: World, points: PointBatch) -> None:
    live = await open_live(world.tools, STORE, world.named("direct"))
    await live.write(Upsert(points), str(uuid4()), MARA)


async def begun(world: World) -> tuple[UUID, PointBatch, str]:
    """A batch that a source sent, and the address of its body."""
    generation, points = await world.generation(), document_points(["1"] * 6)
    async with world.applier():
        await world.applied(generation)
    await send(world, points)
    return generation, points, address_of(encode_body(points))


async def packed(world: World, generation: UUID, points: PointBatch) -> None:
    """Its points lie elsewhere by now, and a pack has left its rows."""
    for row in range(3):
        await world.write(generation, document_points(["1"], first=100 + row))
    assert (await pack(world.tools, await world.status(generation), MARA)).points > len(points)


async def archived(world: World, generation: UUID, points: PointBatch) -> None:
    """Its points are something else by now, and what they were is archived."""
    await world.write(generation, number(points, 2))


Way = Callable[[World, UUID, PointBatch], Awaitable[None]]


async def given_up(world: World, left: Way) -> tuple[UUID, PointBatch, str]:
    """A batch whose body is deleted; then its first point was erased."""
    generation, points, address = await begun(world)
    await left(world, generation, points)
    async with world.applier():
        await world.applied(generation)
    await keep_since_now(world)
    await archive_versions(world.tools, MARA)
    assert (await sweep(world.tools, world.garbage, NOW, MARA)).deleted
    assert await world.tools.objects.missing([address]) == {address}
    await erase(world, await find(world, [id_of(points.keys[0])]))
    return generation, points, address


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("left", [packed, archived])
async def test_who_is_there_again_stays_when_somebody_else_is_erased(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    left: Way,
    small: bool,  # noqa: FBT001
) -> None:
    if not small:
        monkeypatch.setattr(write_points, "SMALL_OBJECT", 0)
    generation, points, address = await given_up(world, left)

    await send(world, points)
    await erase(world, await find(world, [id_of(points.keys[1])]))

    at = (await world.status(generation)).recorded
    digest = await digest_at(world.ledger, generation, at)
    assert await content(world, generation, at) == f"{digest.points} points {digest.hexdigest()}"
    async with world.applier():
        await world.applied(generation)
    there = await world.points(world.named("direct"))
    assert set(points.keys) - set(there.keys) == {points.keys[1]}
    assert (await world.verify(world.named("direct"))).equal
    assert await world.tools.objects.missing([address]) == {address}


async def test_nothing_comes_back_under_an_address_that_was_given_up(world: World) -> None:
    generation, points, address = await given_up(world, packed)
    body = encode_body(points)
    assert await world.ledger.unusable([address]) == {address}
    for _ in range(2):  # a refusal leaves everything as it was
        with pytest.raises(BodyErased) as caught:
            await world.tools.objects.put(body)
        assert (caught.value.address, caught.value.gone) == (address, True)
        draft = ChangeSetDraft.images(generation, points.keys, points.hashes(), address)
        with pytest.raises(BodyErased) as caught:
            await world.ledger.record(str(uuid4()), MARA, [draft], bodies={address: body})
        assert (caught.value.address, caught.value.gone) == (address, True)
    assert await world.tools.objects.missing([address]) == {address}


async def test_a_pack_names_no_row_that_was_erased_elsewhere(world: World) -> None:
    """Two collections have the same points, and so their packs are one body."""
    points = document_points(["1"] * 6)
    one, two = await world.generation("one"), await world.generation("two")
    for generation, rows in ((one, [[0, 1], [2, 3], [4, 5]]), (two, [[0, 2], [1, 4], [3, 5]])):
        for some in rows:
            await world.write(generation, points.take(some))
    await pack(world.tools, await world.status(one), MARA)
    begun: list[int] = []

    async def record(*given: Any) -> int:
        if not begun:
            (part,) = (await find(world, [id_of(points.keys[1])], "one")).parts()
            async with erasing(world).alone("erasing"):
                begun.append((await erasing(world).begin(part, ART_17)).number)
        return await world.ledger.pack(*given)

    tools = replace(world.tools, ledger=Wrapped(world.ledger, pack=record))
    assert (await pack(tools, await world.status(two), MARA)).points == 6
    async with world.applier():
        await finish_all(world)

    (address,) = set((await world.ledger.heads(two)).objects)
    there = decode_body(await world.tools.objects.get(address)).there()
    assert dict(zip(there.keys, there.hashes(), strict=True)) == dict(
        zip(points.keys, points.hashes(), strict=True)
    )
    assert await world.ledger.heads_of(one, [points.keys[1]]) == await world.ledger.heads_of(
        one, []
    )
