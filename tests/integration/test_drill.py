"""A drill tells what would be lost, what differs, and how long it takes; nothing in use changes."""

from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from domain.model.points import PointBatch, encode_payload
from projections import PROJECTIONS
from tests.e2e.program import Ended, run
from tests.integration import commands
from tests.integration.builders import document_points
from tests.integration.worlds import STORE, World, eventually

pytestmark = [
    pytest.mark.usefixtures("world_settings", "typed_here"),
    pytest.mark.timeout(180),
]

COMPARING = {"compare views", "compare collections"}


async def drill(folder: Path, *more: str) -> Ended:
    """A drill of the archive of a world; everything that it makes is gone afterwards."""
    scratch = folder / "scratch"
    ended = await run("drill", "archive", "--scratch", str(scratch), *more, folder=folder)
    assert not scratch.exists()
    return ended


async def applied(world: World, **collections: PointBatch) -> list[UUID]:
    """Collections with these points, which are applied and in the read models."""
    generations = []
    for name, points in collections.items():
        generations.append(await world.generation(name))
        await world.write(generations[-1], points)
    async with world.workers(projector=True):
        for generation in generations:
            await world.applied(generation)

        async def shown() -> bool:
            head = await world.ledger.head()
            return all([await world.views.cursor(one.name) == head for one in PROJECTIONS])

        await eventually(shown)
    return generations


def files(folder: Path) -> list[Path]:
    """Everything below a folder."""
    return sorted(folder.rglob("*"))


async def in_use(world: World, folder: Path) -> dict[str, Any]:
    """What a drill must not change."""
    return {
        "head": await world.ledger.head(),
        "seen by applications": await world.picture(),
        "witnesses": [await world.store.read_witness(one) for one in await world.collections()],
        "applications": await world.tools.applications.generations(),
        "read models": {
            one.name: (await world.views.cursor(one.name), await world.views.find(one.name))
            for one in PROJECTIONS
        },
        "files": files(folder),
    }


async def test_what_came_after_the_archive_would_be_lost(world: World, tmp_path: Path) -> None:
    [generation] = await applied(world, docs=document_points(["1"] * 60))
    exported = await commands.run("archive", "export", "archive", "--json")
    assert exported.status == 0, exported.err
    archived = await world.ledger.head()
    for seed in (5, 6, 7):
        await world.write(generation, document_points(["2"] * 10, first=500, seed=seed))
    head = await world.ledger.head()
    before = await in_use(world, tmp_path)

    ended = await drill(tmp_path, "--json")

    assert ended.status == 0, ended.err
    found = ended.document
    assert found["equal"] is True
    assert (
        found["head"] == f"{archived.position}:{archived.hash.hex()}" == exported.document["head"]
    )
    events = await world.ledger.read(archived.position - 1, 10)
    assert head.position - archived.position == 3
    lost = round((events[-1].recorded_at - events[0].recorded_at).total_seconds(), 3)
    assert found["rpo"] == {"events": 3, "seconds": lost}
    assert lost > 0
    phases = found["phases"]
    assert phases.keys() == {"servers", "import", "views", "collections", "topics"} | COMPARING
    recovering = sum(took for name, took in phases.items() if name not in COMPARING)
    assert found["rto"] == {"seconds": pytest.approx(recovering)}
    assert found["published"] >= archived.position  # it records that it began a timeline
    [collection] = found["collections"]
    assert (collection["collection"], collection["store"]) == (world.named("docs"), STORE)
    assert (collection["points"], collection["equal"]) == (60, True)
    assert {one["view"]: one["equal"] for one in found["views"]} == {
        one.name: True for one in PROJECTIONS
    }
    assert found["lacking"] == []
    assert await in_use(world, tmp_path) == before


async def test_what_differs_is_named(world: World, tmp_path: Path) -> None:
    """An object that the archive lacks; a collection and a read model that were tampered with."""
    sizes = {"whole": document_points(["1"] * 20), "altered": document_points(["2"] * 30)}
    await applied(world, **sizes, lacking=too_large_for_the_database())
    [large] = [file for file in files(tmp_path / "objects") if file.is_file()]
    large.unlink()
    exported = await commands.run("archive", "export", "archive")
    assert exported.status == 1
    await world.sql(
        "UPDATE migration_ledger.heads SET hash = reverse(hash) WHERE gid = "
        "(SELECT gid FROM migration_ledger.generations WHERE physical = $1)",
        world.named("altered"),
    )
    await world.sql(
        "UPDATE migration_ledger.views SET document = document || '{{\"points\": 7}}' "
        "WHERE build = (SELECT number FROM migration_ledger.view_builds "
        "WHERE name = 'collections' AND live)"
    )
    before = await in_use(world, tmp_path)

    ended = await drill(tmp_path)

    assert ended.status == 1, ended.err
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert f"{world.named('whole')} {STORE} 20 yes" in lines
    assert f"{world.named('altered')} {STORE} 30 no" in lines
    assert f"{world.named('lacking')} {STORE} 100 no" in lines
    assert "collections 3 no" in lines
    assert "migrations 0 yes" in lines
    place = lines.index("the archive lacks 1 objects:")
    assert lines[place + 1].startswith(f"{large.parent.name}{large.name}: ")
    assert "RPO: nothing of what is recorded would be lost" in lines
    assert [line for line in lines if line.startswith("RTO: ")]
    assert lines[-1] == "not equal: see above"
    assert await in_use(world, tmp_path) == before


def too_large_for_the_database() -> PointBatch:
    """Points whose body is an object in a file."""
    points, random = document_points(["1"] * 100), Random(1)
    for row in range(len(points)):
        points.payloads[row] = encode_payload({"text": random.randbytes(2000).hex()})
    return points
