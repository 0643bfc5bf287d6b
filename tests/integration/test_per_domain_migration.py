"""The main job from beginning to end on real servers: rows S0.1 to S0.8 of the requirements."""

import asyncio
from typing import Any, cast

import pytest

from domain.model.errors import PlanStale, Unavailable
from domain.model.migration import Migration, State
from domain.model.points import PointBatch, decode_payload, decode_sparse
from domain.model.schema import CollectionSchema
from domain.ports import Hit
from domain.use_cases import work_flows
from domain.use_cases.flows import reading
from domain.use_cases.no_longer_true import no_longer_true
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.search_collections import search_collections
from domain.use_cases.steer_migration import (
    cancel_migration,
    roll_back_migration,
)
from tests.integration.builders import DOCS, document_points
from tests.integration.faults import Wrapped, before
from tests.integration.worlds import MARA, World, eventually

ALIAS = {"store": "prod"}
PHYSICAL = {"store": "prod", "naming": "physical"}
WAYS = [
    pytest.param({"to": to, "after": after}, id=f"{to.get('naming', 'alias')}-{after}")
    for to in (ALIAS, PHYSICAL)
    for after in ("keep", "drop")
]


def of_source(points: PointBatch, source: str) -> PointBatch:
    """The points of a source, whether it is written as text or as a number."""
    rows = [
        row
        for row, payload in enumerate(points.payloads)
        if str(decode_payload(payload)["source_id"]) == source
    ]
    return points.take(rows)


async def names(world: World) -> dict[tuple[str, str], str]:
    """The stored names of all sources."""
    rows = await world.table.rows()
    return {(row.id, kind): name for row in rows for kind, name in (row.names or {}).items()}


@pytest.mark.parametrize("way", WAYS)
async def test_s0_6_points_move_and_s0_8_rollback_brings_everything_back(
    world: World, way: dict[str, Any]
) -> None:
    await world.fill()
    picture = await world.picture()
    docs, code = await world.points(world.docs), await world.points(world.code)

    done = await world.migrate(**way)

    for (source, kind), name in world.names.items():
        expected = of_source(docs if kind == "documents" else code, source)
        found = await world.points(name)
        assert found.keys == expected.keys
        assert found.hashes() == expected.hashes()
    physical = set((await world.aliases()).values()) or set(world.names.values())
    for name in physical:
        assert (await world.verify(name)).equal
    there = await world.collections()
    assert there - physical == (set() if way["after"] == "drop" else {world.docs, world.code})
    assert done.statistics["points_moved"] == 420

    back = await world.roll_back(done)

    assert back.state is State.ROLLED_BACK
    assert await world.picture() == picture


async def test_s0_1_sources_are_read_and_s0_2_names_are_used_byte_for_byte(world: World) -> None:
    await world.fill()
    await world.add_source(4, world.named("Empty"), [])
    await world.migrate()
    assert await names(world) == world.names
    assert await world.aliases() == {name: f"{name}__g1" for name in world.names.values()}


async def test_s0_3_collections_have_their_dimension_and_index(world: World) -> None:
    await world.fill()
    await world.migrate()
    for (_, kind), name in world.names.items():
        description = await world.store.describe(f"{name}__g1")
        shared = await world.store.describe(world.docs if kind == "documents" else world.code)
        assert description is not None
        assert shared is not None
        assert description.schema.vectors == shared.schema.vectors
        assert description.schema.indexes["source_id"]["type"] == "keyword"


async def test_s0_3_a_type_without_shared_collection_gets_its_dimension(world: World) -> None:
    await world.fill()
    await world.add_source(4, world.named("Films"), ["media"])
    await world.migrate(to=ALIAS | {"dimensions": {"media": 512}})
    description = await world.store.describe(world.named("Films_media__g1"))
    assert description is not None
    assert description.points == 0
    assert description.schema.vectors[""].shape == "dense 512 cosine"
    assert description.schema.indexes["source_id"]["type"] == "keyword"


async def test_s0_4_applying_again_does_nothing(world: World) -> None:
    await world.fill()
    done = await world.migrate()
    picture, head = await world.picture(), await world.ledger.head()

    again = await plan_migration(world.tools, world.spec(), MARA)

    assert again.migration.id == done.id
    assert again.migration.state is State.COMPLETED
    assert await no_longer_true(world.tools, again.migration) == []
    assert await world.ledger.head() == head
    assert await world.picture() == picture
    name = world.names["1", "documents"]
    await world.store.remove_alias(name)
    assert await no_longer_true(world.tools, again.migration) == [
        f"{name!r} points to 'nothing', not to '{name}__g1'"
    ]


