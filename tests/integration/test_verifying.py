"""Verification finds every single difference between a store and the ledger, and names it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import cycle, pairwise
from typing import Any
from uuid import UUID

import pytest

from domain.model.errors import Conflict, NotFound, Rejected, Unavailable
from domain.model.generation import Generation
from domain.model.points import PointBatch, encode_payload, id_of, key_of
from domain.model.recorded import Heads, Recorded
from domain.model.schema import CollectionSchema
from domain.model.verification import VerificationLog
from domain.use_cases import merge
from domain.use_cases import verify as verifying
from domain.use_cases import verify_regularly as regularly
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.tools import update
from domain.use_cases.verify import (
    Verification,
    compare,
    refuse_unready,
    verify,
    verify_and_record,
)
from domain.use_cases.verify_regularly import verify_regularly
from tests.integration.builders import CODE, DOCS, code_points, document_points
from tests.integration.faults import Wrapped
from tests.integration.tampering import drop_index, flip
from tests.integration.worlds import MARA, STORE, World, WorldStores, eventually

PAGE = 7


@pytest.fixture(autouse=True)
def tiny_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every comparison crosses many pages on both sides."""
    for module in (merge, verifying):
        monkeypatch.setattr(module, "PAGE", PAGE)


async def filled(world: World, name: str = "direct") -> tuple[str, PointBatch]:
    """A collection that is as the ledger says, and its points in key order."""
    schema, points = (
        (CODE, code_points(["1"] * 60)) if name == "code" else (DOCS, document_points(["1"] * 60))
    )
    generation = await world.generation(name, schema)
    await world.write(generation, points)
    async with world.applier():
        status = await world.applied(generation)
    assert (await world.verify(status.physical)).equal
    return status.physical, await world.points(status.physical)


def only(found: Verification, kind: str, *keys: bytes) -> None:
    """The difference is of this kind, at these points, and there is no other."""
    counts = {"missing": found.missing, "extra": found.extra, "changed": found.changed}
    assert counts == {"missing": 0, "extra": 0, "changed": 0} | {kind: len(keys)}
    assert found.examples == {kind: [id_of(key) for key in keys]}
    assert not found.equal
    assert found.digest != found.recorded_digest
    assert f"{len(keys)} {kind} (such as {id_of(keys[0])})" in str(found)


async def test_what_is_equal_is_equal(world: World) -> None:
    name, points = await filled(world)
    found = await world.verify(name)
    assert found.equal
    assert (found.points, found.recorded) == (60, 60)
    assert found.digest == found.recorded_digest
    assert f"60 points {found.digest}" == await world.digest(name)
    assert str(found) == f"{name}: 60 points, digest {found.digest}"
    assert found.to_json()["equal"] is True
    assert len(points) == 60


@pytest.mark.parametrize("row", [0, PAGE - 1, PAGE, 31, 59])
async def test_one_point_is_missing(world: World, row: int) -> None:
    name, points = await filled(world)
    await world.store.delete(name, [points.keys[row]])
    only(await world.verify(name), "missing", points.keys[row])


@pytest.mark.parametrize("extra", [0, 5_000, "ffffffff-ffff-ffff-ffff-ffffffffffff"], ids=str)
async def test_one_point_is_extra(world: World, extra: int | str) -> None:
    name, points = await filled(world)
    stranger = points.take([3])
    stranger.keys[0] = key_of(extra)
    await world.store.upsert(name, stranger)
    only(await world.verify(name), "extra", stranger.keys[0])


@pytest.mark.parametrize("bit", [0, 31 * 8 + 5, 8 * 8 + 22])
async def test_one_bit_of_a_dense_vector(world: World, bit: int) -> None:
    name, points = await filled(world)
    await flip(world, name, points.take([17]), "", bit)
    only(await world.verify(name), "changed", points.keys[17])


@pytest.mark.parametrize(("vector", "bit"), [("text", 0), ("text", 6 * 32 - 1)])
async def test_one_bit_of_a_named_vector(world: World, vector: str, bit: int) -> None:
    name, points = await filled(world, "code")
    await flip(world, name, points.take([17]), vector, bit)
    only(await world.verify(name), "changed", points.keys[17])


@pytest.mark.parametrize("bit", [7 * 32 - 9, 4 * 32], ids=["last value", "first value"])
async def test_one_bit_of_a_sparse_vector(world: World, bit: int) -> None:
    name, points = await filled(world, "code")
    await flip(world, name, points.take([17]), "words", bit)
    only(await world.verify(name), "changed", points.keys[17])


