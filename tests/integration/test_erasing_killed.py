"""Who erases is killed anywhere, and the next one finishes; who writes meanwhile notices."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from domain.model.aggregate import pending_events
from domain.model.erasure import Erasure
from domain.model.errors import BodyErased, ChangedMeanwhile, Conflict, Corrupt, NotFound, Rejected
from domain.model.points import PointBatch, id_of
from domain.model.recorded import ChangeSetDraft
from domain.use_cases import change_effects
from domain.use_cases import erase as erasing_module
from domain.use_cases.erase import unfinished
from domain.use_cases.read_version import read_version
from domain.use_cases.tools import Tools
from domain.use_cases.versions import Place
from domain.use_cases.write_points import SetPayload
from tests.integration.builders import document_points
from tests.integration.erasures import ART_17, erase, erasing, find, finish_all, recorded
from tests.integration.faults import Crash, Wrapped, after, before
from tests.integration.worlds import MARA, World
from tests.integration.writers import live_write, one


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies are rewritten one after the other, so that there is something in between."""
    monkeypatch.setattr(erasing_module, "BODIES_AT_ONCE", 1)


async def filled(world: World) -> tuple[Any, PointBatch, list[str]]:
    """A point in three bodies; two of them are not its own."""
    generation = await world.generation("docs")
    points = document_points(["2"] * 20)
    addresses = [await world.write(generation, points)]
    for number in range(2):
        changed = [b'{"n":%d}' % number] * 3
        newer = replace(points.take([3, 4, 5]), payloads=changed)
        addresses.append(await world.write(generation, newer))
    async with world.applier():
        await world.applied(generation)
    return generation, points, addresses


def dying(world: World, where: str, method: str, when: Any, nth: int) -> Tools:
    """Tools of a process that is gone before or after the n-th call of a method."""
    port = getattr(world.tools, where)
    dies = when(getattr(port, method), Crash(), nth=nth)
    return replace(world.tools, **{where: Wrapped(port, **{method: dies})})


MOMENTS = [
    ("ledger", "record", before, 1),  # nothing has begun
    ("ledger", "record", after, 1),  # begun
    ("objects", "get", after, 1),  # applied, and the first body is read
    ("ledger", "record", before, 2),
    ("ledger", "record", after, 2),  # rewritten, and still there
    ("objects", "delete", after, 2),  # the first is gone
    ("ledger", "record", after, 3),
    ("objects", "delete", before, 4),  # the last is still there
    ("ledger", "record", before, 5),  # all is done and not said
    ("ledger", "record", after, 5),
]


@pytest.mark.parametrize(("where", "method", "when", "nth"), MOMENTS)
async def test_the_next_one_finishes_what_was_begun(
    world: World, where: str, method: str, when: Any, nth: int
) -> None:
    generation, points, addresses = await filled(world)
    found = await find(world, [id_of(points.keys[3])])
    with pytest.raises((Crash, BaseExceptionGroup)):
        await erase(world, found, dying(world, where, method, when, nth))

    await erase(world, await find(world, [id_of(points.keys[3])]))

    assert await unfinished(world.tools) == []
    (event,) = await recorded(world)
    assert (event.ids, event.objects) == ([id_of(points.keys[3])], 3)
    assert await world.tools.objects.missing(addresses) == set(addresses)
    assert points.keys[3] not in (await world.points(world.named("docs"))).keys
    assert (await world.verify(world.named("docs"))).equal
    for through in range(2, 5):
        place = Place(await world.status(generation), through, 0)
        pages = [page async for page in read_version(world.tools, place)]
        assert len(PointBatch.concatenate(pages)) == 19