async def test_s0_4_a_dry_run_records_and_changes_nothing(world: World) -> None:
    await world.fill()
    picture = await world.picture()
    planned = await plan_migration(world.tools, world.spec(), MARA, record=False)
    assert not planned.recorded
    assert planned.plan.estimates == {
        "sources": 3,
        "skipped_sources": [],
        "collections_to_create": 5,
        "collections_existing": 0,
        "rows_to_change": 3,
        "points": {world.docs: 300, world.code: 120},
    }
    assert (await world.ledger.head()).position == 0
    assert await world.picture() == picture
    assert (await world.plan()).plan_hash == planned.plan.hash


async def test_s0_4_statistics_count_what_was_done(world: World) -> None:
    await world.fill()
    await world.store.create(world.names["2", "documents"], DOCS)
    done = await world.migrate(to=PHYSICAL)
    assert done.statistics == {
        "sources_processed": 3,
        "sources_skipped": 0,
        "collections_created": 4,
        "collections_existing": 1,
        "collections_failed": 0,
        "points_moved": 420,
        "points_unplaced": 0,
        "rows_changed": 3,
        "errors": 0,
    }


@pytest.mark.parametrize("to", [ALIAS, PHYSICAL], ids=["alias", "physical"])
async def test_s0_7_search_in_one_source_and_over_several(world: World, to: dict[str, str]) -> None:
    await world.fill()
    docs, code = await world.points(world.docs), await world.points(world.code)
    await world.migrate(to=to)
    question = [0.3, -0.1, 0.5, 0.2, -0.4, 0.1, 0.6, -0.2]
    one, other = world.names["1", "documents"], world.names["2", "documents"]
    everywhere = await world.store.search(world.docs, question, limit=300)

    def hits_of(sources: set[str]) -> list[tuple[bytes, float]]:
        found = [(hit.key, hit.score) for hit in everywhere if source_of(hit) in sources]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:10]

    single = await search_collections(world.store, [one], question)
    merged = await search_collections(world.store, [one, other], question)

    assert {source_of(hit) for hit in single} == {"1"}
    assert {source_of(hit) for hit in merged} == {"1", "2"}
    assert [hit.key for hit in single] == [key for key, _ in hits_of({"1"})]
    assert [hit.key for hit in merged] == [key for key, _ in hits_of({"1", "2"})]
    assert [hit.score for hit in merged] == pytest.approx([s for _, s in hits_of({"1", "2"})])
    limited = await search_collections(world.store, [one], question, match={"source_id": "2"})
    assert limited == []
    named = await search_collections(
        world.store, [world.names["3", "code"]], [1.0] * 6, using="text", limit=5
    )
    assert {source_of(hit) for hit in named} == {"3"}
    assert len(docs) == 300
    assert decode_sparse(cast("bytes", code.vectors["words"][1]))[0].size == 4


def source_of(hit: Hit) -> str:
    """The source of a result."""
    return str(decode_payload(hit.payload)["source_id"])


async def test_s0_8_rollback_drops_only_what_the_migration_created(world: World) -> None:
    await world.fill()
    existing = world.names["2", "documents"]
    await world.store.create(existing, DOCS)
    picture = await world.picture()

    done = await world.migrate(to=PHYSICAL, after="drop")

    assert await world.store.count(existing) == 100
    await world.roll_back(done)
    assert await world.picture() == picture
    assert await world.store.count(existing) == 0


async def test_s0_8_the_same_spec_after_a_rollback_is_another_attempt(world: World) -> None:
    await world.fill()
    picture = await world.picture()
    first = await world.migrate(after="drop")
    await world.roll_back(first)
    second = await world.migrate(after="drop")
    assert second.id != first.id
    assert second.attempt == 2
    assert set((await world.aliases()).values()) == {f"{n}__g2" for n in world.names.values()}
    for name in world.names.values():
        assert await world.store.count(name)
    await world.roll_back(second)
    assert await world.picture() == picture


