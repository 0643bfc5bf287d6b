"""What is not ours is neither dropped, overwritten nor lost, whoever was faster."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from domain.model.errors import Rejected
from domain.model.migration import Migration, State
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.use_cases import lanes
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.steer_migration import roll_back_migration
from tests.integration.builders import document_points
from tests.integration.faults import LedgerDeliveries, Wrapped
from tests.integration.worlds import MARA, STORE, World, eventually

PHYSICAL = {"store": STORE, "naming": "physical"}
OTHER = CollectionSchema({"": VectorSpec(VectorKind.DENSE, 4, Distance.COSINE)})


class Moving(LedgerDeliveries):
    """A consumer whose partitions come and go."""

    owned = True

    def owns(self, _generation: UUID) -> bool:
        return self.owned

    def move(self, *, here: bool) -> None:
        self.owned, self._deaf = here, not here


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(lanes, "CALL_DEADLINE", 0.2)


@pytest.mark.usefixtures("short_leases")
async def test_a_generation_whose_partition_moved_is_applied_by_its_new_owner(
    world: World,
) -> None:
    generation = await world.generation()
    await world.write(generation, document_points(["1"] * 5))
    former, latter = Moving(world.ledger), Moving(world.ledger)
    latter.move(here=False)
    async with world.applier(deliveries=former), world.applier(deliveries=latter):
        await world.applied(generation)
        former.move(here=False)
        latter.move(here=True)
        await world.write(generation, document_points(["1"] * 5, first=100))
        await world.applied(generation)


@pytest.mark.usefixtures("short_leases")
async def test_an_applier_that_slept_through_its_lease_writes_no_more(world: World) -> None:
    generation = await world.generation()
    async with world.applier():
        await world.applied(generation)
    await world.write(generation, document_points(["old"] * 5))
    entered, woken, late = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def upsert(name: str, points: Any) -> None:
        if not entered.is_set():
            entered.set()
            await woken.wait()
            late.set()
        await world.store.upsert(name, points)

    async def renew(*_facts: Any) -> set[UUID]:
        await woken.wait()
        return set()

    tools = world.with_store(Wrapped(world.store, upsert=upsert))
    asleep = replace(tools, applications=Wrapped(tools.applications, renew=renew))
    async with world.applier(asleep):
        await entered.wait()
        await world.write(generation, document_points(["new"] * 5))
        async with world.applier():
            await world.applied(generation)
        woken.set()
    assert not late.is_set()
    assert (await world.verify(world.named("direct"))).equal


async def _run_while_somebody_creates(
    world: World, schema: CollectionSchema | None, points: int
) -> Migration:
    """Somebody makes a target right before we do."""
    await world.fill()
    name = world.names["2", "documents"]

    async def create(physical: str, ours: CollectionSchema) -> None:
        if physical == name and name not in await world.collections():
            await world.store.create(name, schema or ours)
            if points:
                await world.store.upsert(name, document_points(["2"] * points, first=5000))
        await world.store.create(physical, ours)

    planned = await world.plan(to=PHYSICAL)
    return await world.run(planned, world.with_store(Wrapped(world.store, create=create)))


async def test_a_collection_of_another_shape_that_somebody_made_stays(world: World) -> None:
    done = await _run_while_somebody_creates(world, OTHER, 0)
    assert done.state is State.ROLLED_BACK
    there = await world.store.describe(world.names["2", "documents"])
    assert there is not None
    assert there.schema.vectors == OTHER.vectors


async def test_a_collection_that_somebody_filled_stays_with_its_points(world: World) -> None:
    done = await _run_while_somebody_creates(world, None, 7)
    assert done.state is State.ROLLED_BACK
    theirs = document_points(["2"] * 7, first=5000)
    name = world.names["2", "documents"]
    stored = await world.store.retrieve(name, theirs.keys)
    assert dict(zip(stored.keys, stored.hashes(), strict=True)) == dict(
        zip(theirs.keys, theirs.hashes(), strict=True)
    )
    assert name in done.compensated["create"]["released"]


async def test_a_refused_compensation_is_no_rollback(world: World) -> None:
    await world.fill()
    done = await world.migrate()
    before = await world.collections()

    async def refuse(*_facts: Any) -> None:
        raise Rejected("the server refuses our credentials")

    await roll_back_migration(world.tools, done.id, MARA)
    store = Wrapped(world.store, drop=refuse, remove_alias=refuse)
    async with world.workers(world.with_store(store)):
        failed = await world.settled(done.id)
    assert failed.state is State.FAILED
    assert "refuses" in str(failed.error)
    assert await world.collections() == before


async def test_points_written_after_a_migration_stop_its_rollback_before_it_begins(
    world: World,
) -> None:
    await world.fill()
    done = await world.migrate()
    picture = await world.picture()
    new = document_points(["2"] * 3, first=7000)
    await world.store.upsert(world.names["2", "documents"], new)

    refused = await world.roll_back(done)

    assert refused.state is State.FAILED
    assert "3 extra" in str(refused.error)
    assert refused.compensated == {}
    assert await world.aliases() == picture["aliases"]
    await world.store.delete(f"{world.names['2', 'documents']}__g1", new.keys)
    assert (await world.roll_back(refused)).state is State.ROLLED_BACK


async def test_what_is_recorded_of_a_source_after_it_was_copied_is_copied_too(
    world: World,
) -> None:
    await world.fill()
    late = document_points(["2"], first=9100)
    written = []

    async def create(name: str, schema: CollectionSchema) -> None:
        if not written:
            written.append(name)
            await world.store.upsert(world.docs, late)
        await world.store.create(name, schema)

    planned = await world.plan(after="drop", on_failure="pause")
    paused = await world.run(planned, world.with_store(Wrapped(world.store, create=create)))
    assert paused.state is State.FAILED
    spec = {
        "version": 1,
        "name": "adopt",
        "recipe": "adopt-collections",
        "reason": "to know the late point",
        "store": STORE,
        "collections": [world.docs],
    }
    adopted = await world.run((await plan_migration(world.tools, spec, MARA)).migration)
    assert adopted.state is State.COMPLETED

    resumed = await world.run(paused)

    assert resumed.state is State.COMPLETED, resumed.error
    copied = await world.points(world.names["2", "documents"])
    assert late.keys[0] in copied.keys
    assert world.docs not in await world.collections()


async def test_values_of_rows_come_into_no_event(world: World) -> None:
    await world.fill()
    await world.sql("ALTER TABLE {schema}.sources ADD COLUMN api_key text DEFAULT 'sk-SECRET'")
    await world.sql(
        "ALTER TABLE {schema}.sources ADD CHECK "
        "(collection_names IS NULL OR collection_names::text NOT LIKE '%AI_Knowledge%')"
    )
    done = await world.run(await world.plan())
    assert done.state is State.ROLLED_BACK
    assert "violates check constraint" in str(done.error)
    assert "sk-SECRET" not in str([vars(r.event) for r in await world.ledger.read(0, 10_000)])


async def test_an_alias_that_somebody_made_since_the_plan_is_left_alone(world: World) -> None:
    await world.fill()
    planned = await world.plan()
    alias = world.names["2", "documents"]
    created = []

    async def create(name: str, schema: CollectionSchema) -> None:
        await world.store.create(name, schema)
        if not created:
            created.append(name)
            await world.store.point_alias(alias, world.code)

    done = await world.run(planned, world.with_store(Wrapped(world.store, create=create)))
    assert done.state is State.ROLLED_BACK
    assert alias in str(done.error)
    assert await world.aliases() == {alias: world.code}


async def test_an_alias_that_somebody_moved_stays_at_a_rollback(world: World) -> None:
    await world.fill()
    done = await world.migrate()
    alias = world.names["2", "documents"]
    await world.store.point_alias(alias, world.code)
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    assert await world.aliases() == {alias: world.code}


async def test_a_drop_that_is_still_to_come_is_waited_for_before_a_collection_comes_back(
    world: World,
) -> None:
    await world.fill()
    before = await world.digest(world.docs)
    planned = await world.plan(after="drop")
    store_back = asyncio.Event()

    async def drop(name: str) -> None:
        if name == world.docs:
            await store_back.wait()
        await world.store.drop(name)

    await world.start(planned)
    async with world.workers(world.with_store(Wrapped(world.store, drop=drop))):

        async def dropping() -> bool:
            return len(await world.events("generation.dropped")) == 2

        await eventually(dropping)
        await roll_back_migration(world.tools, planned.id, MARA)

        async def going_back() -> bool:
            return (await world.migration(planned.id)).state is State.ROLLING_BACK

        await eventually(going_back)
        for _look in range(200):
            made = [vars(r.event) for r in await world.events("generation.created")]
            assert not [g for g in made if (g["physical"], g["number"]) == (world.docs, 2)]
        store_back.set()
        done = await world.settled(planned.id)
    assert done.state is State.CANCELLED
    assert await world.digest(world.docs) == before
