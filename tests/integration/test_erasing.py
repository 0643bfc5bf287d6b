"""Points that are erased are in no collection, no version and no object any more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from domain.model.bodies import decode_body
from domain.model.erasure import Erasure
from domain.model.errors import NotFound
from domain.model.migration import State
from domain.model.points import ERASED, Digest, PointBatch, encode_payload, id_of, key_of
from domain.model.retention import Retention
from domain.use_cases import erase as erase_module
from domain.use_cases import find_subjects
from domain.use_cases.erase import Erasing
from domain.use_cases.retention import place_hold
from domain.use_cases.versions import digest_at, tag_version
from domain.use_cases.write_points import Upsert
from tests.integration.builders import document_points
from tests.integration.commands import run
from tests.integration.erasures import bodies, erase, find, find_like, recorded
from tests.integration.worlds import MARA, STORE, World
from tests.integration.writers import adopted, live_write, one


def without(points: PointBatch, *ids: int | str) -> PointBatch:
    gone = {key_of(one) for one in ids}
    return points.take([row for row, key in enumerate(points.keys) if key not in gone])


async def applied(world: World, generation: UUID) -> None:
    async with world.applier():
        await world.applied(generation)


def named(points: PointBatch, row: int, **payload: Any) -> PointBatch:
    """One of the points, with another payload."""
    return replace(points.take([row]), payloads=[encode_payload(payload)])


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
        await find(world, [7], "dierct")


async def test_every_version_of_a_point_goes_also_of_one_that_was_deleted(world: World) -> None:
    generation = await world.generation()
    points = document_points(["2"] * 20)
    deleted, changed = id_of(points.keys[1]), id_of(points.keys[2])
    await world.write(generation, points)
    await world.write(generation, named(points, 2, source_id="2", text="later"))
    await world.delete(generation, [points.keys[1]])
    await world.write(generation, named(points, 2, source_id="2", text="last"))
    left = without(points, deleted, changed)

    found = await find(world, [deleted, changed])
    assert len(found.objects) == 3
    assert [(one.there, len(one.keys)) for one in found.affected] == [(1, 2)]
    await erase(world, found)

    for through in range(2, 7):
        digest = await digest_at(world.ledger, generation, through)
        assert (digest.points, digest.hexdigest()) == (18, digest_of(left)), through
    erased = [await world.ledger.count_erased(generation, through) for through in range(1, 7)]
    assert erased == [0, 2, 2, 1, 1, 0]
    assert await world.tools.objects.missing(sorted(found.objects)) == found.objects
    assert (await world.verify(world.named("direct"))).equal


async def test_copies_of_a_migration_go_too_and_others_of_that_id_stay(world: World) -> None:
    await world.fill()
    await world.migrate()
    docs = await world.points(world.docs)
    row = next(n for n in range(300) if n % 3 == 0 and isinstance(id_of(docs.keys[n]), int))
    person = id_of(docs.keys[row])

    found = await find(world, [person], world.docs)
    assert {one.status.physical for one in found.affected if one.named} == {world.docs}
    copies = [one.status.physical for one in found.affected if not one.named]
    assert len(copies) == 1
    everywhere = await find(world, [person])
    assert len(everywhere.affected) > len(found.affected)  # the id of some code, too
    await erase(world, found)

    for name in (world.docs, *copies):
        assert docs.keys[row] not in (await world.points(name)).keys
        assert (await world.verify(name)).equal
    assert docs.keys[row] in (await world.points(world.code)).keys


async def test_a_hold_comes_before_an_erasure_or_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is placed after somebody looked for holds is recorded after what they record."""
    generation = await world.generation()
    points = document_points(["2"] * 3)
    await world.write(generation, points)
    looked, placed = erase_module._refuse_held, set[asyncio.Task[Retention]]()

    async def meanwhile(*given: Any) -> None:
        await looked(*given)
        hold = place_hold(world.tools, world.leaders, STORE, "direct", "case 7", MARA)
        placed.add(asyncio.create_task(hold))
        await asyncio.wait(placed, timeout=1.0)

    monkeypatch.setattr(erase_module, "_refuse_held", meanwhile)
    await erase(world, await find(world, [id_of(points.keys[1])]))
    await asyncio.gather(*placed)

    [begun] = await world.events(Erasure.Created.TOPIC)
    [hold] = await world.events(Retention.HoldPlaced.TOPIC)
    assert begun.position < hold.position


