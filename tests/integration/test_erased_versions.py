"""Nothing that goes back brings an erased point back, and everything says what is missing."""

from contextlib import aclosing
from typing import Any
from uuid import UUID

import pytest

from adapters.cli.data import name_erased
from domain.model.errors import InvalidSpec, Rejected
from domain.model.migration import Migration, State
from domain.model.points import PointBatch, id_of
from domain.model.timeline import Witness
from domain.use_cases.bodies import BodyCache
from domain.use_cases.diff_versions import VersionDiff, diff_versions
from domain.use_cases.export_version import export_version
from domain.use_cases.list_versions import list_versions, with_details
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.project import rebuild
from domain.use_cases.put_right import put_right
from domain.use_cases.repair import repair
from domain.use_cases.search_versions import search_versions
from domain.use_cases.verify_version import verify_version
from domain.use_cases.versions import digest_at, find_version, tag_version
from domain.use_cases.write_points import Delete, SetPayload
from projections import PROJECTIONS
from tests.integration.builders import document_points
from tests.integration.erasures import ART_17, erase, erasing, find
from tests.integration.worlds import MARA, STORE, World, eventually
from tests.integration.writers import adopted, live_write, one

LABEL = "with everybody"


async def history(world: World) -> tuple[UUID, PointBatch]:
    """Twenty points, a label, and then half of them are deleted."""
    generation = await world.generation("docs")
    points = document_points(["2"] * 20)
    await world.write(generation, points)
    await tag_version(world.tools, STORE, world.named("docs"), LABEL, None, MARA)
    await world.delete(generation, points.keys[10:])
    async with world.applier():
        await world.applied(generation)
    return generation, points


def spec(world: World, recipe: str, **more: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": world.named(recipe),
        "recipe": recipe,
        "reason": "OPS-7",
        "batch": {"size": 5},
        **more,
    }


def restoring(world: World) -> dict[str, Any]:
    collection = {"store": STORE, "collection": world.named("docs")}
    return spec(world, "restore-version", **collection, to=LABEL)


def rebuilding(world: World, **more: Any) -> dict[str, Any]:
    source = {"store": STORE, "collection": world.named("docs"), "at": LABEL}
    to = {"store": STORE, "collection": world.named("then")}
    return spec(world, "rebuild-version", **{"from": source, "to": to}, **more)


async def done(world: World, asked: dict[str, Any]) -> Migration:
    planned = (await plan_migration(world.tools, asked, MARA)).migration
    ended = await world.run(planned)
    assert ended.state is State.COMPLETED, ended.error
    return ended


async def test_a_restore_leaves_them_out_and_says_so(world: World) -> None:
    _, points = await history(world)
    await erase(world, await find(world, [id_of(points.keys[0]), id_of(points.keys[15])]))

    ended = await done(world, restoring(world))

    left = set(points.keys) - {points.keys[0], points.keys[15]}
    assert set((await world.points(world.named("docs"))).keys) == left
    (note,) = ended.plan.notes
    assert note.startswith("2 points of the version are erased and stay away; the 18 that remain")
    assert (await world.verify(world.named("docs"))).equal
    back = await world.roll_back(ended)
    assert back.state is State.ROLLED_BACK, back.error
    assert set((await world.points(world.named("docs"))).keys) == set(points.keys[1:10])


async def test_a_restore_is_undone_without_those_that_were_erased_since(world: World) -> None:
    _, points = await history(world)
    ended = await done(world, restoring(world))
    await erase(world, await find(world, [id_of(points.keys[0])]))
    back = await world.roll_back(ended)
    assert back.state is State.ROLLED_BACK, back.error
    assert set((await world.points(world.named("docs"))).keys) == set(points.keys[1:10])
    assert (await world.verify(world.named("docs"))).equal


async def test_a_rebuild_is_refused_unless_it_may_be_without_them(world: World) -> None:
    generation, points = await history(world)
    await erase(world, await find(world, [id_of(points.keys[0])]))
    left = await digest_at(world.ledger, generation, 2)
    with pytest.raises(InvalidSpec, match=f"1 of its points are erased.*{left.hexdigest()}"):
        await plan_migration(world.tools, rebuilding(world), MARA)

    await done(world, rebuilding(world, without_erased=True))

    assert left.hexdigest() in await world.digest(world.named("then"))
    assert set((await world.points(world.named("then"))).keys) == set(points.keys[1:])


async def test_a_file_is_refused_unless_it_may_be_without_them(world: World) -> None:
    _, points = await history(world)
    await erase(world, await find(world, [id_of(points.keys[0])]))
    place = await find_version(world.tools, STORE, world.named("docs"), LABEL)
    pages: list[PointBatch] = []

    async def write(page: PointBatch) -> None:
        pages.append(page)

    with pytest.raises(Rejected, match="not be rebuilt exactly: erased: 1 points"):
        await export_version(world.tools, world.views, place, write)
    assert pages == []
    digest = await export_version(world.tools, world.views, place, write, without_erased=True)
    assert digest.points == 19


