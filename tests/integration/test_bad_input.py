"""What stands in the way of a migration is named, and nothing is changed."""

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from domain.model.errors import InvalidSpec, LedgerError, NotFound, Rejected
from domain.model.migration import State
from domain.model.points import (
    FLOAT32,
    PointBatch,
    encode_dense,
    encode_payload,
    id_of,
    key_of,
)
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from tests.integration.builders import CODE, DOCS, document_points
from tests.integration.faults import Wrapped
from tests.integration.worlds import World

PHYSICAL = {"store": "prod", "naming": "physical"}


async def refused(world: World, error: type[LedgerError], **changes: Any) -> str:
    """Why a plan is refused; it must not have changed anything."""
    picture = await visible(world)
    with pytest.raises(error) as caught:
        await world.plan(**changes)
    assert type(caught.value) is error
    assert (await world.ledger.head()).position == 0
    assert await visible(world) == picture
    return str(caught.value)


async def visible(world: World) -> dict[str, Any]:
    """What the application sees, as far as its table can be read."""
    try:
        return await world.picture()
    except Rejected:
        return {name: await world.digest(name) for name in await world.collections()}


async def test_column_of_names_is_missing(world: World) -> None:
    await world.fill()
    await world.sql("ALTER TABLE {schema}.sources DROP COLUMN collection_names")
    message = await refused(world, NotFound)
    assert "has no column 'collection_names'" in message
    assert f"table '{world.schema}.sources'" in message


async def test_column_of_names_is_no_json(world: World) -> None:
    await world.fill()
    await world.sql("ALTER TABLE {schema}.sources ALTER collection_names TYPE text")
    assert "collection_names of 'application.sources' is text" in await refused(world, Rejected)


async def test_table_is_missing(world: World) -> None:
    await world.fill()
    source = world.spec()["from"] | {"table": "application.nothing"}
    message = await refused(world, NotFound, **{"from": source})
    assert "table 'application.nothing' does not exist" in message


@pytest.mark.parametrize(
    ("part", "value"), [("connection", "nowhere"), ("store", "nowhere")], ids=lambda v: v
)
async def test_connection_is_not_configured(world: World, part: str, value: str) -> None:
    await world.fill()
    source, target = world.spec()["from"] | {part: value}, {"store": value}
    changes = {"from": source} | ({"to": target} if part == "store" else {})
    assert "'nowhere'" in await refused(world, NotFound, **changes)


@pytest.mark.parametrize(
    "names", [["documents"], "text", {"documents": 7}, {"documents": None}], ids=str
)
async def test_malformed_names_are_listed(world: World, names: Any) -> None:
    await world.fill()
    await world.add_source(7, world.named("Odd"), ["documents"], names)
    message = await refused(world, InvalidSpec)
    assert f"source 7 ({world.named('Odd')!r}) has malformed collection_names" in message
    assert "source 1" not in message


async def test_malformed_names_can_be_skipped(world: World) -> None:
    await world.fill()
    await world.add_source(7, world.named("Odd"), ["documents"], ["odd"])
    done = await world.migrate(skip_invalid=True)
    assert done.statistics["sources_processed"] == 3
    assert done.statistics["sources_skipped"] == 1
    assert "Sources left out because they are malformed: 7." in done.plan.notes
    assert {row.id: row.raw_names for row in await world.table.rows()}["7"] == '["odd"]'


async def test_points_of_a_skipped_source_have_no_place(world: World) -> None:
    await world.fill()
    await world.add_source(7, world.named("Odd"), ["documents"], ["odd"])
    await world.store.upsert(world.docs, document_points(["7"] * 3, first=5000, seed=5))
    picture = await world.picture()
    done = await world.run(await world.plan(skip_invalid=True))
    assert done.state is State.ROLLED_BACK
    assert "3 points have no place" in str(await world.events("migration.step-failed"))
    assert await world.picture() == picture


async def test_types_that_are_no_list_name_their_source(world: World) -> None:
    await world.fill()
    await world.sql(
        "ALTER TABLE {schema}.sources ALTER enabled_collections TYPE jsonb "
        "USING to_jsonb(enabled_collections)"
    )
    await world.sql(
        "UPDATE {schema}.sources SET enabled_collections = $1 WHERE id = 2", '"documents"'
    )
    message = await refused(world, Rejected)
    assert message == 'source 2 has enabled_collections "documents", not a list of collection types'


async def test_unknown_collection_type(world: World) -> None:
    await world.fill()
    await world.add_source(7, world.named("Films"), ["media"])
    message = await refused(world, InvalidSpec)
    assert "source 7" in message
    assert "'media'" in message
    assert "known are code, documents" in message


