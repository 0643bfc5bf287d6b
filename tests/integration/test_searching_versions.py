"""A search at a version answers what the collection would have answered then."""

from random import Random
from typing import Any

import numpy as np
import pytest

from domain.model.errors import NotFound, Rejected
from domain.model.points import PointBatch, encode_dense, encode_payload, key_of
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.ports import Hit
from domain.use_cases import gather
from domain.use_cases.search_collections import search_collections
from domain.use_cases.search_versions import search_versions
from domain.use_cases.versions import find_version
from tests.integration.builders import CODE, code_points
from tests.integration.worlds import STORE, World

DIMENSION = 5


@pytest.fixture(autouse=True)
def tiny_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results come from many pages."""
    monkeypatch.setattr(gather, "MOST_POINTS", 7)


def points(seed: int, count: int = 40) -> PointBatch:
    numbers = np.random.default_rng(seed)
    rows = numbers.standard_normal((count, DIMENSION))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return PointBatch(
        keys=[key_of(n) for n in range(count)],
        payloads=[
            encode_payload({"source_id": ["a", "b", ["a", "c"]][n % 3], "seed": seed})
            for n in range(count)
        ],
        vectors={"": [encode_dense(row) if n % 9 else None for n, row in enumerate(rows)]},
    )


def plain(hits: list[Hit]) -> list[tuple[Any, ...]]:
    return [(hit.key, pytest.approx(hit.score, abs=1e-5), hit.payload) for hit in hits]


@pytest.mark.parametrize("distance", list(Distance))
async def test_each_version_answers_as_the_store_did(world: World, distance: Distance) -> None:
    schema = CollectionSchema({"": VectorSpec(VectorKind.DENSE, DIMENSION, distance)})
    generation = await world.generation("docs", schema)
    name, random = world.named("docs"), Random(1)
    asked = [
        ([random.uniform(-2, 2) for _ in range(DIMENSION)], match)
        for match in (None, None, {"source_id": "a"}, {"source_id": "c"}, {"source_id": "no"})
    ]
    then: list[tuple[int, list[list[Hit]]]] = []
    for seed in range(3):
        await world.write(generation, points(seed, 40 - 5 * seed))
        async with world.applier():
            status = await world.applied(generation)
        answers = [
            await search_collections(world.store, [name], vector, limit=6, match=match)
            for vector, match in asked
        ]
        then.append((status.recorded, answers))
    assert len({str(answers) for _, answers in then}) == 3
    for through, answers in then:
        [event] = await world.ledger.events(generation, after=through - 1, through=through)
        place = await find_version(world.tools, STORE, name, str(event.position))
        for (vector, match), hits in zip(asked, answers, strict=True):
            found = await search_versions(world.tools, [place], vector, limit=6, match=match)
            assert [(h.key, h.score, h.payload) for h in found] == plain(hits)


async def test_several_collections(world: World) -> None:
    places = []
    for number in range(2):
        generation = await world.generation(f"code{number}", CODE)
        await world.write(generation, code_points(["1"] * 20, seed=number))
        async with world.applier():
            await world.applied(generation)
        places.append(await find_version(world.tools, STORE, world.named(f"code{number}"), None))
    names = [world.named(f"code{n}") for n in range(2)]
    for using, spec in CODE.vectors.items():
        if spec.kind is VectorKind.SPARSE:
            continue
        vector = [float(n + 1) for n in range(spec.dimension)]
        stored = await search_collections(world.store, names, vector, using=using, limit=7)
        found = await search_versions(world.tools, places, vector, using=using, limit=7)
        assert [(h.key, h.score, h.payload) for h in found] == plain(stored)
        assert {h.collection for h in found} == set(names)


async def test_what_cannot_be_searched(world: World) -> None:
    generation = await world.generation("code", CODE)
    await world.write(generation, code_points(["1"] * 3))
    place = await find_version(world.tools, STORE, world.named("code"), None)
    for vector, using, words in (
        ([1.0], "", "has no vector ''; it has "),
        ([1.0], "words", "is sparse"),
        ([1.0], "text", "the embedder makes 1 numbers"),
    ):
        with pytest.raises(Rejected, match=words):
            await search_versions(world.tools, [place], vector, using=using)
    with pytest.raises(NotFound):
        await find_version(world.tools, STORE, world.named("code"), "0")


async def test_a_point_of_several_rows_is_as_near_as_its_nearest(world: World) -> None:
    schema = CollectionSchema({"late": VectorSpec(VectorKind.MULTI, 3, Distance.DOT)})
    generation = await world.generation("late", schema)
    numbers = np.random.default_rng(8)
    many = PointBatch(
        keys=[key_of(n) for n in range(30)],
        payloads=[b"{}"] * 30,
        vectors={
            "late": [encode_dense(numbers.standard_normal((1 + n % 4, 3))) for n in range(30)]
        },
    )
    await world.write(generation, many)
    async with world.applier():
        await world.applied(generation)
    place = await find_version(world.tools, STORE, world.named("late"), None)
    vector = np.array([1.0, -0.5, 0.25])
    nearest = {
        key: max(np.frombuffer(encoded or b"", "<f4").reshape(-1, 3) @ vector)
        for key, encoded in zip(many.keys, many.vectors["late"], strict=True)
    }
    found = await search_versions(world.tools, [place], vector.tolist(), using="late", limit=30)
    best = sorted(nearest, key=lambda key: -nearest[key])
    assert [(hit.key, hit.score) for hit in found] == [
        (key, pytest.approx(nearest[key], abs=1e-5)) for key in best
    ]