async def test_a_vector_that_is_gone(world: World) -> None:
    name, points = await filled(world, "code")
    changed = points.take([17])
    changed.vectors["words"][0] = None
    await world.store.upsert(name, changed)
    only(await world.verify(name), "changed", points.keys[17])


@pytest.mark.parametrize(
    "payload",
    [
        {"source_id": "1", "n": 18, "third": 18 / 3 + 1e-15},
        {"source_id": "1", "n": 18.0, "third": 18 / 3},
        {"source_id": "1", "n": 18},
        {"source_id": "1", "n": 18, "third": 18 / 3, "more": None},
        {},
    ],
    ids=["last digit", "integer to float", "field gone", "null added", "empty"],
)
async def test_one_payload_value(world: World, payload: dict[str, Any]) -> None:
    name, points = await filled(world)
    changed = points.take([18])
    changed.payloads[0] = encode_payload(payload)
    await world.store.upsert(name, changed)
    only(await world.verify(name), "changed", points.keys[18])


async def test_several_differences_at_once(world: World) -> None:
    name, points = await filled(world)
    await world.store.delete(name, points.keys[10:40])
    changed = points.take([0, 59])
    changed.payloads[:] = [b"{}", b"{}"]
    await world.store.upsert(name, changed)
    found = await world.verify(name)
    assert (found.missing, found.extra, found.changed) == (30, 0, 2)
    assert found.examples["missing"] == [id_of(key) for key in points.keys[10:30]]
    assert (found.points, found.recorded) == (30, 60)


async def test_everything_is_missing_and_everything_is_extra(world: World) -> None:
    name, points = await filled(world)
    await world.store.delete(name, points.keys)
    assert (await world.verify(name)).missing == 60
    strangers = document_points(["1"] * 20, first=1000, seed=8)
    await world.store.upsert(name, strangers)
    found = await world.verify(name)
    assert (found.missing, found.extra, found.changed) == (60, 20, 0)


async def test_an_empty_collection_is_equal(world: World) -> None:
    generation = await world.generation()
    async with world.applier():
        status = await world.applied(generation)
    found = await world.verify(status.physical)
    assert found.equal
    assert found.points == 0


async def test_collections_that_are_not_ours_or_not_there(world: World) -> None:
    name, _ = await filled(world)
    with pytest.raises(NotFound, match="does not look after collection 'unknown'"):
        await world.verify("unknown")
    await world.store.drop(name)
    found = await world.verify(name)
    assert found.schema == [f"the store has no collection {name!r}"]
    assert (found.points, found.missing) == (0, 60)


async def test_memory_is_bounded_by_a_page_of_each_side(world: World) -> None:
    name, _ = await filled(world)
    sizes: list[int] = []

    async def scan(collection: str, **where: Any) -> AsyncIterator[PointBatch]:
        async for page in world.store.scan(collection, **where):
            sizes.append(len(page))
            yield page

    async def heads(generation: UUID, **where: Any) -> Heads:
        found = await world.ledger.heads(generation, **where)
        sizes.append(len(found))
        return found

    tools = replace(
        world.tools,
        ledger=Wrapped(world.ledger, heads=heads),
        stores=WorldStores(Wrapped(world.store, scan=scan), world.url),
    )
    found = await verify(tools, STORE, name)
    assert found.equal
    assert max(sizes) == PAGE
    assert sum(sizes) == 120


@asynccontextmanager
async def written_to(world: World, generation: UUID, points: PointBatch) -> AsyncIterator[None]:
    """Write, delete and write again as long as the block runs; points from 140 on are left."""
    stop = asyncio.Event()

    async def write() -> None:
        for seed in cycle((2, 3)):
            if stop.is_set():
                return
            await world.write(generation, document_points(["2"] * 90, seed=seed))
            await world.delete(generation, points.keys[100:140])
            await world.write(generation, points.take(range(100, 140)))

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        try:
            yield
        finally:
            stop.set()


async def test_what_appliers_write_meanwhile_is_no_difference(world: World) -> None:
    generation = await world.generation()
    points = document_points(["1"] * 200)
    await world.write(generation, points)
    meanwhile = 0
    async with world.applier():
        physical = (await world.applied(generation)).physical
        async with written_to(world, generation, points):
            for _ in range(6):
                found = await world.verify(physical)
                assert found.equal, str(found)
                assert found.digest == found.recorded_digest
                meanwhile += found.meanwhile
    assert meanwhile


