"""A database restored from an older backup: stores that are newer are noticed, and put right."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID

import pytest

from adapters.kafka.publisher import Publisher
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import EVENTS
from adapters.postgres import wakeups
from adapters.postgres.applications import PostgresApplications
from adapters.postgres.connection import open_database
from adapters.postgres.cursors import PostgresCursors
from adapters.postgres.leaders import PostgresLeaders
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.timelines import PostgresTimelines
from adapters.postgres.views import PostgresViews
from domain.model.application import Application
from domain.model.errors import Halted
from domain.model.generation import Generation
from domain.model.migration import State
from domain.model.points import PointBatch
from domain.model.recorded import Cursor
from domain.model.timeline import Halt, Timeline, Witness
from domain.use_cases import lanes, look_around, merge, put_right, recover, witnesses
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.recover import Ports, Recovery
from domain.use_cases.relay import CURSOR, relay
from domain.use_cases.tools import update
from domain.use_cases.verify import compare
from tests.contract.kafka_events import messages
from tests.integration.builders import DOCS, document_points
from tests.integration.faults import Crash, Wrapped, after, before
from tests.integration.worlds import MARA, STORE, World, eventually
from tests.restoring import back_up, restore

pytestmark = pytest.mark.broker


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases run out soon, and every comparison and repair crosses many pages."""
    monkeypatch.setattr(wakeups, "_RECONNECT", 0.05)
    for module in (lanes, recover):
        monkeypatch.setattr(module, "LEASE_SECONDS", 0.4)
        monkeypatch.setattr(module, "CALL_DEADLINE", 0.2)
        monkeypatch.setattr(module, "ACQUIRE_SECONDS", 0.05)
    monkeypatch.setattr(merge, "PAGE", 7)
    monkeypatch.setattr(put_right, "POINTS_AT_ONCE", 5)


@dataclass
class Restorable:
    """A world whose database can be put back to an earlier state.

    Attributes:
        world: everything else.
        kafka: its broker.
        backup: name of the backup.
    """

    world: World
    kafka: KafkaSettings
    backup: str = ""

    async def back_up(self) -> None:
        """Remember the database as it is now."""
        self.backup = await back_up(self.world.url)

    async def restore(self) -> None:
        """Put the database back; stores, topics and objects stay as they are.

        The ledger of this process remembers nothing, as that of a program which is started anew.
        """
        remembered = cast("PostgresLedger", self.world.ledger).wakeups
        remembered._position, remembered._seen = 0, Cursor()
        await restore(self.world.url, self.backup)

    async def written(self, name: str = "direct", count: int = 60) -> UUID:
        """A collection that the ledger made and filled."""
        generation = await self.world.generation(name)
        await self.world.write(generation, document_points(["1"] * count))
        await self.applied(generation)
        return generation

    async def applied(self, generation: UUID) -> None:
        """Let the store have everything; a clean stop leaves a witness."""
        async with self.world.applier():
            await self.world.applied(generation)

    async def go_on(self, generation: UUID) -> None:
        """Change, delete and add points."""
        await self.world.write(generation, document_points(["2"] * 90, seed=5))
        keys = document_points(["1"] * 20).keys
        await self.world.delete(generation, sorted(keys))
        await self.applied(generation)

    async def halted(self) -> Halt:
        """Let the workers look around, which halts all work."""
        with pytest.raises(BaseExceptionGroup) as stopped:
            async with self.world.workers():
                await asyncio.Event().wait()
        assert stopped.group_contains(Halted, match="migration-ledger recover")
        halt = (await self.world.ledger.standing()).halt
        assert halt is not None
        return halt

    @asynccontextmanager
    async def ports(self) -> AsyncIterator[Ports]:
        """What a recovery works with."""
        async with (
            open_database(self.world.url, recovering=True) as database,
            PostgresLedger(database) as ledger,
            Publisher(self.kafka) as publisher,
        ):
            applications = PostgresApplications(database, ledger.wakeups)
            yield Ports(
                replace(self.world.tools, ledger=ledger, applications=applications),
                PostgresCursors(database),
                PostgresViews(database),
                PostgresLeaders(database),
                PostgresTimelines(database),
                publisher,
            )

    async def recover(self, *, keep_extra: bool = False) -> Recovery:
        """Recover, to the end."""
        async with self.ports() as ports:
            return await recover.recover(
                ports, "recovery", MARA, lambda _: None, keep_extra=keep_extra
            )

    async def assert_right(self, name: str, digest: str) -> None:
        """A collection has this digest, which is the ledger's, and work goes on."""
        assert await self.world.digest(name) == digest
        assert (await self.world.verify(name)).equal
        assert (await self.world.ledger.standing()).halt is None
        async with self.ports() as ports:
            assert (await ports.look_around()).nothing_to_do


