"""Read models: rebuilt ones equal those that were lost, whatever happened on the way."""

import asyncio
from copy import deepcopy
from itertools import count
from typing import Any

import pytest

from adapters.postgres.views import PostgresViews
from domain.model.errors import Halted, Unavailable
from domain.model.recorded import Cursor, Recorded
from domain.use_cases import project as projecting
from domain.use_cases.project import Projection, advance, project, rebuild
from projections import PROJECTIONS
from tests.integration.builders import document_points
from tests.integration.faults import Crash, Wrapped, after, before
from tests.integration.worlds import World, eventually

BATCH = 10


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every build takes many batches."""
    monkeypatch.setattr(projecting, "BATCH", BATCH)


async def documents(views: PostgresViews) -> dict[str, list[Any]]:
    """Everything that readers see."""
    return {p.name: await views.find(p.name, limit=10_000) for p in PROJECTIONS}


async def build(world: World, views: Any = None) -> None:
    """Run a projector until every live view has come to the end of the ledger."""
    stop, head = asyncio.Event(), (await world.ledger.head()).position

    async def caught_up() -> bool:
        cursors = [await world.views.cursor(p.name) for p in PROJECTIONS]
        return min(cursor.position for cursor in cursors) == head

    async with asyncio.TaskGroup() as group:
        projector = project(
            world.ledger, views or world.views, world.leaders, PROJECTIONS, "projector", stop
        )
        group.create_task(projector)
        await eventually(caught_up)
        stop.set()


async def some_history(world: World) -> None:
    """A migration and its rollback."""
    await world.fill()
    await world.roll_back(await world.migrate())


async def test_views_follow_a_migration_while_it_runs(world: World) -> None:
    await world.fill()
    planned = await world.plan()
    await world.start(planned)

    async def seen() -> dict[str, Any] | None:
        document = await world.views.get("migrations", str(planned.id))
        return document if document and document["state"] == "completed" else None

    async with world.workers(projector=True):
        document = await eventually(seen)

    assert document is not None
    assert document["done"] == [step.id for step in planned.plan.steps]
    assert (document["points"], document["captured"], document["routed"]) == (420, 420, 420)
    assert document["statistics"]["points_moved"] == 420
    assert document["asked_by"] == "mara"
    listed = [one for _, one in await world.views.find("collections", match={"state": "live"})]
    points = {one["physical"]: one["points"] for one in listed}
    assert points[world.docs] == 300
    assert points[f"{world.names['3', 'code']}__g1"] == 60


async def test_what_followed_live_equals_what_is_built_afterwards(world: World) -> None:
    await world.fill()
    planned = await world.plan()
    await world.start(planned)
    async with world.workers(projector=True):
        await world.settled(planned.id)
    await build(world)
    live = await documents(world.views)
    assert all(live.values())
    for projection in PROJECTIONS:
        await rebuild(world.ledger, world.views, projection)
    assert await documents(world.views) == live


async def test_read_models_are_built_together(world: World) -> None:
    await some_history(world)
    await build(world)
    live = await documents(world.views)
    read: list[int] = []

    async def reading(after: int, limit: int) -> list[Recorded]:
        read.append(after)
        return await world.ledger.read(after, limit)

    builds = await rebuild(Wrapped(world.ledger, read=reading), world.views, *PROJECTIONS)
    assert await documents(world.views) == live
    assert [one.live for one in builds] == [True] * len(PROJECTIONS)
    assert len(read) == len(set(read))


async def test_documents_stay_as_they_are_while_they_are_stored(world: World) -> None:
    """The next batch is applied meanwhile; a crash must not leave what the cursor does not say."""
    await some_history(world)
    await build(world)
    live = await documents(world.views)
    altered: list[bool] = []
    applied = asyncio.Event()

    async def store(view: Any, given: Any, cursor: Cursor) -> Any:
        as_given = deepcopy(given)
        await applied.wait()
        altered.append(given != as_given)
        return await world.views.store(view, given, cursor)

    class Watched(Grown):
        """Says when the second batch changes a document of the first."""

        def apply(self, document: Any, recorded: Any) -> Any:
            if recorded.position > BATCH and document is not None:
                applied.set()
            return PROJECTIONS[0].apply(document, recorded)

    watched = Watched(PROJECTIONS[0])
    watched.shape = PROJECTIONS[0].shape
    await rebuild(world.ledger, Wrapped(world.views, store=store), watched)
    assert not any(altered)
    assert await documents(world.views) == live


async def test_a_rebuild_stands_beside_the_live_one_until_the_swap(world: World) -> None:
    await some_history(world)
    await build(world)
    live = await documents(world.views)
    (migrations, *_) = PROJECTIONS
    beside = await world.views.rebuild(migrations.name, migrations.shape)
    while (advanced := await advance(world.ledger, world.views, migrations, beside)) != beside:
        assert await documents(world.views) == live
        beside = advanced
        if advanced.live:
            break
    assert beside.live
    assert await documents(world.views) == live


async def test_a_build_catches_up_with_a_ledger_that_never_stops_growing(world: World) -> None:
    await some_history(world)
    (migrations, *_) = PROJECTIONS
    beside = await world.views.rebuild(migrations.name, migrations.shape)
    numbers = count()

    async def read(after: int, limit: int) -> list[Recorded]:
        await world.generation(f"more_{next(numbers)}")
        return await world.ledger.read(after, limit)

    growing = Wrapped(world.ledger, read=read)
    for _ in range((await world.ledger.head()).position):
        beside = await advance(growing, world.views, migrations, beside)
    assert beside.live


class Grown:
    """A projection of another shape, which says less."""

    name = "migrations"
    shape = 99

    def __init__(self, inner: Projection) -> None:
        self.key = inner.key

    def apply(self, _document: Any, recorded: Any) -> Any:
        return {"last": recorded.position}


async def test_a_new_shape_replaces_the_old_one_when_it_has_caught_up(world: World) -> None:
    await some_history(world)
    await build(world)
    (migrations, *_) = PROJECTIONS
    before_ = await world.views.find("migrations")
    grown = Grown(migrations)
    new = await world.views.open(grown.name, grown.shape)
    new = await advance(world.ledger, world.views, grown, new)
    assert await world.views.find("migrations") == before_
    while not new.live:
        new = await advance(world.ledger, world.views, grown, new)
    after_ = await world.views.find("migrations")
    assert [key for key, _ in after_] == [key for key, _ in before_]
    assert all(set(document) == {"last"} for _, document in after_)


@pytest.mark.parametrize("fault", [before, after])
@pytest.mark.parametrize("nth", [1, 2, 5, 9])
async def test_a_crash_between_batches(world: World, nth: int, fault: Any) -> None:
    await some_history(world)
    store = fault(world.views.store, Crash(), nth=nth)
    with pytest.raises(BaseExceptionGroup) as crashed:
        await build(world, Wrapped(world.views, store=store))
    assert crashed.group_contains(Crash)
    await build(world)
    went_on = await documents(world.views)
    for projection in PROJECTIONS:
        await rebuild(world.ledger, world.views, projection)
    assert await documents(world.views) == went_on
    assert len(went_on["operations"]) == (await world.ledger.head()).position


@pytest.mark.parametrize("fault", [before, after])
async def test_a_crash_around_the_swap(world: World, fault: Any) -> None:
    await some_history(world)
    publish = fault(world.views.publish, Crash())
    with pytest.raises(BaseExceptionGroup):
        await build(world, Wrapped(world.views, publish=publish))
    await build(world)
    assert len((await documents(world.views))["operations"]) == (await world.ledger.head()).position


async def test_a_projector_that_is_restarted_goes_on(world: World) -> None:
    generation = await world.generation()
    await build(world)
    builds = [await world.views.open(p.name, p.shape) for p in PROJECTIONS]
    await world.write(generation, document_points(["1"] * 5))
    applied: list[int] = []

    async def load(view: Any, keys: Any) -> Any:
        applied.append(view.cursor.position)
        return await world.views.load(view, keys)

    await build(world, Wrapped(world.views, load=load))
    assert applied == [1] * len(PROJECTIONS)
    assert [one.number for one in builds] == [
        (await world.views.open(p.name, p.shape)).number for p in PROJECTIONS
    ]
    found = await world.views.get("collections", str(generation))
    assert found is not None
    assert found["points"] == 5


async def test_views_that_do_not_answer_are_waited_for(world: World) -> None:
    await some_history(world)
    store = before(world.views.store, Unavailable("away"), nth=2, times=2)
    await build(world, Wrapped(world.views, store=store))
    assert len((await documents(world.views))["operations"]) == (await world.ledger.head()).position


async def test_a_projector_that_loses_its_connection_leads_again(world: World) -> None:
    await world.generation()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        projector = project(
            world.ledger, world.views, world.leaders, PROJECTIONS, "projector", stop
        )
        group.create_task(projector)
        await eventually(lambda: world.views.get("operations", f"{1:019d}"))
        await world.end_leadership("projector")
        await world.generation("second")
        await eventually(lambda: world.views.get("operations", f"{2:019d}"))
        stop.set()


async def test_a_view_of_another_history_stops_the_projector(world: World) -> None:
    await world.generation()
    (migrations, *_) = PROJECTIONS
    view = await world.views.open(migrations.name, migrations.shape)
    await world.views.store(view, {}, Cursor(1, b"\x01" * 32))
    with pytest.raises(BaseExceptionGroup) as stopped:
        await build(world)
    assert stopped.group_contains(Halted, match="read model migrations has another event")
    halt = (await world.ledger.standing()).halt
    assert halt is not None
    assert [finding.position for finding in halt.findings] == [1]
