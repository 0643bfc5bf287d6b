"""The disk under the folder of objects is full: work waits, says why, and goes on by itself."""

import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from domain.model.migration import State
from domain.model.points import PointBatch, encode_payload
from tests.disks import SmallDisk, small_disk
from tests.integration.builders import DOCS, document_points
from tests.integration.worlds import World, eventually

POINTS = 300


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk where the world will have its objects."""
    with small_disk(tmp_path / "objects", 20) as disk:
        yield disk


@pytest.fixture
async def full(disk: SmallDisk, world: World) -> SmallDisk:
    """The disk, full; and a world whose bodies are files and not rows."""
    await world.add_source(1, world.named("AI Knowledge"), ["documents"])
    await world.share(world.docs, DOCS, large_points())
    disk.fill(leave=16_384)
    return disk


def large_points() -> PointBatch:
    """Points whose bodies are files; what does not compress makes them large."""
    points, random = document_points(["1"] * POINTS), Random(1)
    for row in range(len(points)):
        text = random.randbytes(2000).hex()
        points.payloads[row] = encode_payload({"source_id": "1", "text": text, "n": row})
    return points


async def test_a_flow_waits_and_goes_on(
    world: World, full: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "migration_ledger.flow")
    before = await world.picture()
    spec = {"documents": world.docs}
    migration = await world.plan(**{"from": {**world.spec()["from"], "collections": spec}})
    await world.start(migration)
    async with world.workers():
        await eventually(lambda: complained(caplog))
        reason = vars(caplog.records[-1])["error"]
        assert full.folder.as_uri() in reason
        assert "make room there" in reason
        assert (await world.migration(migration.id)).state is State.RUNNING
        assert objects(full) == []

        full.make_room()
        done = await world.settled(migration.id)
    assert (done.state, done.failures) == (State.COMPLETED, 0)
    assert objects(full)

    rolled_back = await world.roll_back(done)
    assert rolled_back.state is State.ROLLED_BACK
    assert await world.picture() == before


async def complained(caplog: pytest.LogCaptureFixture) -> bool:
    return len([one for one in caplog.records if one.getMessage() == "range_failed"]) > 3


def objects(disk: SmallDisk) -> list[Path]:
    """Every file of the storage, temporary ones too."""
    return [path for path in disk.folder.rglob("*") if path.is_file() and path.name != "ballast"]