@pytest.fixture
def restorable(world: World, broker_settings: KafkaSettings) -> Restorable:
    return Restorable(world, broker_settings)


async def test_a_store_that_is_ahead_halts_all_work_and_is_put_right(
    restorable: Restorable,
) -> None:
    world = restorable.world
    generation = await restorable.written()
    name = world.named("direct")
    digest, kept = await world.digest(name), await hashes(world, name)
    await restorable.back_up()
    position = (await world.ledger.head()).position
    await restorable.go_on(generation)
    newer = await hashes(world, name)
    difference = {
        "missing": len(kept.keys() - newer.keys()),
        "extra": len(newer.keys() - kept.keys()),
        "changed": sum(newer[key] != kept[key] for key in kept.keys() & newer.keys()),
    }
    lost = (await world.ledger.head()).position
    await restorable.restore()

    [finding] = (await restorable.halted()).findings

    assert finding.where == f"collection {name} of store {STORE}"
    assert position < finding.position <= lost
    assert f"and the ledger ends at {position}" in finding.says
    with pytest.raises(Halted):
        await world.write(generation, document_points(["3"]))
    assert await world.digest(name) != digest

    recovery = await restorable.recover()

    assert recovery.complete
    assert recovery.timeline == 2
    await restorable.assert_right(name, digest)
    standing = await world.ledger.standing()
    assert standing.timeline == 2
    witness = await world.store.read_witness(name)
    assert witness is not None
    assert (witness.timeline, witness.generation, witness.unfinished) == (2, str(generation), False)
    started, *_, ended = await world.events("timeline.")
    assert vars(started.event)["position"] == position
    assert vars(started.event)["found"][0]["position"] == finding.position
    assert started.context == MARA
    assert vars(ended.event)["statistics"]["put_right"] == 1
    [repaired] = await world.events("application.store-recovered")
    counts = {field: vars(repaired.event)[field] for field in ("missing", "extra", "changed")}
    assert counts == difference
    assert all(counts.values())
    await restorable.go_on(generation)
    assert (await world.verify(name)).equal


async def hashes(world: World, name: str) -> dict[bytes, bytes]:
    """The hash of every point of a collection."""
    points = await world.points(name)
    return dict(zip(points.keys, points.hashes(), strict=True))


async def test_a_lane_notices_a_store_that_became_newer_under_it(restorable: Restorable) -> None:
    world = restorable.world
    generation = await restorable.written()
    await restorable.back_up()
    await restorable.go_on(generation)
    await restorable.restore()
    await world.write(generation, document_points(["3"], first=900))
    before_it = await world.digest(world.named("direct"))

    async def halt() -> Halt | None:
        return (await world.ledger.standing()).halt

    async with world.applier():
        found = await eventually(halt)

    assert found is not None
    assert [finding.where for finding in found.findings] == [
        f"collection {world.named('direct')} of store {STORE}"
    ]
    assert await world.digest(world.named("direct")) == before_it


CRASHES: dict[str, tuple[str, str]] = {
    "halt": ("tools.ledger", "halt"),
    "start": ("timelines", "start"),
    "reset": ("cursors", "reset"),
    "acquire": ("tools.applications", "acquire"),
    "create": ("store", "create"),
    "upsert": ("store", "upsert"),
    "delete": ("store", "delete"),
    "witness": ("store", "write_witness"),
    "recovered": ("tools.applications", "recovered"),
    "alias": ("store", "point_alias"),
    "finish": ("timelines", "finish"),
}


def crashing(ports: Ports, place: str, method: str, when: Callable[..., Any], nth: int) -> Ports:
    """Ports with which the process ends at the n-th call of a method."""

    def wrapped(port: Any) -> Any:
        return Wrapped(port, **{method: when(getattr(port, method), Crash(), nth=nth)})

    tools = ports.tools
    if place == "store":
        one = wrapped(tools.stores.store(STORE))
        stores = Wrapped(tools.stores, store=lambda _: one)
        return replace(ports, tools=replace(tools, stores=stores))
    if place.startswith("tools."):
        field = place.removeprefix("tools.")
        return replace(ports, tools=replace(tools, **{field: wrapped(getattr(tools, field))}))
    return replace(ports, **{place: wrapped(getattr(ports, place))})


