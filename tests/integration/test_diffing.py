"""What differs between two versions: by id, with bodies, and nothing else."""

from contextlib import aclosing
from random import Random
from typing import Any

import pytest

from domain.model.generation import Generation
from domain.model.points import PointBatch, encode_payload, id_of
from domain.model.schema import CollectionSchema
from domain.use_cases import diff_versions as diffing
from domain.use_cases import merge
from domain.use_cases.diff_versions import (
    Contents,
    Shown,
    VersionDiff,
    diff_versions,
    with_contents,
)
from domain.use_cases.tools import save, update
from domain.use_cases.versions import Place, find_version
from tests.integration.builders import CODE, DOCS, code_points, document_points
from tests.integration.worlds import MARA, STORE, World


@pytest.fixture(autouse=True)
def tiny_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every difference crosses many pages."""
    for module in (merge, diffing):
        monkeypatch.setattr(module, "PAGE", 7)


async def at(world: World, version: int) -> Place:
    """The place of a version of the only generation."""
    [status] = await world.tools.applications.generations()
    [event] = await world.ledger.events(status.generation, after=version - 1, through=version)
    return await find_version(world.tools, STORE, status.physical, str(event.position))


async def diff(world: World, one: int, other: int) -> tuple[VersionDiff, dict[str, set[bytes]]]:
    found = VersionDiff()
    kinds: dict[str, set[bytes]] = {"added": set(), "removed": set(), "changed": set()}
    places = await at(world, one), await at(world, other)
    async with aclosing(diff_versions(world.tools, *places, found)) as different:
        async for kind, key in different:
            kinds[kind].add(key)
    return found, kinds


async def shown(world: World, one: int, other: int) -> dict[int | str, Shown]:
    places = await at(world, one), await at(world, other)
    different = diff_versions(world.tools, *places, VersionDiff())
    async with aclosing(with_contents(Contents(world.tools), *places, different)) as points:
        return {id_of(point.key): point async for point in points}


def hashes(points: PointBatch) -> dict[bytes, bytes]:
    return dict(zip(points.keys, points.hashes(), strict=True))


async def test_every_two_versions_of_a_history(world: World) -> None:
    generation = await world.generation()
    random = Random(5)
    now: dict[bytes, bytes] = {}
    history = [now]
    for seed in range(6):
        points = document_points(["1"] * 40, seed=seed)
        some = points.take(sorted(random.sample(range(40), 25)))
        await world.write(generation, some)
        now = now | hashes(some)
        history.append(now)
        gone = random.sample(sorted(now), 8)
        await world.delete(generation, gone)
        now = {key: value for key, value in now.items() if key not in gone}
        history.append(now)
    for one, before in enumerate(history):
        for other, after in list(enumerate(history))[:: 1 + one % 3]:
            found, kinds = await diff(world, one + 1, other + 1)
            assert kinds == {
                "added": after.keys() - before.keys(),
                "removed": before.keys() - after.keys(),
                "changed": {k for k in before.keys() & after.keys() if before[k] != after[k]},
            }
            assert {kind: len(keys) for kind, keys in kinds.items()} == {
                kind: getattr(found, kind) for kind in kinds
            }
            assert found.points == (len(before), len(after))
            assert found.equal == (found.digests[0] == found.digests[1]) == (before == after)


async def test_the_bodies_of_what_differs(world: World) -> None:
    generation = await world.generation("code", CODE)
    points = code_points(["1"] * 30)
    await world.write(generation, points)
    new = code_points(["2"] * 30, seed=8)
    payload, vector = points.take([3]), points.take([4])
    payload.payloads[0] = encode_payload({"é": [1, None]})
    vector.vectors["text"] = new.take([4]).vectors["text"]
    await world.write(generation, PointBatch.concatenate([payload, vector]))
    await world.delete(generation, [points.keys[5]])
    await world.write(generation, code_points(["9"], first=1000))

    found = await shown(world, 2, 5)

    three, four, five = (id_of(points.keys[n]) for n in (3, 4, 5))
    assert set(found) == {three, four, five, 1000}
    assert (found[three].kind, found[three].after, found[three].vectors) == (
        *("changed", {"é": [1, None]}),
        [],
    )
    assert found[three].before is not None
    assert found[four].before == found[four].after
    assert found[four].vectors == ["text"]
    assert (found[five].kind, found[five].after) == ("removed", None)
    assert (found[1000].kind, found[1000].before) == ("added", None)
    assert found[1000].to_json()["id"] == 1000


async def test_versions_of_two_generations_and_their_schemas(world: World) -> None:
    first = await world.generation()
    await world.write(first, document_points(["1"] * 9))
    schema: Any = CollectionSchema(DOCS.vectors, {"n": {"type": "integer"}})
    made = Generation(
        collection="direct",
        store=STORE,
        physical=world.named("direct2"),
        number=1,
        schema=schema.to_json(),
        origin="created",
    )
    await update(world.ledger, Generation, first, "drop", MARA, Generation.drop)
    await save(world.ledger, made, "create/2", MARA)
    await world.write(made.id, document_points(["1"] * 12))
    found = VersionDiff()
    one = await find_version(world.tools, STORE, world.named("direct"), None)
    other = await find_version(world.tools, STORE, "direct", None)
    async with aclosing(diff_versions(world.tools, one, other, found)) as different:
        assert len([kind async for kind, _ in different]) == 3
    assert (found.added, found.removed, found.changed) == (3, 0, 0)
    assert found.schema == ["the index of 'n' was added", "the index of 'source_id' was removed"]
    assert not found.equal
