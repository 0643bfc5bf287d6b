"""Retention: what leaves its window is archived, and bodies go that nothing else needs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from adapters.archive import export as exporting
from adapters.archive.check import check
from adapters.archive.export import export
from adapters.archive.folder import ArchiveFolder
from adapters.archive.manifest import OBJECTS, Manifest
from adapters.objects import store as objects_module
from adapters.objects.store import StoredObjects
from adapters.postgres.bodies import claim_bodies
from adapters.postgres.connection import Database
from domain.model.bodies import encode_body
from domain.model.errors import BodyCollected, Rejected
from domain.model.generation import Generation
from domain.model.migration import State
from domain.model.points import PointBatch
from domain.model.recorded import ChangeSetDraft
from domain.model.retention import Retention, Sweep
from domain.use_cases import retain
from domain.use_cases.archived import ARCHIVED
from domain.use_cases.diff_versions import Contents
from domain.use_cases.list_versions import list_versions, with_details
from domain.use_cases.pack import pack
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.project import rebuild
from domain.use_cases.retain import Archived, archive_versions, leaving
from domain.use_cases.retention import decide_retention
from domain.use_cases.steer_migration import roll_back_migration
from domain.use_cases.sweep import KEEPER, Swept, retain_regularly, sweep
from domain.use_cases.tools import update
from domain.use_cases.versions import digest_at, find_version, tag_version
from projections import PROJECTIONS
from tests.integration.builders import document_points
from tests.integration.faults import Crash, Wrapped
from tests.integration.new_generations import REPLACE, made, shared
from tests.integration.retaining import NOW, content, keep_since_now, number
from tests.integration.worlds import MARA, STORE, World, eventually
from tests.integration.writers import adopted, live_write, one

POINTS = 12


async def history(world: World) -> UUID:
    """A collection with versions 2 to 12, each a body of its own; 4 and 8 have labels."""
    generation = await world.generation()
    points = document_points(["1"] * POINTS)
    await world.write(generation, points)
    for count in range(3, 13):
        await world.write(generation, number(points, count).take([count % 3, 5]))
        if count in {4, 8}:
            await tag_version(world.tools, STORE, "direct", f"label {count}", None, MARA)
    async with world.applier():
        await world.applied(generation)
    return generation


async def keep_last(world: World, last: int = 1, name: str = "direct") -> None:
    decide = partial(Retention.set_policy, last=last, since=None)
    await decide_retention(world.tools, STORE, name, MARA, decide)


async def swept(world: World, grace: timedelta = NOW) -> Swept:
    return await sweep(world.tools, world.garbage, grace, MARA)


async def recorded(world: World, generation: UUID, at: int) -> str:
    digest = await digest_at(world.ledger, generation, at)
    return f"{digest.points} points {digest.hexdigest()}"


async def bodies(world: World, generation: UUID) -> list[str]:
    """The body of each version from 2 on."""
    events = await world.ledger.events(generation, after=1)
    addresses = [vars(r.event)["manifest"] for r in events if hasattr(r.event, "manifest")]
    manifests = await world.ledger.manifests(addresses)
    return [manifests[address].objects[0] for address in addresses]


async def test_nobody_goes_back_to_what_left_its_window(world: World) -> None:
    generation = await history(world)
    expected = [await recorded(world, generation, at) for at in range(2, 13)]
    of = await bodies(world, generation)
    await keep_last(world)
    [leaves] = await leaving(world.tools)
    assert (leaves.physical, leaves.before, leaves.kept) == (world.named("direct"), 8, [4])

    assert await archive_versions(world.tools, MARA) == [leaves]
    assert await leaving(world.tools) == []
    done = await swept(world)

    # Of 3, 6 and 7, a point is in a version that is kept.
    assert done == Swept(condemned=1, given_up=1, deleted=1)
    assert await world.tools.objects.missing(of) == {of[5 - 2]}
    [event] = await world.events(Sweep.Created.TOPIC)
    assert vars(event.event)["bodies"] == [of[5 - 2]]
    for at in range(2, 13):
        assert await recorded(world, generation, at) == expected[at - 2]  # on record for ever
        if at in {4, *range(8, 13)}:
            assert await content(world, generation, at) == expected[at - 2]
        else:
            with pytest.raises(Rejected, match="retention archived this version"):
                await content(world, generation, at)
    assert await swept(world) == Swept(0, 0, 0)


async def test_a_version_that_was_archived_is_named_everywhere(world: World) -> None:
    generation = await history(world)
    await keep_last(world)
    await archive_versions(world.tools, MARA)
    events = await world.ledger.events(generation, after=4, through=5)
    at = str(events[0].position)
    place = await find_version(world.tools, STORE, "direct", at)

    with pytest.raises(Rejected, match="retention archived this version"):
        await Contents(world.tools).read(place, [document_points(["1"]).keys[0]])
    assert place.status.archived(5)
    assert {d["label"]: d["not_rebuildable"] for d in await listed(world, "direct")} == {
        "label 4": None,
        "label 8": None,
    }


async def listed(world: World, name: str) -> list[dict[str, Any]]:
    """The versions of a collection as people see them."""
    await rebuild(world.ledger, world.views, *PROJECTIONS)
    return await with_details(
        world.tools, await list_versions(world.tools, world.views, STORE, name)
    )


async def test_a_hold_stands_above_the_policy(world: World) -> None:
    generation = await history(world)
    await keep_last(world)
    [leaves] = await leaving(world.tools)
    hold = partial(Retention.place_hold, hold="case 7")
    decided = await decide_retention(world.tools, STORE, "direct", MARA, hold)
    assert decided.holds == {"case 7"}

    assert await archive_versions(world.tools, MARA) == []
    assert await swept(world) == Swept(0, 0, 0)
    with pytest.raises(Rejected, match="held by case 7"):  # it was placed after somebody looked
        await _archive(world, leaves)
    for at in range(2, 13):
        assert await content(world, generation, at)

    lift = partial(Retention.lift_hold, hold="case 7")
    await decide_retention(world.tools, STORE, world.named("direct"), MARA, lift)
    assert await archive_versions(world.tools, MARA) == [leaves]


@pytest.mark.parametrize("decision", ["removed", "wider"])
async def test_a_policy_that_changes_while_somebody_looks_counts(
    world: World, monkeypatch: pytest.MonkeyPatch, decision: str
) -> None:
    generation = await history(world)
    await keep_last(world)
    decide = {
        "removed": Retention.remove_policy,
        "wider": partial(Retention.set_policy, last=2, since=None),
    }[decision]
    before = retain._before

    async def decided_meanwhile(*given: Any) -> Any:
        found = await before(*given)
        await decide_retention(world.tools, STORE, "direct", MARA, decide)
        return found

    monkeypatch.setattr(retain, "_before", decided_meanwhile)

    archived = await archive_versions(world.tools, MARA)

    assert [one.before for one in archived] == ([] if decision == "removed" else [4])
    status = await world.tools.applications.status(generation)
    assert status is not None
    assert status.archived_before == (0 if decision == "removed" else 4)


async def _archive(world: World, leaves: Archived) -> None:
    archive = partial(
        Retention.archive, generation=leaves.generation, before=leaves.before, kept=leaves.kept
    )
    stream = Retention.create_id(STORE, "direct")
    await update(world.ledger, Retention, stream, "archive", MARA, archive)


@pytest.mark.parametrize(("last", "since", "before"), [(2, None, 4), (3, None, 0), (1, "1h", 0)])
async def test_the_widest_window_counts(
    world: World, last: int, since: str | None, before: int
) -> None:
    await history(world)
    within = timedelta(hours=1) if since else None
    decide = partial(Retention.set_policy, last=last, since=within)
    await decide_retention(world.tools, STORE, "direct", MARA, decide)
    assert [one.before for one in await leaving(world.tools)] == ([before] if before else [])


async def test_what_came_since_is_kept(world: World) -> None:
    generation = await history(world)
    await keep_since_now(world)
    [leaves] = await archive_versions(world.tools, MARA)
    assert (leaves.before, leaves.kept) == (12, [4, 8])
    assert await content(world, generation, 12)


async def test_what_a_kept_version_replaced_goes(world: World) -> None:
    generation = await world.generation()
    points = document_points(["1"] * 3)
    for count in range(4):
        await world.write(generation, number(points, count))
        if count == 1:
            await tag_version(world.tools, STORE, "direct", "kept", None, MARA)
    async with world.applier():
        await world.applied(generation)
    before, kept, after, now = await bodies(world, generation)
    await keep_since_now(world)
    await archive_versions(world.tools, MARA)
    await swept(world)
    addresses = [before, kept, after, now]
    assert await world.tools.objects.missing(addresses) == {before, after}


async def test_a_label_on_an_archived_version_does_not_bring_it_back(world: World) -> None:
    generation = await history(world)
    await keep_last(world)
    await archive_versions(world.tools, MARA)
    [six] = await world.ledger.events(generation, after=5, through=6)
    await tag_version(world.tools, STORE, "direct", "too late", str(six.position), MARA)
    await keep_last(world, 1)
    await tag_version(world.tools, STORE, "direct", "label 12", None, MARA)

    [leaves] = await archive_versions(world.tools, MARA)

    assert (leaves.before, leaves.kept) == (12, [4, 8])
    assert (await world.status(generation)).archived(6)


async def test_bodies_of_others_stay(world: World) -> None:
    """Another collection refers to the same bodies, and has no policy."""
    generation = await history(world)
    of = await bodies(world, generation)
    other = await world.generation("other")
    heads = await world.ledger.heads(generation, at=5)
    await world.record(heads.draft(other, heads.keys))
    async with world.applier():
        await world.applied(other)
    await keep_last(world)
    await archive_versions(world.tools, MARA)
    assert await swept(world) == Swept(0, 0, 0)
    assert not await world.tools.objects.missing(of)


async def test_a_collection_that_was_dropped_goes_as_a_whole(world: World) -> None:
    generation = await world.generation("gone")
    await world.write(generation, document_points(["1"] * 3))
    await tag_version(world.tools, STORE, "gone", "kept", None, MARA)
    await world.write(generation, number(document_points(["1"] * 3), 9))
    of = await bodies(world, generation)
    await update(world.ledger, Generation, generation, "drop", MARA, Generation.drop)
    await tag_version(world.tools, STORE, "gone", "last", None, MARA)
    await keep_since_now(world, "gone")

    [leaves] = await archive_versions(world.tools, MARA)
    assert (leaves.before, leaves.kept) == (4, [2, 3])
    assert await swept(world) == Swept(0, 0, 0)  # both have labels
    assert not await world.tools.objects.missing(of)


async def test_without_labels_nothing_is_left_of_it(world: World) -> None:
    generation = await world.generation("gone")
    await world.write(generation, document_points(["1"] * 3))
    of = await bodies(world, generation)
    await update(world.ledger, Generation, generation, "drop", MARA, Generation.drop)
    await keep_since_now(world, "gone")
    await archive_versions(world.tools, MARA)
    assert await swept(world) == Swept(1, 0, 0)  # the store has yet to write what it then drops
    async with world.applier():
        assert (await world.applied(generation)).halted_at is None
    assert (await swept(world)).deleted == 1
    assert await world.tools.objects.missing(of) == set(of)


async def archived_world(world: World) -> tuple[UUID, str, PointBatch]:
    """A body that only an archived version had; its address, and what is in it."""
    generation = await history(world)
    address = (await bodies(world, generation))[5 - 2]
    await keep_last(world)
    await archive_versions(world.tools, MARA)
    return generation, address, number(document_points(["1"] * POINTS), 5).take([2, 5])


async def test_an_archive_follows(world: World, database: Database, tmp_path: Path) -> None:
    """What was in it and is deleted goes; the archive stays whole."""
    _, address, _ = await archived_world(world)
    folder = ArchiveFolder(tmp_path / "archive")
    stored = StoredObjects((tmp_path / "objects").as_uri())
    for deleted in (False, True):
        if deleted:
            await swept(world)
        manifest = await export(database, stored, folder, lambda *_: None)
        there = {
            one for part in manifest.of(OBJECTS) for some in folder.addresses(part) for one in some
        }
        assert (address in there) is not deleted
        assert not (await check(folder)).lacking


@pytest.mark.parametrize("small", [True, False])
async def test_an_archive_keeps_what_comes_back_while_it_is_written(
    world: World,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small: bool,  # noqa: FBT001
) -> None:
    """The archive had it from before it was deleted, or gets it now as a file of its own."""
    if not small:
        monkeypatch.setattr(objects_module, "SMALL_OBJECT", 0)
    generation, address, points = await archived_world(world)
    folder = ArchiveFolder(tmp_path / "archive")
    stored = StoredObjects((tmp_path / "objects").as_uri())
    await export(database, stored, folder, lambda *_: None)
    await swept(world)
    looked, again = exporting.stored_answers, list[str]()

    def comes_back(*given: Any) -> AsyncIterator[Any]:
        async def answers() -> AsyncIterator[Any]:
            if not again:
                again.append(await world.write(generation, points))
            async for some in looked(*given):
                yield some

        return answers()

    monkeypatch.setattr(exporting, "stored_answers", comes_back)
    await export(database, stored, folder, lambda *_: None)
    assert again == [address]
    manifest = await check(folder)
    assert not manifest.lacking
    assert in_archive(folder, manifest, address)


def in_archive(folder: ArchiveFolder, manifest: Manifest, address: str) -> bool:
    """Whether an archive has an object, among others or as a file of its own."""
    parts = manifest.of(OBJECTS)
    packed = {one for part in parts for some in folder.addresses(part) for one in some}
    return address in packed or folder.has_large(address)


async def test_nothing_is_given_up_before_its_grace_is_over(world: World) -> None:
    _, address, _ = await archived_world(world)
    assert await swept(world, timedelta(hours=1)) == Swept(1, 0, 0)
    assert not await world.tools.objects.missing([address])
    assert await swept(world) == Swept(0, 1, 1)


async def test_what_is_written_again_stays(world: World) -> None:
    generation, address, points = await archived_world(world)
    assert (await swept(world, timedelta(hours=1))).condemned == 1
    assert await world.write(generation, points) == address

    assert await swept(world) == Swept(0, 0, 0)
    at = (await world.status(generation)).recorded
    assert await content(world, generation, at) == await recorded(world, generation, at)


async def test_what_was_put_and_is_not_recorded_yet_has_another_grace(world: World) -> None:
    generation, address, points = await archived_world(world)
    await swept(world, timedelta(hours=1))
    await world.sql("UPDATE migration_ledger.bodies SET fate_at = fate_at - interval '2 hours'")

    assert await world.tools.objects.put(encode_body(points)) == address
    assert await swept(world, timedelta(hours=1)) == Swept(0, 0, 0)
    await world.write(generation, points)


async def test_what_was_deleted_may_be_written_again(world: World) -> None:
    generation, address, points = await archived_world(world)
    await swept(world)
    assert await world.tools.objects.missing([address]) == {address}

    assert await world.write(generation, points) == address
    at = (await world.status(generation)).recorded
    assert await content(world, generation, at) == await recorded(world, generation, at)
    assert await swept(world) == Swept(0, 0, 0)


async def test_small_bodies_that_come_with_a_change_are_there_again(world: World) -> None:
    generation, address, points = await archived_world(world)
    await swept(world)
    draft = ChangeSetDraft.images(generation, points.keys, points.hashes(), address)
    bodies = {address: encode_body(points)}
    await world.ledger.record("again", MARA, [draft], bodies=bodies)
    assert not await world.tools.objects.missing([address])
    assert await swept(world) == Swept(0, 0, 0)


async def test_a_change_that_names_what_was_given_up_is_refused(world: World) -> None:
    """Somebody read it before, and took an hour to record it."""
    generation, address, points = await archived_world(world)

    async def dies(_: Sequence[str]) -> None:
        raise Crash

    tools = replace(world.tools, objects=Wrapped(world.tools.objects, delete=dies))
    with pytest.raises(Crash):
        await sweep(tools, world.garbage, NOW, MARA)
    draft = ChangeSetDraft.images(generation, points.keys, points.hashes(), address)
    for _ in range(2):  # before its object is gone, and after
        with pytest.raises(BodyCollected, match=address):
            await world.record(draft)
        await swept(world)
    assert await world.tools.objects.missing([address]) == {address}


async def test_killed_anywhere_it_goes_on(world: World) -> None:
    _, address, _ = await archived_world(world)

    async def dies_before(_: Sequence[str]) -> None:
        raise Crash

    async def dies_after(addresses: Sequence[str]) -> None:
        await world.tools.objects.delete(addresses)
        raise Crash

    for dies in (dies_before, dies_after):
        tools = replace(world.tools, objects=Wrapped(world.tools.objects, delete=dies))
        with pytest.raises(Crash):
            await sweep(tools, world.garbage, NOW, MARA)
    assert await swept(world) == Swept(0, 0, 1)
    assert await world.tools.objects.missing([address]) == {address}
    assert len(await world.events(Sweep.Created.TOPIC)) == 1


@pytest.mark.parametrize("before", [True, False])
async def test_a_change_under_way_is_seen(
    world: World,
    database: Database,
    before: bool,  # noqa: FBT001
) -> None:
    """It has claimed the body, before or after that was condemned, and commits only later."""
    generation, address, _ = await archived_world(world)
    if not before:
        assert await world.garbage.condemn() == 1
    async with database.transaction() as connection:
        claimed = await claim_bodies(connection, [address])
        if before:
            assert await world.garbage.condemn() == 1
        giving_up = asyncio.create_task(world.garbage.give_up(NOW, MARA))
        await eventually(partial(_waits, world))
        await connection.execute(
            "UPDATE heads SET body = $1 WHERE gid = (SELECT gid FROM generations WHERE stream = $2)"
            " AND id = $3",
            claimed.numbers[address],
            generation,
            document_points(["1"]).keys[0],
        )
    assert await giving_up == 0
    assert await swept(world) == Swept(0, 0, 0)
    assert not await world.tools.objects.missing([address])


async def _waits(world: World, query: str = "FOR UPDATE") -> bool:
    """Whether a statement with these words waits for a lock."""
    connection = await asyncpg.connect(world.url)
    try:
        waiting: bool = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database() AND query LIKE '%' || $1 || '%')",
            query,
        )
    finally:
        await connection.close()
    return waiting


async def test_who_writes_a_body_waits_until_its_object_is_deleted(world: World) -> None:
    generation, address, points = await archived_world(world)
    writing: list[asyncio.Task[str]] = []

    async def delete(addresses: Sequence[str]) -> None:
        writing.append(asyncio.create_task(world.write(generation, points)))
        await eventually(partial(_waits, world, "fate = 'condemned'"))
        await world.tools.objects.delete(addresses)

    tools = replace(world.tools, objects=Wrapped(world.tools.objects, delete=delete))
    assert (await sweep(tools, world.garbage, NOW, MARA)).deleted == 1
    assert await writing[0] == address
    assert not await world.tools.objects.missing([address])
    at = (await world.status(generation)).recorded
    assert await content(world, generation, at)


async def test_a_store_that_lags_gets_every_body_that_it_needs(world: World) -> None:
    generation = await world.generation()
    points = document_points(["1"] * 3)
    await world.write(generation, points)
    await world.write(generation, number(points, 2))
    await tag_version(world.tools, STORE, "direct", "last", None, MARA)
    await keep_last(world)
    await archive_versions(world.tools, MARA)
    assert await swept(world) == Swept(1, 0, 0)
    async with world.applier():
        assert (await world.applied(generation)).halted_at is None
    assert await swept(world) == Swept(0, 1, 1)
    assert (await world.verify(world.named("direct"))).equal


async def test_packs_let_the_bodies_go_that_they_replace(world: World) -> None:
    generation = await history(world)
    of = await bodies(world, generation)
    await keep_since_now(world)
    assert (await pack(world.tools, await world.status(generation), MARA)).bodies == 1
    async with world.applier():
        await world.applied(generation)
    await archive_versions(world.tools, MARA)
    assert (await swept(world)).deleted > 1
    gone = await world.tools.objects.missing(of)
    assert of[12 - 2] in gone
    for at in (4, 8, 12):
        assert await content(world, generation, at) == await recorded(world, generation, at)


async def test_nothing_goes_while_the_past_is_not_complete(
    world: World, database: Database
) -> None:
    await archived_world(world)
    async with database.connection() as connection:
        await connection.execute("UPDATE generations SET has_past = false")
    assert await swept(world) == Swept(0, 0, 0)


async def test_a_migration_that_is_not_over_keeps_what_it_began_with(world: World) -> None:
    await adopted(world)
    migration = await world.plan()
    await world.start(migration)
    for count in range(3):
        await live_write(world, world.docs, one(70_000 + count, 1, "later"))
    await keep_since_now(world, world.docs)
    before = (await world.looked_after(world.docs)).recorded - 3

    [leaves] = await leaving(world.tools)
    assert leaves.before == before

    async with world.workers():
        done = await world.settled(migration.id)
    assert done.state is State.COMPLETED, done.error
    assert max(one.before for one in await leaving(world.tools)) > before


async def test_a_migration_that_is_not_over_keeps_the_version_that_it_goes_to(world: World) -> None:
    generation = await history(world)
    position = (await find_version(world.tools, STORE, "direct", "label 4")).position
    spec = {
        "version": 1,
        "name": "restore",
        "recipe": "restore-version",
        "reason": "OPS-7",
        "store": STORE,
        "collection": world.named("direct"),
        "to": str(position),
        "later_writes": "discard",
    }
    migration = (await plan_migration(world.tools, spec, MARA)).migration
    before = await recorded(world, generation, 4)
    await keep_since_now(world)
    assert [one.before for one in await leaving(world.tools)] == [12]
    await world.start(migration)

    [archived] = await archive_versions(world.tools, MARA)
    assert (archived.before, archived.position) == (4, position)
    await swept(world)
    async with world.workers():
        done = await world.settled(migration.id)
    assert done.state is State.COMPLETED, done.error
    assert await content(world, generation, (await world.status(generation)).recorded) == before
    assert max(one.before for one in await leaving(world.tools)) > 12


@pytest.mark.parametrize("labelled", [True, False])
async def test_a_rollback_to_what_was_archived_is_refused(
    world: World,
    labelled: bool,  # noqa: FBT001
) -> None:
    """The collection that it would bring back was dropped. One version that is kept is too few."""
    await shared(world)
    replaced = await made(world, to=REPLACE)
    if labelled:
        last = str((await listed(world, world.docs))[0]["position"])
        await tag_version(world.tools, STORE, world.docs, "kept", last, MARA)
    await keep_since_now(world, world.docs)
    await archive_versions(world.tools, MARA)
    noted = await listed(world, world.docs)
    assert {(one["physical"], one["not_rebuildable"]) for one in noted} == {
        (world.docs, None if labelled else ARCHIVED),
        (f"{world.docs}__g1", None),
    }

    with pytest.raises(Rejected, match=r"retention has archived what .* was when this migration"):
        await roll_back_migration(world.tools, replaced.id, MARA)
    assert (await world.migration(replaced.id)).state is State.COMPLETED


async def test_a_rollback_to_what_is_still_there_goes(world: World) -> None:
    await shared(world)
    name = world.named("documents")
    await made(world, to={"name": name}, name="first")
    before = await world.picture()
    second = await made(world, name, name="second")
    await keep_since_now(world, name)
    assert await archive_versions(world.tools, MARA)
    assert (await swept(world)).deleted == 0

    assert (await world.roll_back(second)).state is State.ROLLED_BACK
    assert await world.picture() == before


async def test_it_is_done_regularly(world: World) -> None:
    _, address, _ = await archived_world(world)
    await world.sql("UPDATE migration_ledger.bodies SET fate = NULL")
    await keep_since_now(world)
    stop, every = asyncio.Event(), timedelta(milliseconds=50)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            retain_regularly(world.tools, world.garbage, world.leaders, "one", every, stop)
        )
        events = await eventually(partial(_archived_by_worker, world))
        stop.set()
    assert len(events) == 1
    assert not await world.tools.objects.missing([address])  # its grace is an hour


async def _archived_by_worker(world: World) -> list[Any]:
    events = await world.events(Retention.VersionsArchived.TOPIC)
    return [recorded for recorded in events if recorded.context.actor == KEEPER]


@pytest.mark.parametrize(
    ("last", "since", "problem"),
    [(None, None, "says what it keeps"), (0, None, "the last version")],
)
async def test_a_policy_that_keeps_nothing_is_refused(
    world: World, last: int | None, since: timedelta | None, problem: str
) -> None:
    await history(world)
    decide = partial(Retention.set_policy, last=last, since=since)
    with pytest.raises(Rejected, match=problem):
        await decide_retention(world.tools, STORE, "direct", MARA, decide)
    with pytest.raises(Rejected, match="has no hold"):
        await decide_retention(
            world.tools, STORE, "direct", MARA, partial(Retention.lift_hold, hold="none")
        )
    assert not await world.events("retention.")