async def test_a_point_that_was_changed_while_appliers_write_is_named(world: World) -> None:
    generation = await world.generation()
    points = document_points(["1"] * 200)
    await world.write(generation, points)
    async with world.applier():
        physical = (await world.applied(generation)).physical
        key = points.keys[150]
        there = await world.points(physical)
        await flip(world, physical, there.take([there.keys.index(key)]), "", 77)
        async with written_to(world, generation, points):
            for _ in range(4):
                found = await world.verify(physical)
                assert (found.missing, found.extra, found.changed) == (0, 0, 1)
                assert found.examples == {"changed": [id_of(key)]}


async def test_what_is_recorded_and_not_applied_is_no_difference(world: World) -> None:
    name, points = await filled(world)
    status = await world.looked_after(name)
    await world.write(status.generation, document_points(["2"] * 30, seed=5))
    found = await world.verify(name)
    assert found.equal
    assert (found.through, found.meanwhile) == (status.applied, 0)
    [event] = await world.ledger.events(status.generation, after=1, through=2)
    assert found.position == event.position
    # An applier has written it and died before it could say so.
    await world.store.upsert(name, document_points(["2"] * 30, seed=5))
    found = await world.verify(name)
    assert found.equal
    assert found.meanwhile == 30
    assert found.digest == found.recorded_digest != await world.digest(name)
    assert len(points) == 60


async def test_an_index_that_is_missing(world: World) -> None:
    name, _ = await filled(world)
    await drop_index(world, name, "source_id")
    found = await world.verify(name)
    assert not found.equal
    assert found.schema == ["the index of 'source_id' is missing"]
    assert str(found) == f"{name}: the index of 'source_id' is missing"


async def test_an_index_that_is_not_recorded_is_no_difference(world: World) -> None:
    name, _ = await filled(world)
    more = CollectionSchema(DOCS.vectors, {**DOCS.indexes, "n": {"type": "integer"}})
    await world.store.create(name, more)
    assert (await world.verify(name)).equal


async def test_what_was_found_is_recorded(world: World) -> None:
    name, points = await filled(world)
    status = await world.looked_after(name)
    found = await verify_and_record(world.tools, status, MARA)
    await world.store.delete(name, [points.keys[3]])
    await drop_index(world, name, "source_id")
    await asyncio.gather(
        *(verify_and_record(world.tools, status, MARA) for _ in range(2))
    )  # at the same moment

    [begun, held, *drifts] = await world.events("verification.")
    assert vars(begun.event)["physical"] == name
    assert isinstance(held.event, VerificationLog.Held)
    assert (held.event.through, held.event.position) == (2, found.position)
    assert (held.event.points, held.event.digest) == (60, found.digest)
    assert held.context.actor == MARA.actor
    assert len(drifts) == 2
    for drift in drifts:
        assert isinstance(drift.event, VerificationLog.DriftFound)
        assert (drift.event.points, drift.event.recorded, drift.event.missing) == (59, 60, 1)
        assert drift.event.differences == ["the index of 'source_id' is missing"]
        assert drift.event.examples == {"missing": [id_of(points.keys[3])]}
    log = await world.ledger.load(VerificationLog, begun.stream)
    assert log is not None
    assert (log.verified, log.drifted) == (2, True)


async def test_what_is_due_is_verified_and_drift_is_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regularly, "LONGEST_WAIT", 0.05)
    name, points = await filled(world)
    gone = await world.generation("gone")
    await update(world.ledger, Generation, gone, "drop", MARA, Generation.drop)
    never = await world.generation("never")  # nothing of it is applied
    stop, every = asyncio.Event(), timedelta(seconds=1)

    async def drift() -> Recorded | None:
        found = await world.events("verification.drift-found")
        return found[0] if found else None

    async with asyncio.TaskGroup() as group:
        for holder in ("one", "other"):
            verifying = verify_regularly(world.tools, world.leaders, holder, every, stop)
            group.create_task(verifying)
        await eventually(lambda: world.events("verification.held"))
        await world.store.delete(name, [points.keys[3]])
        found = await eventually(drift)
        stop.set()

    assert found is not None
    assert found.context.actor == regularly.VERIFIER
    assert vars(found.event)["examples"] == {"missing": [id_of(points.keys[3])]}
    events = await world.events("verification.")
    assert [recorded.topic for recorded in events[:2]] == [
        "verification.begun",
        "verification.held",
    ]
    of = {recorded.stream for recorded in events}
    assert of == {VerificationLog.create_id(str((await world.looked_after(name)).generation))}
    assert VerificationLog.create_id(str(never)) not in of
    times = [recorded.recorded_at for recorded in events[1:]]
    assert all(later - earlier >= every for earlier, later in pairwise(times))