async def test_a_filter_finds_people_by_what_they_were(world: World) -> None:
    generation = await world.generation()
    points = document_points(["2"] * 12)
    await world.write(generation, points)
    person = {
        "source_id": "2",
        "person": {"email": "z@example.org", "age": 42, "height": 1.75, "member": True},
        "tags": ["x", "y"],
        "phones": [{"of": "home", "number": 555}, {"of": "work", "number": 556}],
    }
    await world.write(generation, named(points, 3, **person))
    await world.write(generation, named(points, 3, source_id="2", person="unnamed"))
    await world.write(generation, named(points, 5, **{"person.email": "z@example.org"}))

    async def ids(**match: str) -> list[int | str]:
        values = {name.replace("__", "."): value for name, value in match.items()}
        return [id_of(key) for key in sorted((await find_like(world, values)).keys)]

    three, five = id_of(points.keys[3]), id_of(points.keys[5])
    assert await ids(person__email="z@example.org") == [
        id_of(key) for key in sorted((points.keys[3], points.keys[5]))
    ]
    assert await ids(person__email="z@example.org", tags="y") == [three]
    assert await ids(person__age="42") == [three]
    assert await ids(person__height="1.75") == [three]
    assert await ids(person__member="true") == [three]
    assert await ids(phones__number="556") == [three]
    assert await ids(phones__number="557") == []
    assert await ids(person__email="z@example.com") == []
    assert await ids(person="z@example.org") == []
    assert await ids(person__email__more="z@example.org") == []

    await erase(world, await find_like(world, {"person.age": "42"}))
    assert await ids(person__age="42") == []
    assert await ids(person__email="z@example.org") == [five]


async def test_a_filter_looks_only_at_what_a_collection_had(world: World) -> None:
    """A body has rows of others, too: those that a copy did not get."""
    await world.fill()
    await world.migrate()
    names = await world.aliases()
    first, second = (names[world.names[one, "documents"]] for one in ("1", "2"))
    there = await world.points(second)
    found = await find_like(world, {"source_id": "2"}, second)
    assert found.keys == set(there.keys)
    number = next(one for one in map(id_of, there.keys) if isinstance(one, int))
    await live_write(world, world.names["1", "documents"], one(number, 1, "somebody else"))
    assert not (await find_like(world, {"source_id": "2"}, first)).affected


async def test_what_is_written_under_the_id_later_is_somebody_else(world: World) -> None:
    generation = await world.generation("docs")
    await applied(world, generation)
    await live_write(world, world.named("docs"), one(7, 2, "a person"))
    await erase(world, await find(world, [7]))
    version = (await world.status(generation)).recorded
    await live_write(world, world.named("docs"), one(7, 2, "somebody else"))
    await applied(world, generation)

    (point,) = (await world.points(world.named("docs"))).payloads
    assert b"somebody else" in point
    assert (await digest_at(world.ledger, generation, version)).points == 0
    assert (await digest_at(world.ledger, generation, version + 1)).points == 1

    await erase(world, await find(world, [7]))
    assert len(await world.points(world.named("docs"))) == 0
    assert len(await recorded(world)) == 2


@pytest.mark.parametrize("size", [1, 3000])
async def test_the_same_points_may_be_written_again(world: World, size: int) -> None:
    """Their body has the address of one that was rewritten, and must not be taken for it."""
    generation = await world.generation("docs")
    await applied(world, generation)
    points = document_points(["2"] * size)
    payloads = [encode_payload({"source_id": "2", "n": number}) for number in range(size)]
    name, write = world.named("docs"), Upsert(replace(points, payloads=payloads))
    person = id_of(write.points.keys[0])
    for _ in range(3):
        await live_write(world, name, write)
        await applied(world, generation)
        assert (await world.points(name)).hashes() == write.points.take(ordered(write)).hashes()
        await erase(world, await find(world, [person]))
    assert len(await world.points(name)) == size - 1
    assert (await world.verify(name)).equal
    rewritten = [event.objects for event in await recorded(world)]
    assert rewritten == [1, 1, 1]