@pytest.mark.parametrize(
    ("place", "method", "when"),
    [
        *((*CRASHES[name], after) for name in CRASHES),
        *((*CRASHES[name], before) for name in ("create", "upsert", "recovered", "finish")),
    ],
)
async def test_a_recovery_that_was_killed_is_run_again_and_ends_the_same(
    restorable: Restorable, place: str, method: str, when: Callable[..., Any]
) -> None:
    world = restorable.world
    generation, gone = await restorable.written(), await restorable.written("gone", 23)
    await named(world, gone, world.named("alias"))
    await restorable.applied(gone)
    digests = {name: await world.digest(name) for name in await world.collections()}
    aliases = await world.aliases()
    assert len(aliases) == 1
    await restorable.back_up()
    await restorable.go_on(generation)
    await world.store.drop(world.named("gone"))
    await restorable.restore()

    with pytest.raises((Crash, BaseExceptionGroup)):
        async with restorable.ports() as ports:
            await recover.recover(
                crashing(ports, place, method, when, 1), "killed", MARA, lambda _: None
            )
    recovery = await restorable.recover()

    assert recovery.complete
    assert {name: await world.digest(name) for name in await world.collections()} == digests
    assert await world.aliases() == aliases
    assert (await world.ledger.standing()).timeline == 2
    assert (await world.ledger.standing()).halt is None
    for name in digests:
        assert (await world.verify(name)).equal
    timeline = await world.ledger.load(Timeline, Timeline.create_id(2))
    assert timeline is not None
    assert timeline.recovered
    assert await world.ledger.load(Timeline, Timeline.create_id(3)) is None


async def named(world: World, generation: UUID, alias: str) -> None:
    """Record that an alias serves a generation."""
    point = partial(Generation.point_alias, alias=alias, previous=None)
    await update(world.ledger, Generation, generation, f"alias {alias}", MARA, point)


async def test_a_collection_that_is_gone_is_made_again_without_a_new_timeline(
    restorable: Restorable,
) -> None:
    world = restorable.world
    await world.fill()
    await world.migrate()
    picture = await world.picture()
    for name in await world.collections():
        await world.store.drop(name)
    assert await world.aliases() == {}

    recovery = await restorable.recover()

    assert recovery.complete
    assert recovery.timeline is None
    assert await world.picture() == picture
    assert (await world.ledger.standing()).timeline == 1
    assert (await world.ledger.standing()).halt is None


@dataclass
class Snapshot:
    """A collection of a store as it was.

    Attributes:
        points: that it had.
        witness: what it said of the ledger.
    """

    points: PointBatch
    witness: Witness

    @classmethod
    async def of(cls, world: World, name: str) -> "Snapshot":
        witness = await world.store.read_witness(name)
        assert witness is not None
        return cls(await world.points(name), witness)

    async def restore(self, world: World, name: str) -> None:
        """Put the collection back to what it was."""
        await world.store.drop(name)
        await world.store.create(name, DOCS, witness=self.witness)
        await world.store.upsert(name, self.points)