async def test_it_waits_for_a_collection_that_halts_and_says_so(world: World) -> None:
    generation, points, addresses = await filled(world)
    applications = world.tools.applications
    held = await applications.acquire(generation, "an applier", 60.0, 0.0)
    assert held is not None
    await world.delete(generation, [points.keys[9]])
    await applications.dead_letter(held, 5, "Rejected", "it would not", MARA)
    await applications.release("an applier")
    with pytest.raises((Conflict, BaseExceptionGroup)) as caught:
        await erase(world, await find(world, [id_of(points.keys[3])]))
    assert "halts at change 5" in str(caught.value) or caught.group_contains(
        Conflict, match="halts at change 5"
    )
    assert len(await unfinished(world.tools)) == 1
    assert await world.tools.objects.missing(addresses) == set()

    await applications.retry(generation, MARA)
    async with world.applier():
        await finish_all(world)
    assert await world.tools.objects.missing(addresses) == set(addresses)


async def test_an_object_that_cannot_be_read_holds_up_nothing_else(world: World) -> None:
    _, points, addresses = await filled(world)
    lost = await world.tools.objects.get(addresses[1])
    await world.tools.objects.delete([addresses[1]])
    async with world.applier():
        work = erasing(world)
        for part in (await find(world, [id_of(points.keys[3])])).parts():
            begun = await work.begin(part, ART_17)
        with pytest.raises(Corrupt, match=f"1 objects.*{addresses[1]} is missing"):
            await work.finish(begun.number)
        assert await world.tools.objects.missing(addresses) == set(addresses)
        assert len(await unfinished(world.tools)) == 1
        await world.tools.objects.put(lost)
        await work.finish(begun.number)
    assert await world.tools.objects.missing(addresses) == set(addresses)


async def begun(world: World, points: PointBatch, *rows: int) -> Erasure:
    found = await find(world, [id_of(points.keys[row]) for row in rows])
    (part,) = found.parts()
    return await erasing(world).begin(part, ART_17)


async def copying(world: World, generation: Any, target: str) -> ChangeSetDraft:
    """A change set of one who has read a generation, and copies it."""
    heads = await world.ledger.heads(generation)
    return heads.draft(await world.generation(target), heads.keys)


async def test_who_has_read_before_cannot_copy_what_was_erased_since(world: World) -> None:
    generation, points, addresses = await filled(world)
    draft = await copying(world, generation, "one")
    erasure = await begun(world, points, 3)
    with pytest.raises(BodyErased) as caught:
        await world.record(draft)
    assert (caught.value.address in addresses, caught.value.gone) == (True, False)

    again = await copying(world, generation, "two")
    await world.record(again)  # the others are where they were
    async with world.applier():
        await erasing(world).finish(erasure.number)
    with pytest.raises(BodyErased) as caught:
        await world.record(replace(again, generation=await world.generation("three")))
    assert caught.value.gone
    await world.record(await copying(world, generation, "four"))
    assert (await world.verify(world.named("two"))).equal


async def test_what_was_copied_since_it_was_found_is_found_again(world: World) -> None:
    generation, points, _ = await filled(world)
    found = await find(world, [id_of(points.keys[3])])
    draft = await copying(world, generation, "copy")
    await world.record(draft)
    await erase(world, found)
    (event,) = await recorded(world)
    assert event.generations == 2
    assert len(await world.points(world.named("copy"))) == 19


async def test_a_copy_between_looking_and_recording_is_not_missed(world: World) -> None:
    generation, points, _ = await filled(world)
    draft = await copying(world, generation, "copy")
    ids = {str(generation): [id_of(points.keys[3])]}
    erasure = Erasure(number=1, basis=ART_17, subjects=ids)
    await world.record(draft)
    deletion = ChangeSetDraft.tombstones(generation, [points.keys[3]])
    with pytest.raises(ChangedMeanwhile, match="copied meanwhile"):
        await world.ledger.record("x", MARA, [deletion], pending_events(erasure))
    assert await unfinished(world.tools) == []


async def test_an_erasure_that_would_leave_a_point_in_its_collection_is_refused(
    world: World,
) -> None:
    generation, points, _ = await filled(world)
    ids = {str(generation): [id_of(points.keys[3])]}
    for number, generations in ((1, ids), (2, {"00000000-0000-0000-0000-000000000001": [1]})):
        erasure = Erasure(number=number, basis=ART_17, subjects=generations)
        with pytest.raises(Rejected, match=r"deleted with it|does not exist"):
            await world.ledger.record(f"x{number}", MARA, [], pending_events(erasure))


