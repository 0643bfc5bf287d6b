"""Points that were packed, archived or held, and are to be erased."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from adapters.postgres.connection import Database
from adapters.postgres.head_history import complete_pasts
from domain.model.bodies import address_of, decode_body, encode_body
from domain.model.errors import BodyErased, ChangedMeanwhile, Rejected
from domain.model.points import PointBatch, decode_payload, encode_payload, id_of
from domain.model.recorded import ChangeSetDraft
from domain.model.retention import Retention
from domain.use_cases.pack import pack
from domain.use_cases.retain import archive_versions
from domain.use_cases.retention import decide_retention
from domain.use_cases.sweep import sweep
from tests.integration.builders import document_points
from tests.integration.erasures import ART_17, erase, erasing, everywhere, find, finish_all
from tests.integration.faults import Wrapped
from tests.integration.retaining import NOW, keep_since_now
from tests.integration.worlds import MARA, STORE, World

SECRET = b"zaphod"


def about(points: PointBatch, row: int, count: int) -> PointBatch:
    """One of the points, with a person in it."""
    payload = decode_payload(points.payloads[row]) | {"person": f"zaphod {count}"}
    return replace(points.take([row]), payloads=[encode_payload(payload)])


async def history(world: World) -> tuple[Any, PointBatch]:
    """A person in the first body, in some small ones, and packed twice."""
    generation, points = await world.generation(), document_points(["1"] * 9)
    points.payloads[3] = about(points, 3, 0).payloads[0]
    await world.write(generation, points)
    for count in range(1, 4):
        await world.write(generation, about(points, 3, count))
        await world.write(generation, about(points, 5, count).take([0]))
    await packed(world, generation)
    for row in range(3):
        await world.write(generation, about(points, row, 9))
    await packed(world, generation)
    async with world.applier():
        await world.applied(generation)
    return generation, points


async def packed(world: World, generation: Any) -> None:
    done = await pack(world.tools, await world.status(generation), MARA)
    assert done.points > 0


async def test_nothing_is_left_where_packs_left_it(world: World) -> None:
    generation, points = await history(world)
    person = [id_of(points.keys[row]) for row in (0, 1, 2, 3, 5)]
    assert any(SECRET in payload for payload in await everywhere(world))

    await erase(world, await find(world, person))

    assert not any(SECRET in payload for payload in await everywhere(world))
    assert (await world.verify(world.named("direct"))).equal
    assert (await world.status(generation)).points == 4


async def test_what_changes_nothing_leaves_nothing(world: World) -> None:
    """A small body comes with a write of points that are so already."""
    generation, points = await world.generation(), document_points(["1"] * 3)
    await world.write(generation, points)
    alone = points.take([1])
    content = encode_body(alone)
    draft = ChangeSetDraft.images(
        generation, alone.keys, alone.hashes(), address_of(content), live=True
    )
    await world.ledger.record("again", MARA, [draft], bodies={address_of(content): content})
    assert await world.tools.objects.missing([address_of(content)]) == {address_of(content)}


async def written_together(world: World) -> tuple[UUID, PointBatch]:
    """A person in the same body as others, where no head refers to it.

    One was written again unchanged; one was captured, and changed before that was recorded.
    """
    generation, points = await world.generation(), document_points(["1"] * 9)
    for row in (3, 5):
        points.payloads[row] = about(points, row, 0).payloads[0]
    await world.write(generation, points)
    changed = about(points, 1, 2)
    read = (await world.status(generation)).recorded
    points.payloads[1] = changed.payloads[0]
    await world.write(generation, points.take([1, 3]))
    stale = [about(points, 1, 3).payloads[0], points.payloads[2], b'{"chunk":7}']
    captured = replace(points.take([1, 2, 7]), payloads=stale)
    await world.write(generation, captured, captured_at=read)
    async with world.applier():
        await world.applied(generation)
    return generation, points


async def test_a_row_that_changed_nothing_is_found(world: World, database: Database) -> None:
    generation, points = await written_together(world)
    before = await rows(database)
    await anew(database)
    assert await rows(database) == before

    await erase(world, await find(world, [id_of(points.keys[row]) for row in (1, 3, 5)]))

    assert not any(SECRET in payload for payload in await everywhere(world))
    assert (await world.verify(world.named("direct"))).equal
    assert (await world.status(generation)).points == 6


async def test_what_was_read_before_an_erasure_is_not_recorded_after_it(world: World) -> None:
    generation, points = await written_together(world)
    read = (await world.status(generation)).recorded
    await erase(world, await find(world, [id_of(points.keys[1])]))
    stale = replace(points.take([1, 2]), payloads=[points.payloads[1], b'{"chunk":8}'])
    with pytest.raises(ChangedMeanwhile, match=f"point {id_of(points.keys[1])} was erased"):
        await world.write(generation, stale, captured_at=read)
    await world.write(generation, stale.take([1]), captured_at=read)


async def test_who_is_there_again_is_written_with_others(world: World) -> None:
    generation, points = await written_together(world)
    again = about(points, 1, 4)
    await erase(world, await find(world, [id_of(again.keys[0])]))
    await world.write(generation, again)
    together = PointBatch.concatenate([again, about(points, 2, 5)])
    await world.write(generation, together)
    found = await world.ledger.heads_of(generation, together.keys)
    assert found.hashes == together.hashes()


async def test_what_nobody_refers_to_goes_too(world: World) -> None:
    """Somebody wrote an object, and died."""
    _, points = await history(world)
    await world.tools.objects.put(encode_body(about(points, 4, 12)))
    await erase(world, await find(world, [id_of(points.keys[row]) for row in (0, 1, 2, 3, 5)]))
    assert not any(SECRET in payload for payload in await everywhere(world))


@pytest.mark.parametrize("changed", [[1], range(9)])
async def test_a_pack_takes_no_point_along_that_was_changed_meanwhile(
    world: World, changed: Sequence[int]
) -> None:
    generation, points = await history(world)
    for row in range(3):
        await world.write(generation, about(points, row, 11))
    written: list[str] = []

    async def record(*given: Any) -> int:
        if not written:
            new = PointBatch.concatenate([about(points, row, 13) for row in changed])
            written.append(await world.write(generation, new))
        return await world.ledger.pack(*given)

    tools = replace(world.tools, ledger=Wrapped(world.ledger, pack=record))
    await pack(tools, await world.status(generation), MARA)
    person = [id_of(points.keys[row]) for row in {0, 1, 2, 3, 5, *changed}]
    await erase(world, await find(world, person))
    assert not any(SECRET in payload for payload in await everywhere(world))


async def test_heads_made_anew_know_what_packs_left(world: World, database: Database) -> None:
    generation, points = await history(world)
    work = erasing(world)
    found = await find(world, [id_of(points.keys[3])])
    async with work.alone("one"):
        (part,) = found.parts()
        begun = await work.begin(part, ART_17)
    before = await rows(database)
    await anew(database)
    assert await rows(database) == before

    async with world.applier():
        await finish_all(world)
    assert begun.number == 1
    payloads = await everywhere(world)
    assert not any(b'"zaphod 3"' in p and b'"chunk":3' in p for p in payloads)
    assert await world.ledger.heads_of(generation, [points.keys[3]]) == await world.ledger.heads_of(
        generation, []
    )


async def anew(database: Database) -> None:
    """Heads are lost, and made again."""
    async with database.connection() as connection:
        await connection.execute("UPDATE generations SET has_past = false")
        await connection.execute("DELETE FROM left_rows WHERE NOT erased")
    await complete_pasts(database)


async def rows(database: Database) -> list[Any]:
    """Everything that heads made anew must be again."""
    queries = [
        f"SELECT * FROM {table} ORDER BY gid, id, version, body"  # noqa: S608
        for table in ("heads", "past_heads", "erased", "left_rows")
    ]
    async with database.connection() as connection:
        return [
            await connection.fetch(query)
            for query in (*queries, "SELECT id, erasing FROM bodies ORDER BY id")
        ]


async def test_a_pack_under_way_takes_nobody_along(world: World) -> None:
    generation, points = await history(world)
    for row in range(3):
        await world.write(generation, about(points, row, 11))
    begun: list[int] = []

    async def record(*given: Any) -> int:
        if not begun:
            work = erasing(world)
            (part,) = (await find(world, [id_of(points.keys[1])])).parts()
            async with work.alone("one"):
                begun.append((await work.begin(part, ART_17)).number)
        return await world.ledger.pack(*given)

    tools = replace(world.tools, ledger=Wrapped(world.ledger, pack=record))
    done = await pack(tools, await world.status(generation), MARA)

    assert (done.points, done.bodies) == (8, 1)
    heads = await world.ledger.heads(generation)
    (address,) = set(heads.objects)
    assert points.keys[1] not in decode_body(await world.tools.objects.get(address)).keys
    async with world.applier():
        await finish_all(world)
    await sweep(world.tools, world.garbage, NOW, MARA)
    assert not any(b'"zaphod 11"' in p and b'"chunk":1' in p for p in await everywhere(world))


async def test_what_is_held_is_not_erased(world: World) -> None:
    _, points = await history(world)
    hold = partial(Retention.place_hold, hold="case 7")
    await decide_retention(world.tools, STORE, "direct", MARA, hold)
    found = await find(world, [id_of(points.keys[3])])
    (part,) = found.parts()
    with pytest.raises(Rejected, match="held by case 7"):
        await erasing(world).begin(part, ART_17)
    assert not await world.events("erasure.")
    lift = partial(Retention.lift_hold, hold="case 7")
    await decide_retention(world.tools, STORE, "direct", MARA, lift)
    await erase(world, found)


async def test_what_retention_deleted_stands_in_no_way(world: World) -> None:
    _, points = await history(world)
    await keep_since_now(world)
    await archive_versions(world.tools, MARA)
    assert (await sweep(world.tools, world.garbage, NOW, MARA)).deleted
    person = [id_of(points.keys[row]) for row in (0, 1, 2, 3, 5)]
    await erase(world, await find(world, person))
    assert not any(SECRET in payload for payload in await everywhere(world))


async def test_what_was_given_up_goes_with_an_erasure(world: World) -> None:
    """Its object is still there when the erasure begins."""
    _, points = await history(world)
    await keep_since_now(world)
    await archive_versions(world.tools, MARA)
    await world.garbage.condemn()
    assert await world.garbage.give_up(NOW, MARA)
    person = [id_of(points.keys[row]) for row in (0, 1, 2, 3, 5)]
    await erase(world, await find(world, person))
    assert not any(SECRET in payload for payload in await everywhere(world))


async def test_nothing_is_written_where_somebody_was_erased(world: World) -> None:
    generation, points = await world.generation(), document_points(["1"] * 9)
    await world.write(generation, points)
    await erase(world, await find(world, [id_of(points.keys[3])]))
    with pytest.raises(BodyErased):
        await world.tools.objects.put(encode_body(points))