async def test_s0_8_a_row_changed_after_the_migration_keeps_its_value(world: World) -> None:
    await world.fill()
    done = await world.migrate()
    await world.sql(
        "UPDATE {schema}.sources SET collection_names = $1 WHERE id = 2", '{"documents": "mine"}'
    )
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK
    assert back.compensated["restructure"] == {"rows": ["1", "3"], "kept": ["2"]}
    rows = {row.id: row.raw_names for row in await world.table.rows()}
    assert rows["1"] is None
    assert rows["2"] == '{"documents": "mine"}'


async def test_a_row_changed_after_the_plan_makes_it_stale(world: World) -> None:
    await world.fill()
    planned = await world.plan()
    picture, head = await world.picture(), await world.ledger.head()
    await world.sql("UPDATE {schema}.sources SET title = $1 WHERE id = 2", world.named("New"))
    picture["rows"] = await world.table.digest()
    with pytest.raises(PlanStale) as stale:
        await world.start(planned)
    assert stale.value.drift == (
        f'source 2 title was "{world.named("Réseau & Internet")}" and is "{world.named("New")}"',
    )
    assert await world.ledger.head() == head
    assert await world.picture() == picture
    again = await world.plan()
    assert again.id != planned.id
    assert (await world.run(again)).state is State.COMPLETED


