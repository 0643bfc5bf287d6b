"""A repair puts right just what differs, as recorded changes, and no later write is lost by it."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from domain.model.bodies import encode_body
from domain.model.errors import Conflict, ObjectMissing, Rejected
from domain.model.generation import Generation
from domain.model.migration import State
from domain.model.points import encode_payload, id_of
from domain.model.recorded import Answer, ChangeSetDraft
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.use_cases import merge
from domain.use_cases import repair as repairing
from domain.use_cases import verify as verifying
from domain.use_cases.repair import Repair, repair
from domain.use_cases.tools import update
from domain.use_cases.versions import find_version, tag_version
from tests.integration.builders import CODE, document_points
from tests.integration.faults import Crash, Wrapped
from tests.integration.filled import filled, no_index, one_less, one_more, one_payload
from tests.integration.worlds import MARA, STORE, World

PAGE = 7


@pytest.fixture(autouse=True)
def tiny_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every repair crosses many pages."""
    for module in (merge, verifying, repairing):
        monkeypatch.setattr(module, "PAGE", PAGE)


async def test_only_what_differs_is_written_and_the_ledger_says_what_was_found(
    world: World,
) -> None:
    one = await filled(world)
    await world.store.delete(one.name, one.points.keys[10:30])
    await one_payload(one, 40, Random(1))
    await one_more(one, 3, Random(1))
    there = await world.points(one.name)
    status, heads = await world.status(one.generation), await world.ledger.heads(one.generation)

    done = await one.repair()

    await one.is_right()
    assert (done.points, done.kept, done.lacking) == (22, 0, 0)
    found = dict(zip(there.keys, there.hashes(), strict=True))
    ours = dict(zip(heads.keys, heads.hashes, strict=True))
    different = {
        key: found.get(key) for key in ours.keys() | found.keys() if ours.get(key) != found.get(key)
    }
    assert await one.repaired() == different
    events = await one.repairs()
    assert sum(event.upserts for event in events) == 21
    assert sum(event.deletes for event in events) == 1
    assert {event.added for event in events} == {0}
    assert (await world.status(one.generation)).points == status.points == 60
    assert await world.ledger.heads(one.generation) == heads

    again = await one.repair()

    assert again == Repair(through=done.through)
    assert len(await one.repairs()) == len(events)


async def test_points_that_the_ledger_does_not_have_can_stay(world: World) -> None:
    one = await filled(world)
    await one_more(one, 3, Random(1))
    await one_less(one, 5, Random(1))
    done = await one.repair(keep_extra=True)
    assert (done.points, done.kept) == (1, 1)
    found = await world.verify(one.name)
    assert (found.missing, found.extra, found.changed) == (0, 1, 0)


async def test_a_collection_that_is_gone_is_made_again(world: World) -> None:
    one = await filled(world, CODE)
    description = await world.store.describe(one.name)
    await world.store.drop(one.name)
    done = await one.repair()
    await one.is_right()
    assert done.points == 60
    assert await world.store.describe(one.name) == description


async def test_a_write_that_is_recorded_meanwhile_wins(world: World) -> None:
    one = await filled(world)
    await world.store.delete(one.name, one.points.keys[:3])
    newer = one.points.take([1])
    newer.payloads[0] = encode_payload({"newer": True})
    address = await world.tools.objects.put(encode_body(newer))
    later = ChangeSetDraft(one.generation, newer.keys, list(newer.hashes()), [address], [0], [0])

    async def record(key: str, context: Any, drafts: list[ChangeSetDraft]) -> Answer:
        await world.record(later)
        await world.delete(one.generation, [one.points.keys[2]])
        return await world.ledger.record(key, context, drafts)

    await one.repair(replace(world.tools, ledger=Wrapped(world.ledger, record=record)))

    assert await one.repaired() == {one.points.keys[0]: None}
    found = await world.points(one.name)
    assert len(found) == 59
    assert found.take([1]).payloads == newer.payloads
    assert (await world.verify(one.name)).equal


async def test_a_change_that_waits_to_be_applied_is_not_repaired_away(world: World) -> None:
    one = await filled(world)
    await one_payload(one, 4, Random(1))
    newer = one.points.take([4, 5])
    newer.payloads[:] = [encode_payload({"newer": n}) for n in range(2)]
    await world.write(one.generation, newer)
    await one.repair()
    assert (await world.points(one.name)).take([4, 5]).payloads == newer.payloads
    assert (await world.verify(one.name)).equal


async def test_who_repairs_is_killed_and_the_next_one_does_the_rest(world: World) -> None:
    one = await filled(world)
    await world.store.delete(one.name, one.points.keys[:20])
    recorded = 0

    async def record(*args: Any) -> Answer:
        nonlocal recorded
        answer = await world.ledger.record(*args)
        recorded += 1
        if recorded == 2:
            raise Crash
        return answer

    with pytest.raises(Crash):
        await one.repair(replace(world.tools, ledger=Wrapped(world.ledger, record=record)))
    await one.apply()
    assert (await world.verify(one.name)).missing == 20 - 2 * PAGE
    assert (await one.repair()).points == 20 - 2 * PAGE
    await one.is_right()