async def test_shared_collection_does_not_exist(world: World) -> None:
    await world.fill()
    await world.store.drop(world.code)
    message = await refused(world, InvalidSpec)
    assert message == f"shared collection {world.code!r} does not exist in store 'prod'"


@pytest.mark.parametrize("title", ["", "!!! ???", "知识", None], ids=repr)
async def test_title_without_a_letter(world: World, title: str | None) -> None:
    await world.fill()
    await world.add_source(7, title, ["documents"])
    message = await refused(world, InvalidSpec)
    assert f"source 7: title {title or ''!r} has no letter or digit" in message


async def test_two_sources_with_one_name(world: World) -> None:
    await world.fill()
    await world.add_source(7, world.named("AI, knowledge").replace("k", "K"), ["documents"])
    message = await refused(world, InvalidSpec)
    assert f"collection {world.names['1', 'documents']!r} would belong to 1" in message
    assert "and 7" in message


@pytest.mark.parametrize(
    ("vector", "difference"),
    [
        (
            VectorSpec(VectorKind.DENSE, 9, Distance.COSINE),
            "dense 9 cosine here and dense 8 cosine",
        ),
        (VectorSpec(VectorKind.DENSE, 8, Distance.DOT), "dense 8 dot here and dense 8 cosine"),
    ],
    ids=["dimension", "distance"],
)
async def test_target_exists_with_another_shape(
    world: World, vector: VectorSpec, difference: str
) -> None:
    await world.fill()
    name = world.names["1", "documents"]
    await world.store.create(name, CollectionSchema({"": vector}))
    message = await refused(world, InvalidSpec, to=PHYSICAL)
    assert f"collection {name!r} exists with another shape: the vector is {difference}" in message


async def test_target_exists_with_points(world: World) -> None:
    await world.fill()
    name = world.names["1", "documents"]
    await world.share(name, DOCS, document_points(["1"] * 4))
    message = await refused(world, InvalidSpec, to=PHYSICAL)
    assert f"collection {name!r} exists and holds 4 points" in message
    assert f"{name!r} is to be an alias, but a collection has" in await refused(world, InvalidSpec)


async def test_target_gets_points_after_the_plan(world: World) -> None:
    await world.fill()
    name = world.names["1", "documents"]
    await world.store.create(name, DOCS)
    planned = await world.plan(to=PHYSICAL)
    await world.start(planned)
    await world.store.upsert(name, document_points(["1"] * 4))
    picture = await world.picture()
    async with world.workers():
        done = await world.settled(planned.id)
    assert done.state is State.ROLLED_BACK, done.error
    failed = await world.events("migration.step-failed")
    assert f"collection {name!r} has changed since the plan was made: it holds 4 points" in str(
        vars(failed[0].event)["error"]
    )
    assert await world.picture() == picture


async def test_every_problem_is_named_at_once(world: World) -> None:
    await world.fill()
    await world.add_source(7, "", ["documents"])
    await world.add_source(8, world.named("Odd"), ["documents"], [1])
    await world.store.drop(world.code)
    with pytest.raises(InvalidSpec) as caught:
        await world.plan()
    assert len(caught.value.problems) == 3


def lost_points() -> PointBatch:
    """Points without a source, with one that nobody knows, and with one that is no text."""
    points = document_points(["1", "99", "99", 2.0], first=5001, seed=5)
    points.payloads[0] = encode_payload({"n": 1})
    return points


async def test_points_without_a_source_stop_before_the_cut_over(world: World) -> None:
    await world.fill()
    await world.store.upsert(world.docs, lost_points())
    picture = await world.picture()

    done = await world.run(await world.plan(unplaced="fail"))

    assert done.state is State.ROLLED_BACK
    assert "aliases" not in done.started
    failed = await world.events("migration.step-failed")
    error = vars(failed[0].event)["error"]
    ids = [id_of(key) for key in lost_points().keys]
    assert "4 points have no place by 'source_id'" in error
    assert "2 with no source_id (such as" in error
    assert "2 with unknown source_id (such as" in error
    assert all(str(one) in error for one in ids)
    assert await world.picture() == picture


