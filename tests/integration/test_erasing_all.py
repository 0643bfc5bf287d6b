"""What an erasure could miss: copies that share no body any more, and what nobody refers to."""

from dataclasses import replace
from uuid import UUID

import pytest

from adapters.postgres.connection import Database
from adapters.postgres.garbage import SparingObjects
from domain.model.bodies import address_of, encode_body
from domain.model.errors import BodyErased, KeyReused
from domain.model.points import PointBatch, encode_payload, id_of
from domain.use_cases.pack import pack
from domain.use_cases.retain import archive_versions
from domain.use_cases.sweep import Swept, sweep
from domain.use_cases.write_points import Upsert, open_live
from tests.integration.builders import document_points
from tests.integration.erasures import erase, everywhere, find, recorded
from tests.integration.faults import Wrapped, after
from tests.integration.retaining import NOW, keep_since_now
from tests.integration.worlds import MARA, STORE, World

SECRET = b"zaphod"
LARGE = 3000
"""So many points are a body that is written before the change that names it."""


def people(count: int) -> PointBatch:
    """Points, of which the first is a person."""
    points = document_points(["1"] * count)
    points.payloads[0] = encode_payload({"source_id": "1", "person": "zaphod"})
    return points


async def applied(world: World, *generations: UUID) -> None:
    async with world.applier():
        for generation in generations:
            await world.applied(generation)


async def packed(world: World, generation: UUID, seed: int) -> None:
    """With others in some more bodies, so that it is worth it."""
    for number in (seed, seed + 1):
        others = document_points(["2"] * 3, first=100 * number, seed=number)
        await world.write(generation, others)
    assert (await pack(world.tools, await world.status(generation), MARA)).bodies == 1


async def swept(world: World) -> Swept:
    return await sweep(world.tools, world.garbage, NOW, MARA)


async def halted(world: World) -> None:
    """A collection that has nothing to do with it halts at a change."""
    generation = await world.generation("other")
    applications = world.tools.applications
    lease = await applications.acquire(generation, "an applier", 60.0, 0.0)
    assert lease is not None
    await applications.dead_letter(lease, 1, "Rejected", "it would not", MARA)
    await applications.release("an applier")


async def test_a_copy_is_found_though_what_it_shared_is_deleted(world: World) -> None:
    """Both were packed, and a sweep has deleted the body that they came from."""
    one, other = await world.generation("one"), await world.generation("other")
    points = people(3)
    shared = await world.write(one, points)
    heads = await world.ledger.heads(one)
    await world.record(heads.draft(other, heads.keys))
    await packed(world, one, seed=2)
    await packed(world, other, seed=4)
    await applied(world, one, other)
    await swept(world)
    assert await world.tools.objects.missing([shared]) == {shared}

    found = await find(world, [id_of(points.keys[0])], "one")
    assert [(a.status.collection, a.named, a.there) for a in found.affected] == [
        ("one", True, 1),
        ("other", False, 1),
    ]
    assert shared not in found.objects
    await erase(world, found)

    for name in map(world.named, ("one", "other")):
        assert points.keys[0] not in (await world.points(name)).keys
        assert (await world.verify(name)).equal
    assert not any(SECRET in payload for payload in await everywhere(world))


async def test_who_was_deleted_with_every_body_was_there(world: World) -> None:
    generation, points = await world.generation(), people(3)
    alone = await world.write(generation, points.take([0]))
    await world.write(generation, points.take([1, 2]))
    await world.delete(generation, [points.keys[0]])
    await applied(world, generation)
    await keep_since_now(world)
    await archive_versions(world.tools, MARA)
    await swept(world)
    assert await world.tools.objects.missing([alone]) == {alone}

    found = await find(world, [id_of(points.keys[0])])
    assert (found.unknown, found.keys, found.objects) == ([], {points.keys[0]}, set())
    await erase(world, found)

    (event,) = await recorded(world)
    assert (event.ids, event.objects) == ([id_of(points.keys[0])], 0)
    assert (await find(world, [id_of(points.keys[0])])).erased == [points.keys[0]]


