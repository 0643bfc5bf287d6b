"""Points that are erased are in no collection, no version and no object any more."""

import pytest

from domain.model.bodies import decode_body
from domain.model.errors import NotFound
from domain.model.points import ERASED, Digest, PointBatch, id_of, key_of
from domain.use_cases.versions import digest_at, tag_version
from tests.integration.builders import document_points
from tests.integration.erasures import erase, find, recorded
from tests.integration.worlds import MARA, STORE, World

PERSON = [7, 11]


def without(points: PointBatch, *ids: int | str) -> PointBatch:
    gone = {key_of(one) for one in ids}
    return points.take([row for row, key in enumerate(points.keys) if key not in gone])


def digest_of(points: PointBatch) -> str:
    digest, hashes = Digest(), dict(zip(points.keys, points.hashes(), strict=True))
    for key in sorted(hashes):
        digest.add(key, hashes[key])
    return digest.hexdigest()


async def test_a_person_is_gone_from_store_versions_and_objects(world: World) -> None:
    generation = await world.generation()
    points = document_points(["2"] * 40)
    person = [id_of(key) for key in points.keys[3:5]]
    address = await world.write(generation, points)
    other = await world.write(generation, document_points(["3"] * 10, first=500))
    async with world.applier():
        await world.applied(generation)
    await tag_version(world.tools, STORE, world.named("direct"), "with them", None, MARA)
    head = await world.ledger.head()

    found = await find(world, person)
    assert found.objects == {address}
    await erase(world, found)

    assert not set(points.keys[3:5]) & set((await world.points(world.named("direct"))).keys)
    assert (await world.verify(world.named("direct"))).equal
    assert await world.tools.objects.missing([address, other]) == {address}
    (event,) = await recorded(world)
    assert (event.ids, event.generations, event.objects) == (sorted(person, key=str), 1, 1)
    left = without(points, *person)
    assert (await digest_at(world.ledger, generation, 2)).hexdigest() == digest_of(left)
    await world.ledger.verify_cursor(head)


async def test_the_others_stay_where_they_were_in_the_body(world: World) -> None:
    generation = await world.generation()
    points = document_points(["2"] * 40)
    address = await world.write(generation, points)
    found = await find(world, [id_of(points.keys[3])])
    await erase(world, found)
    heads = await world.ledger.heads(generation)
    (now,) = set(heads.objects)
    assert now != address
    body = decode_body(await world.tools.objects.get(now))
    assert body.keys == points.keys
    assert (body.payloads[3], {c[3] for c in body.vectors.values()}) == (ERASED, {None})
    assert body.there().hashes() == without(points, id_of(points.keys[3])).hashes()


async def test_who_is_not_there_is_named(world: World) -> None:
    generation = await world.generation()
    await world.write(generation, document_points(["2"] * 4))
    found = await find(world, [900_001])
    assert (found.affected, found.unknown) == ([], [key_of(900_001)])


async def test_a_collection_that_nobody_knows(world: World) -> None:
    await world.generation()
    with pytest.raises(NotFound, match=r"'dierct'.*'direct'"):
        await find(world, PERSON, "dierct")
