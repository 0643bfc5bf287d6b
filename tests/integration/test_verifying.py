"""Verification finds every single difference between a store and the ledger, and names it."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from domain.model.errors import NotFound
from domain.model.points import PointBatch, encode_payload, id_of, key_of
from domain.model.recorded import Heads
from domain.use_cases import verify as verifying
from domain.use_cases.verify import Verification, verify
from tests.integration.builders import CODE, DOCS, code_points, document_points
from tests.integration.faults import Wrapped
from tests.integration.worlds import STORE, World, WorldStores

PAGE = 7


@pytest.fixture(autouse=True)
def tiny_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every comparison crosses many pages on both sides."""
    monkeypatch.setattr(verifying, "PAGE", PAGE)


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


async def flip(world: World, name: str, point: PointBatch, vector: str, bit: int) -> None:
    """Write a point with one bit of one vector turned over."""
    content = point.vectors[vector][0]
    assert content is not None
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    point.vectors[vector][0] = bytes(changed)
    await world.store.upsert(name, point)


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
    with pytest.raises(NotFound, match=name):
        await world.verify(name)


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

    found = await verify(
        Wrapped(world.ledger, heads=heads),
        world.tools.applications,
        WorldStores(Wrapped(world.store, scan=scan), world.url),
        STORE,
        name,
    )
    assert found.equal
    assert max(sizes) == PAGE
    assert sum(sizes) == 120