async def test_a_write_that_is_sent_again_brings_nobody_back(world: World) -> None:
    """Its body is large, so it would be written before the ledger looks at the key."""
    generation, points = await world.generation(), people(LARGE)
    await applied(world, generation)
    live = await open_live(world.tools, STORE, world.named("direct"))
    lost = after(world.ledger.record, ConnectionError("the answer is lost"))
    live._tools = replace(world.tools, ledger=Wrapped(world.ledger, record=lost))
    with pytest.raises(ConnectionError):
        await live.write(Upsert(points), "the key", MARA)
    await erase(world, await find(world, [id_of(points.keys[0])]))

    live = await open_live(world.tools, STORE, world.named("direct"))
    again = await live.write(Upsert(points), "the key", MARA)
    assert (again.repeated, again.upserts) == (True, LARGE)
    other = document_points(["2"] * LARGE)
    other.payloads[0] = points.payloads[0]
    with pytest.raises(KeyReused):
        await live.write(Upsert(other), "the key", MARA)

    assert not any(SECRET in payload for payload in await everywhere(world))
    assert await swept(world) == Swept(0, 0, 0)


async def test_an_upload_that_ends_after_the_erasure_leaves_nothing(
    world: World, database: Database
) -> None:
    generation, points = await world.generation(), people(3)
    await world.write(generation, points)
    objects = vars(world.tools.objects)["_objects"]

    async def put(content: bytes) -> str:
        await erase(world, await find(world, [id_of(points.keys[0])]))
        address: str = await objects.put(content)
        return address

    content = encode_body(points)
    with pytest.raises(BodyErased) as caught:
        await SparingObjects(database, Wrapped(objects, put=put)).put(content)
    assert (caught.value.address, caught.value.gone) == (address_of(content), True)
    assert not any(SECRET in payload for payload in await everywhere(world))


async def test_what_nobody_refers_to_goes_though_another_collection_halts(world: World) -> None:
    """Somebody wrote an object, and died; another collection has yet to apply a change."""
    generation, points = await world.generation(), people(3)
    await world.write(generation, points)
    await applied(world, generation)
    await halted(world)
    changed = replace(points.take([0]), payloads=[encode_payload({"person": "zaphod b."})])
    await world.tools.objects.put(encode_body(changed))

    await erase(world, await find(world, [id_of(points.keys[0])]))

    assert len(await recorded(world)) == 1
    assert not any(SECRET in payload for payload in await everywhere(world))


async def test_a_store_that_lags_gets_bodies_that_were_packed_since(world: World) -> None:
    """Only rows that packs left tell that a change names them."""
    generation = await world.generation()
    await world.write(generation, people(3))
    await packed(world, generation, seed=2)
    assert await swept(world) == Swept(3, 0, 0)
    async with world.applier():
        assert (await world.applied(generation)).halted_at is None
    assert await swept(world) == Swept(0, 3, 3)
    assert (await world.verify(world.named("direct"))).equal


async def test_a_store_that_fell_behind_gets_bodies_of_whom_was_erased(world: World) -> None:
    """As after a backup of the store: changes from before an erasure are applied once more."""
    generation, points = await world.generation(), people(3)
    await world.write(generation, points.take([0]))
    await world.write(generation, points.take([1, 2]))
    await applied(world, generation)
    await erase(world, await find(world, [id_of(points.keys[0])]))
    await world.sql(
        "UPDATE migration_ledger.applications SET applied = 1 WHERE generation = $1", generation
    )
    assert await swept(world) == Swept(1, 0, 0)
    async with world.applier():
        assert (await world.applied(generation)).halted_at is None
    assert await swept(world) == Swept(0, 1, 1)
    assert (await world.verify(world.named("direct"))).equal