async def test_versions_say_what_is_missing(world: World) -> None:
    generation, points = await history(world)
    before = await digest_at(world.ledger, generation, 2)
    await erase(world, await find(world, [id_of(points.keys[0])]))
    left = await digest_at(world.ledger, generation, 2)
    await tag_version(world.tools, STORE, world.named("docs"), "after", None, MARA)
    for projection in PROJECTIONS:
        await rebuild(world.ledger, world.views, projection)
    noted = await list_versions(world.tools, world.views, STORE, world.named("docs"))

    first, last = await with_details(world.tools, noted)

    assert first["digest"] == before.hexdigest() != left.hexdigest()
    assert first["remains"] == {"erased": 1, "points": 19, "digest": left.hexdigest()}
    assert first["not_rebuildable"].startswith("erased: 1 points are gone for good")
    assert (last["remains"], last["not_rebuildable"]) == (None, None)


async def test_nobody_wants_them_back(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Not who verifies, repairs, recovers or searches."""
    generation, points = await history(world)
    await erase(world, await find(world, [id_of(points.keys[0])]))
    name = world.named("docs")
    status = await world.looked_after(name)

    compared = await verify_version(world.tools, STORE, name, LABEL)
    assert (compared.missing, compared.extra, compared.changed) == (10, 0, 0)
    assert (await repair(world.tools, status, MARA)).points == 0
    place = await find_version(world.tools, STORE, name, LABEL)
    hits = await search_versions(world.tools, [place], [1.0] * 8, limit=100)
    assert {hit.key for hit in hits} == set(points.keys[1:])
    await name_erased(world.ledger, [place])
    assert capsys.readouterr().err == f"1 points of {name!r} at that version are erased\n"

    different = VersionDiff()
    last = await find_version(world.tools, STORE, name, None)
    async with aclosing(diff_versions(world.tools, place, last, different)) as changed:
        assert {key async for _, key in changed} == set(points.keys[10:])
    assert (different.erased, different.points) == ((1, 0), (19, 9))

    await world.store.drop(name)
    await _recover(world, generation)
    assert set((await world.points(name)).keys) == set(points.keys[1:10])


async def _recover(world: World, generation: UUID) -> None:
    """What a recovery does for a collection that is gone."""
    head, standing = await world.ledger.head(), await world.ledger.standing()
    witness = Witness("", head.position, head.hash.hex(), timeline=1, ledger=standing.ledger)
    found = await put_right(
        world.tools,
        BodyCache(world.tools.objects),
        await world.status(generation),
        witness,
        keep_extra=False,
    )
    assert (found.made, found.lacking) == (True, 0)


async def test_they_come_back_with_no_rollback_that_gives_writes_back(world: World) -> None:
    await adopted(world)
    done = await world.migrate(warm_for="7d")
    name = world.names["1", "documents"]
    await live_write(world, name, one(80_001, 1, "a person"))
    copy = (await world.aliases())[name]
    known = (await world.points(copy)).keys[0]
    await live_write(world, name, SetPayload({known: {"seen": True}}))
    async with world.workers():
        await world.applied((await world.looked_after(copy)).generation)
    await erase(world, await find(world, [80_001, id_of(known)], copy))
    await live_write(world, name, one(80_002, 1, "somebody else"))

    back = await world.roll_back(done)

    assert back.state is State.ROLLED_BACK, back.error
    keys = (await world.points(world.docs)).keys
    assert [id_of(key) for key in keys if id_of(key) in {80_001, 80_002}] == [80_002]
    assert known not in keys
    assert (await world.verify(world.docs)).equal


async def test_in_the_middle_of_a_migration(world: World) -> None:
    """What a flow has copied goes, and what it has not copied yet does not come."""
    await adopted(world)
    docs = await world.points(world.docs)
    planned = await world.plan()
    await world.start(planned)
    async with world.workers():
        await eventually(lambda: world.events("flow.range-"))
        first, last = docs.keys[0], docs.keys[-1]
        found = await find(world, [id_of(first), id_of(last)], world.docs)
        work = erasing(world)
        async with work.alone("test"):
            for part in found.parts():
                begun = await work.begin(part, ART_17)
                await work.finish(begun.number)
        ended = await world.settled(planned.id)
    assert ended.state is State.COMPLETED, ended.error
    for physical in await world.collections():
        if "code" not in physical:
            keys = (await world.points(physical)).keys
            assert not {first, last} & set(keys), physical
            assert (await world.verify(physical)).equal


async def test_fields_of_who_is_erased_cannot_be_set(world: World) -> None:
    await adopted(world)
    key = (await world.points(world.docs)).keys[3]
    await erase(world, await find(world, [id_of(key)], world.docs))
    with pytest.raises(Rejected, match="has no point"):
        await live_write(world, world.docs, SetPayload({key: {"a": 1}}))
    await live_write(world, world.docs, Delete([key]))
