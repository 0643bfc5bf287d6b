"""The disk under the embedded node is full: it refuses writes, keeps what it has, and goes on."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from adapters.embedded.data_dir import choose_ports
from adapters.embedded.probes import answers_http2
from adapters.qdrant.endpoint import Endpoint
from adapters.qdrant.store import QdrantStore
from domain.model.errors import DiskFull
from domain.model.points import PointBatch
from tests.disks import SmallDisk, small_disk
from tests.integration.builders import DOCS, document_points
from tests.integration.worlds import eventually

MEGABYTES = 90
LARGE = "x" * 1500


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
async def store(node: Node) -> AsyncIterator[QdrantStore]:
    endpoint = Endpoint(f"http://127.0.0.1:{node.port}")
    async with QdrantStore(endpoint, random=Random(1), attempts=1) as store:
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