async def test_a_store_that_came_back_older_is_put_right(
    restorable: Restorable, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, name = restorable.world, restorable.world.named("direct")
    generation = await restorable.written()
    snapshot, older = await Snapshot.of(world, name), await hashes(world, name)
    await restorable.go_on(generation)
    digest, newer = await world.digest(name), await hashes(world, name)
    async with restorable.ports() as ports:
        assert (await ports.look_around()).nothing_to_do
    await snapshot.restore(world, name)
    async with restorable.ports() as ports:  # an applier may be about to say more
        assert (await ports.look_around()).nothing_to_do
    monkeypatch.setattr(look_around, "WITNESS_LATE", timedelta(0))

    recovery = await restorable.recover()

    [finding] = recovery.situation.findings
    status = await world.status(generation)
    assert finding.says.endswith(f"has changes up to 2, and {status.applied} were applied to it")
    assert (recovery.complete, recovery.timeline) == (True, None)
    [outcome] = recovery.outcomes
    assert outcome.recovered is not None
    assert outcome.recovered.missing == len(newer.keys() - older.keys()) > 0
    assert outcome.recovered.extra == len(older.keys() - newer.keys()) > 0
    await restorable.assert_right(name, digest)


@pytest.mark.parametrize("applied_before", [True, False], ids=["working", "idle"])
async def test_an_older_store_is_found_although_appliers_went_on(
    restorable: Restorable, monkeypatch: pytest.MonkeyPatch, *, applied_before: bool
) -> None:
    world, name = restorable.world, restorable.world.named("direct")
    generation = await restorable.written()
    snapshot = await Snapshot.of(world, name)
    await restorable.go_on(generation)
    monkeypatch.setattr(witnesses, "WITNESS_SECONDS", 0.05)
    async with world.applier():
        if applied_before:
            await world.write(generation, document_points(["2"] * 3, seed=6))
            await eventually(partial(says_everything, world, name, generation))
        await snapshot.restore(world, name)
        await world.write(generation, document_points(["3"] * 5, seed=7))
        await world.applied(generation)
    assert not (await world.verify(name)).equal
    monkeypatch.setattr(look_around, "WITNESS_LATE", timedelta(0))

    recovery = await restorable.recover()

    [finding] = recovery.situation.findings
    assert "has changes up to 2" in finding.says
    assert (recovery.complete, recovery.timeline) == (True, None)
    assert (await world.verify(name)).equal
    await restorable.go_on(generation)
    assert await says_everything(world, name, generation)


async def says_everything(world: World, name: str, generation: UUID) -> bool:
    """Whether a collection says that it has all that was recorded."""
    witness = await world.store.read_witness(name)
    return witness is not None and witness.version == (await world.status(generation)).recorded


async def test_a_store_came_back_older_with_what_was_dropped_since(
    restorable: Restorable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adopted points are compared, dropped collections named: nobody's points are deleted."""
    world, docs = restorable.world, restorable.world.named("docs")
    await world.share(docs, DOCS, document_points(["1"] * 9))
    await adopt(world, "adopt", docs)
    gone, name = await restorable.written("gone"), world.named("gone")
    snapshots = {one: await Snapshot.of(world, one) for one in (docs, name)}
    await world.write((await world.looked_after(docs)).generation, document_points(["2"] * 3))
    await restorable.applied((await world.looked_after(docs)).generation)
    await update(world.ledger, Generation, gone, "drop", MARA, Generation.drop)
    await restorable.applied(gone)
    for one, snapshot in snapshots.items():
        if one in await world.collections():
            await snapshot.restore(world, one)
        else:
            await world.store.create(one, DOCS, witness=snapshot.witness)
    monkeypatch.setattr(look_around, "WITNESS_LATE", timedelta(0))

    recovery = await restorable.recover()

    returned = f"collection {name} of store {STORE}, which was dropped or released"
    assert recovery.situation.unknown == (returned,)
    [outcome] = recovery.outcomes
    assert (outcome.status.physical, outcome.equal) == (docs, False)
    assert recovery.complete
    async with restorable.ports() as ports:
        assert (await ports.look_around()).nothing_to_do


async def adopt(world: World, name: str, *collections: str) -> None:
    """Let the ledger know every point of these collections."""
    spec = {
        "version": 1,
        "name": name,
        "recipe": "adopt-collections",
        "reason": "to know them",
        "store": STORE,
        "collections": list(collections),
    }
    done = await world.run((await plan_migration(world.tools, spec, MARA)).migration)
    assert done.state is State.COMPLETED, done.error


async def test_points_of_others_are_left_and_reported(restorable: Restorable) -> None:
    world = restorable.world
    await world.share(world.docs, DOCS, document_points(["1"] * 30))
    await adopt(world, "adopt", world.docs)
    await restorable.back_up()
    await world.store.upsert(world.docs, document_points(["2"] * 5, first=500, seed=2))
    await adopt(world, "again", world.docs)
    await world.store.delete(world.docs, document_points(["1"] * 3).keys)
    points = await world.digest(world.docs)
    await restorable.restore()
    await restorable.halted()

    recovery = await restorable.recover()

    assert await world.digest(world.docs) == points
    [outcome] = recovery.outcomes
    assert outcome.recovered is not None
    assert (outcome.recovered.missing, outcome.recovered.extra) == (3, 5)
    assert outcome.recovered.left == 8
    assert recovery.complete
    assert (await world.ledger.standing()).halt is None


async def test_an_adopted_collection_that_is_gone_is_made_again_and_later_ones_are_named(
    restorable: Restorable,
) -> None:
    world = restorable.world
    await world.fill()
    digest = await world.digest(world.docs)
    await adopt(world, "adopt", world.docs, world.code)
    await restorable.back_up()
    await world.migrate(after="drop")
    assert world.docs not in await world.collections()
    made = await world.aliases()
    digests = {name: await world.digest(name) for name in made.values()}
    await restorable.restore()

    recovery = await restorable.recover()

    assert recovery.complete
    assert await world.digest(world.docs) == digest
    assert {name: await world.digest(name) for name in made.values()} == digests
    assert await world.aliases() == made
    unknown = recovery.situation.unknown
    for alias, name in made.items():
        assert f"collection {name} of store {STORE}" in unknown
        assert f"alias {alias} of store {STORE}, which points to {name}" in unknown


async def test_extra_points_can_be_kept(restorable: Restorable) -> None:
    world = restorable.world
    generation = await restorable.written()
    await restorable.back_up()
    await restorable.go_on(generation)
    await restorable.restore()

    recovery = await restorable.recover(keep_extra=True)

    [outcome] = recovery.outcomes
    assert outcome.verification is not None
    assert (outcome.verification.missing, outcome.verification.changed) == (0, 0)
    assert outcome.verification.extra > 0
    assert recovery.complete
    assert (await world.ledger.standing()).halt is None


async def test_a_collection_whose_bodies_are_gone_halts_until_they_are_back(
    restorable: Restorable,
) -> None:
    world = restorable.world
    generation = await world.generation()
    first = await world.write(generation, document_points(["1"] * 12))
    lost = await world.write(generation, document_points(["1"] * 9, first=100, seed=2))
    await world.write(generation, document_points(["1"] * 6, first=200, seed=3))
    other = await restorable.written("other")
    await restorable.applied(generation)
    name = world.named("direct")
    digest = await world.digest(name)
    await world.store.drop(name)
    content = await world.tools.objects.get(lost)
    await world.sql("DELETE FROM migration_ledger.objects WHERE address = $1", bytes.fromhex(lost))

    recovery = await restorable.recover()

    assert not recovery.complete
    [outcome] = [one for one in recovery.outcomes if one.recovered is not None]
    assert outcome.recovered is not None
    assert outcome.recovered.lacking == 9
    assert lost in outcome.recovered.cause
    status = await world.status(generation)
    assert (status.applied, status.halted_at) == (2, 3)
    assert (await world.verify(name)).equal  # as far as it is applied
    found = await compare(world.tools, status, status.recorded)
    assert (found.missing, found.extra, found.changed) == (9, 0, 0)
    application = await world.ledger.load(Application, Application.create_id(str(generation)))
    assert application is not None
    assert application.category == "ObjectMissing"
    assert (await world.status(other)).halted_at is None
    assert (await world.ledger.standing()).halt is None

    assert await world.tools.objects.put(content) == lost
    assert (await restorable.recover()).complete
    await restorable.assert_right(name, digest)
    assert (await world.status(generation)).halted_at is None
    assert first != lost


async def test_a_pending_collection_of_the_history_that_is_over_is_put_right(
    restorable: Restorable,
) -> None:
    """The backup has a generation that was not created yet; the store has it filled."""
    world = restorable.world
    generation = await world.generation()
    await restorable.back_up()
    await restorable.go_on(generation)
    await restorable.restore()
    await restorable.halted()

    assert (await restorable.recover()).complete

    name = world.named("direct")
    assert len(await world.points(name)) == 0
    await world.write(generation, document_points(["1"] * 3))
    await restorable.applied(generation)
    assert (await world.verify(name)).equal


async def test_a_collection_of_somebody_else_is_not_touched(restorable: Restorable) -> None:
    """Its name is that of a generation whose first change was given up."""
    world = restorable.world
    points = document_points(["1"] * 10)
    await world.share(world.named("direct"), DOCS, points)
    generation = await world.generation()
    async with world.applier():
        await world.applied(generation)
    await world.tools.applications.skip(generation, MARA)
    other = await restorable.written("other")
    await restorable.back_up()
    await restorable.go_on(other)
    await restorable.restore()
    digest = await world.digest(world.named("direct"))

    assert (await restorable.recover()).complete

    assert await world.digest(world.named("direct")) == digest


async def test_topics_are_published_again_on_the_new_timeline(restorable: Restorable) -> None:
    world = restorable.world
    generation = await restorable.written()
    await published(restorable)
    await restorable.back_up()
    await restorable.go_on(generation)
    await published(restorable)
    await restorable.restore()

    recovery = await restorable.recover()
    await published(restorable)

    wheres = [finding.where for finding in recovery.situation.findings]
    assert any(where.startswith("topic ledger.events[") for where in wheres)
    assert any(where.startswith("collection ") for where in wheres)
    found = await messages(restorable.kafka, EVENTS)
    headers = [dict(message.headers) for message in found]
    head = (await world.ledger.head()).position
    again = sorted(int(h["ce_position"]) for h in headers if h["ce_timeline"] == b"2")
    assert again == list(range(1, head + 1))
    assert (await world.ledger.standing()).halt is None


async def published(restorable: Restorable) -> None:
    """Run a relay until everything is published."""
    world = restorable.world
    async with (
        open_database(world.url) as database,
        PostgresLedger(database) as ledger,
        Publisher(restorable.kafka) as publisher,
        asyncio.TaskGroup() as group,
    ):
        cursors, stop = PostgresCursors(database), asyncio.Event()
        leaders = PostgresLeaders(database)
        group.create_task(relay(ledger, cursors, leaders, publisher, "relay", stop))
        head = await ledger.head()

        async def done() -> bool:
            return (await cursors.get(CURSOR)).position >= head.position

        await eventually(done)
        stop.set()


async def test_read_models_of_another_history_are_built_anew(restorable: Restorable) -> None:
    world = restorable.world
    await restorable.written()
    build = await world.views.publish(await world.views.open("collections", 1))
    await world.views.store(build, {"a": {"is": "old"}}, Cursor(1000, b"7" * 32))

    recovery = await restorable.recover()

    assert recovery.timeline == 2
    assert [f.position for f in recovery.situation.findings] == [1000]
    assert await world.views.get("collections", "a") == {"is": "old"}
    async with world.workers(projector=True):

        async def built() -> bool:
            return await world.views.get("collections", "a") is None

        await eventually(built)


async def test_there_is_nothing_to_recover_where_nothing_happened(
    restorable: Restorable,
) -> None:
    generation = await restorable.written()
    await restorable.world.store.upsert(
        restorable.world.named("direct"), document_points(["9"] * 4, first=700)
    )
    head = await restorable.world.ledger.head()
    recovery = await restorable.recover()
    assert recovery.situation.nothing_to_do
    assert await restorable.world.ledger.head() == head
    assert (await restorable.world.status(generation)).halted_at is None


async def replaced(restorable: Restorable) -> None:
    """The name of a collection becomes an alias of its copy."""
    world = restorable.world
    spec = {
        "version": 1,
        "name": "replaced",
        "recipe": "new-generation",
        "reason": MARA.reason,
        "from": {"store": STORE, "collection": world.named("direct")},
        "to": {"replace": True},
    }
    done = await world.run((await plan_migration(world.tools, spec, MARA)).migration)
    assert done.state is State.COMPLETED, done.error


async def test_a_collection_that_became_an_alias_after_the_backup_comes_back(
    restorable: Restorable,
) -> None:
    world, name = restorable.world, restorable.world.named("direct")
    await restorable.written()
    digest = await world.digest(name)
    await restorable.back_up()
    await replaced(restorable)
    assert await world.aliases() == {name: f"{name}__g1"}
    await restorable.restore()
    await restorable.halted()

    recovery = await restorable.recover()

    assert recovery.complete
    await restorable.assert_right(name, digest)
    assert await world.aliases() == {}


async def test_an_alias_whose_name_somebody_has_taken_is_named_and_work_goes_on(
    restorable: Restorable,
) -> None:
    world, name = restorable.world, restorable.world.named("direct")
    await restorable.written()
    digest = await world.digest(name)
    await replaced(restorable)
    await world.store.remove_alias(name)
    await world.store.create(name, DOCS)

    refused = await restorable.recover()

    assert not refused.complete
    [problem] = refused.refused
    assert f"alias {name} of store {STORE} cannot be pointed to {name}__g1" in problem
    assert (await world.ledger.standing()).halt is None
    await world.store.drop(name)
    assert (await restorable.recover()).complete
    assert await world.aliases() == {name: f"{name}__g1"}
    await restorable.assert_right(f"{name}__g1", digest)