async def test_two_repairs_at_once(world: World) -> None:
    one = await filled(world)
    await world.store.delete(one.name, one.points.keys[:20])
    status = await world.looked_after(one.name)
    await repair(world.tools, status, MARA)
    await one.repair()  # nothing of the first is applied yet
    await one.is_right()


async def test_points_whose_bodies_are_gone_are_named_and_the_others_repaired(
    world: World,
) -> None:
    one = await filled(world)
    more = document_points(["2"] * 10, first=500, seed=9)
    address = await world.write(one.generation, more)
    await one.apply()
    await world.store.delete(one.name, [*one.points.keys[:2], *sorted(more.keys)[:3]])

    async def get(asked: str) -> bytes:
        if asked == address:
            raise ObjectMissing(f"object {asked} is missing")
        return await world.tools.objects.get(asked)

    objects = Wrapped(world.tools.objects, get=get)
    done = await one.repair(replace(world.tools, objects=objects))

    assert (done.points, done.lacking) == (2, 3)
    assert address in done.cause
    found = await world.verify(one.name)
    assert found.examples == {"missing": [id_of(key) for key in sorted(more.keys)[:3]]}


async def test_what_cannot_be_repaired_is_refused(world: World) -> None:
    one = await filled(world)
    await world.store.drop(one.name)
    other = {"": VectorSpec(VectorKind.DENSE, 9, Distance.COSINE)}
    await world.store.create(one.name, CollectionSchema(other))
    status = await world.looked_after(one.name)
    with pytest.raises(Conflict, match=r"other vectors.*dense 9 cosine.*rebuild it"):
        await repair(world.tools, status, MARA)
    assert await one.repairs() == []

    with pytest.raises(Conflict, match=r"halts at change 7.*retry or skip"):
        await repair(world.tools, replace(status, halted_at=7), MARA)


async def test_a_generation_that_is_gone_is_not_repaired(world: World) -> None:
    one = await filled(world)
    status = await world.looked_after(one.name)
    await world.store.delete(one.name, one.points.keys[:2])
    async with world.applier():
        await update(world.ledger, Generation, one.generation, "drop", MARA, Generation.drop)
        await world.applied(one.generation)
    with pytest.raises(Rejected, match="dropped or released"):
        await repair(world.tools, status, MARA)


async def test_a_source_is_repaired_in_the_middle_of_a_migration(world: World) -> None:
    await world.fill()
    picture = await world.digest(world.docs)

    async def refuse(*_args: Any) -> None:
        raise Rejected("not now")

    paused = await world.run(
        await world.plan(after="drop", on_failure="pause"),
        world.with_store(Wrapped(world.store, point_alias=refuse)),
    )
    assert paused.state is State.FAILED
    await world.store.delete(world.docs, (await world.points(world.docs)).keys[:5])
    status = await world.looked_after(world.docs)
    assert (await repair(world.tools, status, MARA)).points == 5
    async with world.applier():
        await world.applied(status.generation)
    assert await world.digest(world.docs) == picture
    for halted in await world.tools.applications.generations():
        if halted.halted_at is not None:
            await world.tools.applications.retry(halted.generation, MARA)

    done = await world.run(paused)

    assert done.state is State.COMPLETED, done.error
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK
    assert await world.digest(world.docs) == picture


async def test_points_of_others_stay_in_a_collection_that_was_there_before(world: World) -> None:
    await world.fill()
    done = await world.run(await world.plan())
    assert done.state is State.COMPLETED, done.error
    points = await world.points(world.docs)
    await world.store.upsert(world.docs, document_points(["2"], first=9100))
    await world.store.delete(world.docs, points.keys[:2])

    repaired = await repair(world.tools, await world.looked_after(world.docs), MARA)

    assert (repaired.points, repaired.kept) == (2, 1)
    async with world.applier():
        await world.applied((await world.looked_after(world.docs)).generation)
    assert len(await world.points(world.docs)) == len(points) + 1

    status = await world.looked_after(world.docs)
    assert (await repair(world.tools, status, MARA, keep_extra=False)).points == 1
    async with world.applier():
        await world.applied(status.generation)
    assert (await world.points(world.docs)).hashes() == points.hashes()


async def test_a_repair_makes_no_version(world: World) -> None:
    one = await filled(world)
    tagged = await tag_version(world.tools, STORE, "direct", "before", None, MARA)
    await one_less(one, 3, Random(1))
    await no_index(one, 0, Random(1))
    await one.repair()
    again = await tag_version(world.tools, STORE, "direct", "before", None, MARA)
    assert (again.id, again.through) == (tagged.id, 2)
    head = await world.ledger.head()
    place = await find_version(world.tools, STORE, "direct", str(head.position))
    assert (place.through, place.position) == (2, tagged.position)