def ordered(write: Upsert) -> list[int]:
    return sorted(range(len(write.points)), key=lambda row: write.points.keys[row])


async def test_a_collection_that_is_adopted_again_has_who_is_in_it(world: World) -> None:
    """Captured pages have the addresses that they had before."""
    adoption = await adopted(world)
    docs = await world.points(world.docs)
    await world.roll_back(adoption)
    person = id_of(docs.keys[4])
    found = await find(world, [person], world.docs)
    assert [(one.released, one.there) for one in found.affected] == [(True, 1)]
    await erase(world, found)
    assert docs.keys[4] in (await world.points(world.docs)).keys  # nobody looks after it

    await adopted(world, filled=True)

    status = await world.looked_after(world.docs)
    digest = await digest_at(world.ledger, status.generation, status.recorded)
    assert digest.hexdigest() == digest_of(docs)
    assert (await world.verify(world.docs)).equal
    await erase(world, await find(world, [person], world.docs))
    assert docs.keys[4] not in (await world.points(world.docs)).keys


async def test_dropped_collections_have_nothing_left_to_bring_back(world: World) -> None:
    await world.fill()
    picture = await world.points(world.docs)
    done = await world.migrate(after="drop")
    person = id_of(picture.keys[0])
    found = await find(world, [person])
    assert {one.status.gone for one in found.affected} == {True, False}
    assert picture.take([0]).payloads[0] in (await bodies(world, found)).payloads
    await erase(world, found)

    back = await world.roll_back(done)

    assert back.state is State.ROLLED_BACK, back.error
    assert (await world.points(world.docs)).hashes() == without(picture, person).hashes()


async def test_everybody_can_be_erased_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_subjects, "IDS_AT_ONCE", 7)
    generation = await world.generation()
    points = document_points(["2"] * 20)
    await world.write(generation, points)
    await erase(world, await find_like(world, {"source_id": "2"}))
    assert len(await world.points(world.named("direct"))) == 0
    assert sum(len(event.ids) for event in await recorded(world)) == 20
    assert len(await recorded(world)) == 3


async def test_who_was_erased_by_somebody_else_holds_up_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_subjects, "IDS_AT_ONCE", 7)
    generation = await world.generation()
    points = document_points(["2"] * 20)
    await world.write(generation, points)
    found = await find_like(world, {"source_id": "2"})
    await erase(world, await find(world, [id_of(key) for key in sorted(points.keys)[:7]]))
    await erase(world, found)
    assert len(await world.points(world.named("direct"))) == 0
    assert [len(event.ids) for event in await recorded(world)] == [7, 7, 6]
    await erase(world, found)  # by now all of them are
    assert len(await recorded(world)) == 3


@pytest.mark.usefixtures("world_settings", "typed_here")
async def test_a_command_says_that_somebody_else_was_faster(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await world.generation()
    points = document_points(["2"] * 3)
    await world.write(generation, points)
    person = id_of(points.keys[0])
    found, here, alone = await find(world, [person]), asyncio.get_running_loop(), Erasing.alone

    @asynccontextmanager
    async def after_somebody_else(work: Erasing, holder: str) -> AsyncIterator[None]:
        monkeypatch.setattr(Erasing, "alone", alone)
        other = asyncio.run_coroutine_threadsafe(erase(world, found), here)
        await asyncio.wrap_future(other)
        async with alone(work, holder):
            yield

    monkeypatch.setattr(Erasing, "alone", after_somebody_else)
    why = ("--reason", "r", "--basis", "b", "--accept-irreversible")
    ended = await run("erase", "--ids", str(person), *why)
    assert (ended.status, ended.err) == (0, "")
    assert "somebody else has erased these points meanwhile" in " ".join(ended.out.split())
    assert len(await recorded(world)) == 1