async def test_two_who_erase_the_same_at_once(world: World) -> None:
    _, points, _ = await filled(world)
    found = await find(world, [id_of(points.keys[3])])
    (part,) = found.parts()
    both = (erasing(world).begin(part, ART_17) for _ in range(2))
    answers = await asyncio.gather(*both, return_exceptions=True)
    begun = {one.number for one in answers if isinstance(one, Erasure)}
    assert begun == {1}
    assert {type(one) for one in answers} <= {Erasure, NotFound}  # the second may find nothing
    async with world.applier():
        await finish_all(world)
    assert len(await recorded(world)) == 1


async def test_writers_go_on_while_somebody_is_erased(world: World) -> None:
    generation, points, _ = await filled(world)
    name, person = world.named("docs"), id_of(points.keys[3])
    stop = asyncio.Event()
    written = 0

    async def write() -> None:
        nonlocal written
        while not stop.is_set():
            written += 1
            await live_write(world, name, one(90_000 + written, 2, f"text {written}"))
            await live_write(world, name, SetPayload({points.keys[7]: {"n": written}}))

    async with asyncio.TaskGroup() as group, world.applier():
        writing = group.create_task(write())
        for _ in range(3):
            await live_write(world, name, one(int(person), 2, "back again"))
            work = erasing(world)
            for part in (await find(world, [person])).parts():
                await work.finish((await work.begin(part, ART_17)).number)
        stop.set()
        await writing
        await world.applied(generation)
    assert points.keys[3] not in (await world.points(name)).keys
    assert len(await world.points(name)) == 19 + written
    assert (await world.verify(name)).equal


async def test_an_applier_that_applies_an_old_change_again_deletes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a backup of the table of applications; what was erased must not come back."""
    monkeypatch.setattr(change_effects, "POINTS_AT_ONCE", 1)  # every change by itself
    generation, points, _ = await filled(world)
    await erase(world, await find(world, [id_of(points.keys[3])]))
    await world.sql(
        "UPDATE migration_ledger.applications SET applied = 1 WHERE generation = $1", generation
    )
    await world.store.upsert(world.named("docs"), points.take([3]))

    upserted, deleted = list[bytes](), list[bytes]()

    async def upsert(name: str, some: PointBatch) -> None:
        upserted.extend(some.keys)
        await world.store.upsert(name, some)

    async def delete(name: str, keys: list[bytes]) -> None:
        deleted.extend(keys)
        await world.store.delete(name, keys)

    watched = Wrapped(world.store, upsert=upsert, delete=delete)
    async with world.applier(world.with_store(watched)):
        await world.applied(generation)
    assert upserted.count(points.keys[4]) == 3
    assert points.keys[3] not in upserted
    assert deleted == [points.keys[3]] * 4  # with each of three changes, and by the erasure
    assert points.keys[3] not in (await world.points(world.named("docs"))).keys
    assert (await world.verify(world.named("docs"))).equal


async def test_a_reader_in_the_middle_reads_again(world: World) -> None:
    generation, points, _ = await filled(world)
    status = await world.status(generation)
    real = world.tools.objects
    reads = 0

    async def get(address: str) -> bytes:
        nonlocal reads
        reads += 1
        if reads == 1:
            await erase(world, await find(world, [id_of(points.keys[3])]))
        return await real.get(address)

    tools = replace(world.tools, objects=Wrapped(real, get=get))
    pages = [page async for page in read_version(tools, Place(status, 4, 0))]
    assert len(PointBatch.concatenate(pages)) == 19


async def test_a_verification_in_the_middle_finds_nothing_wrong(world: World) -> None:
    """The store has the point until it has applied its deletion."""
    _, points, _ = await filled(world)
    erasure = await begun(world, points, 3)
    assert (await world.verify(world.named("docs"))).equal
    async with world.applier():
        await erasing(world).finish(erasure.number)
    assert (await world.verify(world.named("docs"))).equal
