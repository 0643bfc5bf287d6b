"""The list of versions says which of them can still be rebuilt, and why the others cannot."""

from typing import Any
from uuid import UUID

import pytest

from adapters.postgres import referred
from adapters.postgres.connection import SCHEMA
from domain.model.bodies import address_of
from domain.use_cases.list_versions import list_versions, with_details
from domain.use_cases.project import rebuild
from domain.use_cases.versions import tag_version
from projections import PROJECTIONS
from tests.integration.builders import DOCS, document_points
from tests.integration.worlds import MARA, STORE, World


@pytest.fixture(autouse=True)
def tiny_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bodies of a collection are looked for in many pages."""
    monkeypatch.setattr(referred, "PAGE", 2)


async def listed(world: World, name: str) -> list[dict[str, Any]]:
    for projection in PROJECTIONS:
        await rebuild(world.ledger, world.views, projection)
    return await with_details(
        world.tools, await list_versions(world.tools, world.views, STORE, name)
    )


async def lose(world: World, address: str) -> None:
    table = f"{SCHEMA}.objects"
    await world.sql(f"DELETE FROM {table} WHERE address = $1", bytes.fromhex(address))  # noqa: S608


async def with_history(world: World) -> tuple[UUID, list[str]]:
    """Five versions with a label each; ten points of the first stay until the fourth."""
    generation = await world.generation("docs")
    bodies = []
    for n, size in enumerate([40, 30, 20, 10, 40]):
        bodies.append(await world.write(generation, document_points([str(n)] * size)))
        await tag_version(world.tools, STORE, world.named("docs"), f"v{n}", None, MARA)
    return generation, bodies


async def test_all_can_be_rebuilt(world: World) -> None:
    generation, _ = await with_history(world)
    found = await listed(world, world.named("docs"))
    assert [(v["label"], v["points"], v["not_rebuildable"]) for v in found] == [
        (f"v{n}", 40, None) for n in range(5)
    ]
    for version in found:
        assert version["schema"] == DOCS.to_json()
        assert version["generation"] == str(generation)
        (recorded,) = await world.ledger.read(version["position"] - 1, 1)
        assert version["at"] == recorded.recorded_at


@pytest.mark.parametrize(
    ("lost", "lacking"),
    [
        ([0], [40, 10, 10, 10, 0]),
        ([1], [0, 30, 10, 10, 0]),
        ([3], [0, 0, 0, 10, 0]),
        ([0, 2], [40, 10, 30, 20, 0]),
        ([4], [0, 0, 0, 0, 40]),
    ],
)
async def test_bodies_that_are_missing_are_counted_in_each_version(
    world: World, lost: list[int], lacking: list[int]
) -> None:
    _, bodies = await with_history(world)
    for one in lost:
        await lose(world, bodies[one])
    found = await listed(world, world.named("docs"))
    assert [v["not_rebuildable"] for v in found] == [
        f"the bodies of {count} points are missing from the objects" if count else None
        for count in lacking
    ]


async def test_objects_are_looked_for_wherever_they_may_be(world: World) -> None:
    objects = world.tools.objects
    there = [await objects.put(content) for content in (b"small", bytes(100_000))]
    nowhere = address_of(b"neither")
    assert await objects.missing([*there, nowhere]) == {nowhere}