async def test_what_cannot_be_verified_now_keeps_nothing_else_waiting(world: World) -> None:
    name, _ = await filled(world)
    other, _ = await filled(world, "code")

    async def scan(collection: str, **where: Any) -> AsyncIterator[PointBatch]:
        if collection == name:
            raise Unavailable("the store is away")
        async for page in world.store.scan(collection, **where):
            yield page

    stop, every = asyncio.Event(), timedelta(hours=1)
    tools = world.with_store(Wrapped(world.store, scan=scan))
    async with asyncio.TaskGroup() as group:
        group.create_task(verify_regularly(tools, world.leaders, "one", every, stop))
        [held] = await eventually(lambda: world.events("verification.held"))
        stop.set()
    assert vars(held.event)["generation"] == str((await world.looked_after(other)).generation)


async def test_a_slow_verification_says_nothing_older_than_a_fast_one(world: World) -> None:
    name, points = await filled(world)
    status = await world.looked_after(name)
    scans = 0

    async def scan(collection: str, **where: Any) -> AsyncIterator[PointBatch]:
        nonlocal scans
        scans += 1
        async for page in world.store.scan(collection, **where):
            yield page
        if scans == 1:  # all pages are read; now a point goes, and somebody else sees that
            await world.store.delete(name, [points.keys[0]])
            await verify_and_record(world.tools, status, MARA)

    slow = world.with_store(Wrapped(world.store, scan=scan))
    found = await verify_and_record(slow, status, MARA)
    assert (scans, found.missing) == (2, 1)
    topics = [recorded.topic for recorded in await world.events("verification.")]
    assert topics == ["verification.begun", *["verification.drift-found"] * 2]


async def test_a_verification_begins_with_what_is_applied_by_then(world: World) -> None:
    name, points = await filled(world)
    before = await world.looked_after(name)
    newer = points.take([3])
    newer.payloads[0] = encode_payload({"newer": True})
    await world.write(before.generation, newer)
    async with world.applier():
        await world.applied(before.generation)
    await world.store.upsert(name, points.take([3]))  # somebody puts the old one back
    found = await compare(world.tools, before)
    assert (found.through, found.changed) == (3, 1)


async def test_what_is_not_ready_is_refused(world: World) -> None:
    generation = await world.generation()
    with pytest.raises(Conflict, match=r"nothing of collection .* is applied yet"):
        await refuse_unready(world.tools, await world.status(generation))

    await world.store.create(world.named("direct"), CODE)
    await world.store.upsert(world.named("direct"), code_points(["1"]))
    async with world.applier():
        await world.applied(generation)
        await world.tools.applications.skip(generation, MARA)
        await world.applied(generation)
    with pytest.raises(Conflict, match=r"first change .* was skipped"):
        await refuse_unready(world.tools, await world.status(generation))


async def test_a_collection_that_is_being_adopted_is_not_ready(world: World) -> None:
    await world.share(world.docs, DOCS, document_points(["1"] * 30))

    async def scan(*_args: Any, **_where: Any) -> AsyncIterator[PointBatch]:
        raise Rejected("not now")
        yield

    spec = {
        "version": 1,
        "name": "adopt",
        "recipe": "adopt-collections",
        "reason": "to know",
        "store": STORE,
        "collections": [world.docs],
        "on_failure": "pause",
    }
    migration = (await plan_migration(world.tools, spec, MARA)).migration
    failed = await world.run(migration, world.with_store(Wrapped(world.store, scan=scan)))
    status = await world.looked_after(world.docs)
    assert status.applied
    with pytest.raises(Conflict, match=f"is being adopted; see `migration show {migration.id}`"):
        await refuse_unready(world.tools, status)
    await world.run(failed)
    await refuse_unready(world.tools, await world.looked_after(world.docs))
