"""The disk under the embedded node is full: it refuses writes, keeps what it has, and goes on."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from adapters.embedded.data_dir import choose_ports
from adapters.embedded.probes import answers_http2
from adapters.qdrant.endpoint import Endpoint
from adapters.qdrant.store import QdrantStore
from domain.model.errors import DiskFull
from domain.model.migration import Migration, State
from domain.model.points import PointBatch
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.steer_migration import cancel_migration
from domain.use_cases.versions import digest_at, tag_version
from tests.disks import SmallDisk, small_disk
from tests.integration.builders import DOCS, document_points
from tests.integration.faults import Wrapped
from tests.integration.worlds import MARA, STORE, World, eventually

MEGABYTES = 90
LARGE = "x" * 1500
POINTS = 300
CATALOGUE = 2**20
"""Bytes that have room for the catalogue of a node, and for nothing that is written."""
EXACT = {"third": 0}
"""For payloads without floats, which the engine does not all keep."""


class Node:
    """A node on a small disk."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.port = choose_ports(log.parent, ["node"])["node"]
        self.log = log
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "adapters.embedded.node"),
                *("--data-dir", str(self._folder), "--port", str(self.port)),
                stderr=log,
            )
        await eventually(lambda: answers_http2(self.port))

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", MEGABYTES) as disk:
        yield disk


@pytest.fixture
async def node(disk: SmallDisk, tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(disk.folder / "node", tmp_path / "log")
    await node.start()
    yield node
    await node.kill()


@pytest.fixture
async def shared_qdrant_url(node: Node) -> str:
    """Of the node, for a world of its own."""
    return node.url


@pytest.fixture
async def store(node: Node) -> AsyncIterator[QdrantStore]:
    async with QdrantStore(Endpoint(node.url), random=Random(1), attempts=1) as store:
        yield store


def batch(number: int) -> PointBatch:
    return document_points(
        ["1"] * 500, first=500 * number + 1, seed=number, payload={"third": 0, "text": LARGE}
    )


async def write_until_full(store: QdrantStore, name: str) -> list[PointBatch]:
    """Batches that were acknowledged."""
    written: list[PointBatch] = []
    with suppress(DiskFull):
        while True:
            points = batch(len(written))
            await store.upsert(name, points)
            written.append(points)
    return written


async def assert_has(store: QdrantStore, name: str, written: list[PointBatch]) -> None:
    """All that was acknowledged is there, bit for bit."""
    assert written
    for points in written:
        found = await store.retrieve(name, points.keys)
        there = dict(zip(found.keys, found.hashes(), strict=True))
        assert there == dict(zip(points.keys, points.hashes(), strict=True))


async def test_nothing_acknowledged_is_lost_and_reads_go_on(
    disk: SmallDisk, node: Node, store: QdrantStore
) -> None:
    await store.create("docs", DOCS)
    written = await write_until_full(store, "docs")
    disk.fill()
    with pytest.raises(DiskFull, match=r"No space left on device.* make room there"):
        await store.upsert("docs", batch(10_000))
    with pytest.raises(DiskFull):
        await store.create("more", DOCS)
    assert node.running
    await assert_has(store, "docs", written)

    disk.make_room()
    await node.kill()
    await node.start()
    await eventually(lambda: reachable(store))
    await assert_has(store, "docs", written)
    assert node.log.read_text().count("disk_full") == 1, "said once, not at every try"


async def reachable(store: QdrantStore) -> bool:
    return await store.collections() == ["docs"]


async def test_dropping_a_collection_makes_room(disk: SmallDisk, store: QdrantStore) -> None:
    await store.create("kept", DOCS)
    await store.upsert("kept", batch(0))
    await store.create("dropped", DOCS)
    await write_until_full(store, "dropped")
    disk.fill(leave=disk.free)
    with pytest.raises(DiskFull):
        await store.upsert("kept", batch(1))

    await store.drop("dropped")
    await store.upsert("kept", batch(1))
    await assert_has(store, "kept", [batch(0), batch(1)])


async def test_a_rebuild_into_a_collection_waits_for_room_or_is_given_up(
    world: World, disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "migration_ledger.applier")
    generation, source = await world.generation("docs"), world.named("docs")
    await world.write(generation, document_points(["1"] * POINTS, payload=EXACT))
    await tag_version(world.tools, STORE, source, "then", None, MARA)
    await world.write(generation, document_points(["2"] * 40, seed=3, payload=EXACT))
    async with world.applier():
        await world.applied(generation)
    await world.store.point_alias(world.named("alias"), source)
    before = await world.picture()

    given_up = await rebuilding(world, "first")
    async with filled_in_the_middle(world, disk, "first"):
        await waits(caplog)
        assert (await world.migration(given_up.id)).state is State.RUNNING
        assert 0 < await world.store.count(world.named("first__g1")) < POINTS
        assert (await world.aliases()).keys() == before["aliases"].keys()
        await cancel_migration(world.tools, given_up.id, MARA)
        assert (await world.settled(given_up.id)).state is State.CANCELLED
        assert await world.picture() == before
        disk.make_room()

    caplog.clear()
    waiting = await rebuilding(world, "second")
    async with filled_in_the_middle(world, disk, "second"):
        await waits(caplog)
        assert (await world.migration(waiting.id)).state is State.RUNNING
        disk.make_room()
        done = await world.settled(waiting.id)

    assert (done.state, done.failures) == (State.COMPLETED, 0)
    physical = world.named("second__g1")
    then = await digest_at(world.ledger, generation, 2)
    assert await world.digest(physical) == f"{then.points} points {then.hexdigest()}"
    after = await world.picture()
    assert after["aliases"].pop(world.named("second")) == physical
    del after["collections"][physical], after["schemas"][physical]
    assert after == before


async def rebuilding(world: World, into: str) -> Migration:
    """A rebuild of the version `then` that is started."""
    spec = {
        "version": 1,
        "name": into,
        "recipe": "rebuild-version",
        "reason": "an auditor asks",
        "from": {"store": STORE, "collection": world.named("docs"), "at": "then"},
        "to": {"store": STORE, "collection": world.named(into)},
        "batch": {"size": 50},
    }
    migration = (await plan_migration(world.tools, spec, MARA)).migration
    await world.start(migration)
    return migration


@asynccontextmanager
async def filled_in_the_middle(world: World, disk: SmallDisk, into: str) -> AsyncIterator[None]:
    """Workers; the disk is full when half of what comes first is in a rebuilt collection."""
    filled: list[str] = []

    async def upsert(name: str, points: PointBatch) -> None:
        if name == world.named(f"{into}__g1") and not filled:
            filled.append(name)
            await world.store.upsert(name, points.take(range(len(points) // 2)))
            disk.fill(leave=CATALOGUE)
        await world.store.upsert(name, points)

    async with world.workers(world.with_store(Wrapped(world.store, upsert=upsert))):
        yield


async def waits(caplog: pytest.LogCaptureFixture) -> None:
    """Until the applier has said more than once that there is no room."""

    async def complained() -> bool:
        return sum("make room there" in str(vars(one)) for one in caplog.records) > 1

    await eventually(complained)