@pytest.mark.parametrize("after", ["keep", "drop"])
async def test_points_without_a_source_are_kept_where_they_are(world: World, after: str) -> None:
    await world.fill()
    await world.store.upsert(world.docs, lost_points())
    picture, shared = await world.picture(), await world.digest(world.docs)

    done = await world.migrate(unplaced="keep", after=after)

    assert done.statistics["points_moved"] == 420
    assert done.statistics["points_unplaced"] == 4
    assert done.results["flow"]["unplaced"] == {"no source_id": 2, "unknown source_id": 2}
    examples = [one for ids in done.results["flow"]["examples"].values() for one in ids]
    assert sorted(map(str, examples)) == sorted(str(id_of(key)) for key in lost_points().keys)
    assert await world.digest(world.docs) == shared
    assert (world.code in await world.collections()) is (after == "keep")
    if after == "drop":
        assert done.results["drop"]["kept"] == {world.docs: 4}
        assert list(done.results["drop"]["dropped"]) == [world.code]
    await world.roll_back(done)
    assert await world.picture() == picture


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
async def test_numbers_that_are_not_finite_are_named_and_can_be_repaired(
    world: World, value: float
) -> None:
    await world.fill()
    bad = key_of(100)
    vector = np.array([value, *[0.5] * 7], dtype=FLOAT32).tobytes()

    async def scan(name: str, **where: Any) -> AsyncIterator[PointBatch]:
        async for page in world.store.scan(name, **where):
            if name == world.docs and bad in page.keys:
                page.vectors[""][page.keys.index(bad)] = vector
            yield page

    planned = await world.plan(on_failure="pause")
    paused = await world.run(planned, world.with_store(Wrapped(world.store, scan=scan)))
    assert paused.state is State.FAILED
    assert paused.error == "point 100 has NaN or infinity in vector ''; repair or delete it"
    assert (await world.run(planned)).state is State.COMPLETED


async def test_empty_shared_collections(world: World) -> None:
    await world.add_source(1, world.named("One"), ["documents", "code"])
    await world.share(world.docs, DOCS, PointBatch([], []))
    await world.share(world.code, CODE, PointBatch([], []))
    picture = await world.picture()
    done = await world.migrate(after="drop")
    assert done.statistics["points_moved"] == 0
    assert await world.store.count(world.named("One_documents")) == 0
    assert await world.collections() == {
        world.named("One_documents__g1"),
        world.named("One_code__g1"),
    }
    await world.roll_back(done)
    assert await world.picture() == picture


async def test_no_sources_at_all(world: World) -> None:
    await world.share(world.docs, DOCS, PointBatch([], []))
    await world.share(world.code, CODE, PointBatch([], []))
    done = await world.migrate()
    assert done.statistics["collections_created"] == 0


async def test_payloads_of_several_megabytes(world: World) -> None:
    await world.add_source(1, world.named("Large"), ["documents"])
    points = document_points(["1"] * 6)
    for row in (1, 4):
        points.payloads[row] = encode_payload({"source_id": "1", "text": f"{row}é" * 1_500_000})
    await world.share(world.docs, DOCS, points)
    before = await world.digest(world.docs)
    picture = await world.picture()
    source = world.spec()["from"] | {"collections": {"documents": world.docs}}
    done = await world.migrate(after="drop", **{"from": source})
    assert await world.digest(world.named("Large_documents")) == before
    await world.roll_back(done)
    assert await world.picture() == picture


async def test_ids_of_both_kinds_and_of_every_size(world: World) -> None:
    await world.add_source(1, world.named("Ids"), ["documents"])
    points = document_points(["1"] * 6)
    ids: list[int | str] = [0, 2**63, 2**64 - 1]
    ids += [f"{'0' * 8}-0000-0000-0000-{'0' * 12}", f"{'f' * 8}-ffff-ffff-ffff-{'f' * 12}"]
    points.keys[:] = [key_of(one) for one in [*ids, 1]]
    points.vectors[""][0] = encode_dense([1, *[-0.0] * 7])
    await world.share(world.docs, DOCS, points)
    before = await world.digest(world.docs)
    source = world.spec()["from"] | {"collections": {"documents": world.docs}}
    done = await world.migrate(batch={"size": 1}, **{"from": source})
    assert await world.digest(world.named("Ids_documents")) == before
    assert done.statistics["points_moved"] == 6


async def test_specs_that_are_wrong(world: World) -> None:
    await world.fill()
    cases = {
        "unknown key 'form'": {"form": {}},
        "did you mean 'after'?": {"aftr": "drop"},
        "unplaced": {"unplaced": "ignore"},
        "looks like a credential": {"to": {"store": "prod", "password": "x"}},
        "unknown recipe 'per-domain-collection'": {"recipe": "per-domain-collection"},
    }
    for text, changes in cases.items():
        assert text in await refused(world, InvalidSpec, **changes)