async def test_cancelled_in_the_middle_of_the_flow(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CHANGE_SETS_A_RANGE", 1)
    await world.fill()
    picture = await world.picture()
    planned = await world.plan(after="drop")
    await world.start(planned)

    async def under_way() -> bool:
        ranges = await world.events("flow.range-recorded")
        return any(vars(one.event)["kind"] == "route" for one in ranges)

    async with world.workers():
        await eventually(under_way)
        await cancel_migration(world.tools, planned.id, MARA)
        done = await world.settled(planned.id)

    assert done.state is State.CANCELLED
    assert "check" not in done.started
    assert await world.picture() == picture
    assert await world.tools.ranges.remaining() == 0


async def test_cancelled_while_points_are_captured(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CHANGE_SETS_A_RANGE", 1)
    await world.fill()
    picture = await world.picture()
    planned = await world.plan()
    await world.start(planned)
    async with world.workers():
        await eventually(lambda: world.events("flow.range-recorded"))
        await cancel_migration(world.tools, planned.id, MARA)
        done = await world.settled(planned.id)
    assert done.state is State.CANCELLED
    assert done.started == ["adopt"]
    assert await world.picture() == picture
    assert await world.tools.ranges.remaining() == 0


def poisoned(world: World, name: str) -> Any:
    """A store that refuses points of one collection."""

    async def upsert(physical: str, points: PointBatch) -> None:
        if physical == name:
            await world.store.upsert(physical, PointBatch(points.keys, points.payloads, {"no": []}))
        await world.store.upsert(physical, points)

    return Wrapped(world.store, upsert=upsert)


@pytest.mark.parametrize("way", WAYS)
async def test_a_failure_rolls_back_by_itself(world: World, way: dict[str, Any]) -> None:
    await world.fill()
    if way["to"] == PHYSICAL:
        await world.store.create(world.names["1", "documents"], DOCS)
    picture = await world.picture()
    planned = await world.plan(**way)
    target = world.names["1", "documents"] + ("__g1" if way["to"] == ALIAS else "")

    done = await world.run(planned, world.with_store(poisoned(world, target)))

    assert done.state is State.ROLLED_BACK, done.error
    assert "has no vector 'no'" in str(await world.events("application.change-dead-lettered"))
    failed = await world.events("migration.step-failed")
    assert target in vars(failed[0].event)["error"]
    assert await world.picture() == picture


async def test_a_failure_that_pauses_is_resumed_by_start(world: World) -> None:
    await world.fill()
    planned = await world.plan(on_failure="pause", after="drop")
    target = f"{world.names['1', 'documents']}__g1"

    paused = await world.run(planned, world.with_store(poisoned(world, target)))

    assert paused.state is State.FAILED
    assert paused.next_step is not None
    assert paused.next_step.id == "flow"
    assert target in str(paused.error)
    assert await world.aliases() == {}
    status = (await world.tools.applications.generations(physical=target))[-1]
    await world.tools.applications.retry(status.generation, MARA)
    done = await world.run(planned)
    assert done.state is State.COMPLETED
    assert done.statistics["errors"] == 1
    assert done.results["flow"]["placed"][target] == 100
    assert (await world.verify(target)).equal


async def test_a_difference_found_by_the_check_is_mended_and_resumed(world: World) -> None:
    await world.fill()
    planned = await world.plan(on_failure="pause")
    await world.start(planned)
    target = f"{world.names['2', 'documents']}__g1"
    stranger = document_points(["9"], first=10_000, seed=9)

    async def upsert(name: str, points: PointBatch) -> None:
        await world.store.upsert(name, points)
        if name == target:
            await world.store.upsert(name, stranger)

    async with world.workers(world.with_store(Wrapped(world.store, upsert=upsert))):
        paused = await world.settled(planned.id)
    assert paused.state is State.FAILED
    assert paused.error == (
        f"1 of 7 collections differ from the ledger: {target}: 1 extra (such as 10000). "
        "If something else writes to them, stop it, or let the spec say so (`from.observed`). "
        "Mend what differs and apply again, or roll back and plan again."
    )
    await world.store.delete(target, stranger.keys)
    assert (await world.run(planned)).state is State.COMPLETED


async def test_a_rollback_that_fails_goes_on_when_it_is_asked_again(world: World) -> None:
    await world.fill()
    picture = await world.picture()
    done = await world.migrate(after="drop")
    poison = world.with_store(poisoned(world, world.docs))
    await roll_back_migration(world.tools, done.id, MARA)
    async with world.workers(poison):
        failed = await world.settled(done.id)
    assert failed.state is State.FAILED
    assert world.docs in str(failed.error)
    status = (await world.tools.applications.generations(physical=world.docs))[-1]
    await world.tools.applications.retry(status.generation, MARA)
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK
    assert await world.picture() == picture


async def test_a_ledger_that_does_not_answer_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_flows, "LEASE_SECONDS", 0.5)
    await world.fill()
    planned = await world.plan()
    gone = Unavailable("the ledger is away")
    ledger = Wrapped(
        world.ledger,
        load=before(world.ledger.load, gone, nth=5, times=5),
        read=before(world.ledger.read, gone, nth=3, times=3),
    )
    ranges = Wrapped(
        world.tools.ranges,
        claim=before(world.tools.ranges.claim, gone, nth=2),
        renew=before(world.tools.ranges.renew, gone, nth=1),
        finish=before(world.tools.ranges.finish, gone, nth=1),
    )
    tools = type(world.tools)(
        ledger, world.tools.objects, world.tools.applications, ranges, world.tools.stores
    )
    done = await world.run(planned, tools)
    assert done.state is State.COMPLETED
    assert done.statistics["points_moved"] == 420


async def test_a_coordinator_that_loses_its_connection_leads_again(world: World) -> None:
    await world.fill()
    planned = await world.plan()
    await world.start(planned)
    async with world.workers():
        await eventually(lambda: world.events("flow.range-recorded"))
        await world.end_leadership("coordinator")
        done = await world.settled(planned.id)
    assert done.state is State.COMPLETED
    assert len(await world.events("migration.step-started")) == len(planned.plan.steps)
    assert len(await world.events("migration.step-completed")) == len(planned.plan.steps)


async def test_two_migrations_of_one_store_side_by_side(world: World) -> None:
    await world.fill()
    await world.add_source(4, world.named("Second"), ["talks"])
    talks = document_points(["4"] * 40, seed=4)
    await world.share(world.named("talks"), CollectionSchema(DOCS.vectors), talks)
    await world.sql("CREATE TABLE {schema}.others (LIKE {schema}.sources)")
    await world.sql("INSERT INTO {schema}.others SELECT * FROM {schema}.sources WHERE id = 4")
    await world.sql("DELETE FROM {schema}.sources WHERE id = 4")
    other = world.spec()["from"] | {
        "table": f"{world.schema}.others",
        "collections": {"talks": world.named("talks")},
    }
    first, second = await world.plan(), await world.plan(name="other", **{"from": other})
    await asyncio.gather(world.start(first), world.start(second))
    async with world.workers():
        done: list[Migration] = [await world.settled(one.id) for one in (first, second)]
    assert [one.state for one in done] == [State.COMPLETED] * 2
    assert await world.store.count(world.named("Second_talks")) == 40
