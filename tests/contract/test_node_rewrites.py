"""A collection of the node is written anew: nothing deleted stays, and nothing else goes."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from qdrant_client import grpc as qdrant
from qdrant_client import models

from adapters.qdrant.endpoint import Endpoint
from adapters.qdrant.vacuum import vacuum
from domain.model.errors import NotFound
from tests.contract.test_embedded_node import DIMENSION, Node, alias, create, point, unit_vectors

PLANTED = "planted-text-of-a-person"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    started = Node(tmp_path / "node")
    yield started
    started.stop(signal.SIGKILL)


def fill(node: Node, count: int = 1200) -> bytes:
    """A collection with an index and an alias, and one person in it; returns their vector."""
    client = node.client()
    create(client, "docs")
    client.create_payload_index("docs", "text", models.PayloadSchemaType.KEYWORD, wait=True)
    alias(client, "served", "docs")
    vectors = unit_vectors(count)
    points = [
        models.PointStruct(
            id=number, vector=vectors[number].tolist(), payload={"text": f"text {number}"}
        )
        for number in range(count)
    ]
    points[7].payload = {"text": PLANTED}
    client.upsert("docs", points)
    client.close()
    return vectors[7].tobytes()


def found(folder: Path, *parts: bytes) -> set[bytes]:
    contents = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    return {part for part in parts if any(part in content for content in contents)}


def picture(node: Node) -> list[tuple[object, ...]]:
    client = node.client()
    records, _ = client.scroll("served", limit=10_000, with_payload=True, with_vectors=True)
    schema = client.get_collection("docs")
    client.close()
    threshold = schema.config.optimizer_config.deleted_threshold
    rows = [(one.id, repr(_in_order(one.vector)), one.payload) for one in records]
    indexed = {field: index.points for field, index in schema.payload_schema.items()}
    return [*rows, (indexed, threshold)]


def _in_order(vector: object) -> object:
    """Named vectors come in any order."""
    return sorted(vector.items()) if isinstance(vector, dict) else vector


async def rewritten(node: Node, name: str = "docs") -> None:
    await vacuum(Endpoint(f"http://127.0.0.1:{node.port}"), [name])


def delete(node: Node, number: int) -> None:
    client = node.client()
    client.delete("docs", [number], wait=True)
    client.close()


async def test_nothing_of_a_deleted_point_is_left(node: Node) -> None:
    vector, text = fill(node), PLANTED.encode()
    delete(node, 7)
    before = picture(node)
    assert found(node.data_dir, text, vector) == {text, vector}

    await rewritten(node)

    assert found(node.data_dir, text, vector) == set()
    assert picture(node) == before
    node.restart(signal.SIGKILL)
    assert picture(node) == before
    assert found(node.data_dir, text, vector) == set()
    with pytest.raises(NotFound):
        await rewritten(node, "nothing")


async def test_who_writes_and_reads_meanwhile_loses_nothing(node: Node) -> None:
    fill(node)
    stop, written = threading.Event(), list[int]()

    def write() -> None:
        number = 5000
        while not stop.is_set():
            node.points.Upsert(qdrant.UpsertPoints(collection_name="docs", points=[point(number)]))
            written.append(number)
            asked = qdrant.GetPoints(collection_name="served", ids=[qdrant.PointId(num=3)])
            assert len(node.points.Get(asked).result) == 1
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(3):
        await rewritten(node)
    stop.set()
    writer.join()
    assert written
    ids = [qdrant.PointId(num=number) for number in written]
    answer = node.points.Get(qdrant.GetPoints(collection_name="docs", ids=ids))
    assert [one.id.num for one in answer.result] == written


async def test_a_node_that_is_killed_in_the_middle_has_the_one_or_the_other(node: Node) -> None:
    fill(node)
    before = picture(node)
    update = qdrant.UpdateCollection(
        collection_name="docs", optimizers_config=qdrant.OptimizersConfigDiff(deleted_threshold=0.0)
    )
    for _ in range(4):
        call = node.collections.Update.future(update)
        folders = node.data_dir / "shards"
        while len(list(folders.iterdir())) == 1 and not call.done():
            pass
        node.restart(signal.SIGKILL)
        with pytest.raises(grpc.RpcError):
            call.result()
        assert picture(node)[:-1] == before[:-1]
        assert len(list(folders.iterdir())) == 1


async def test_every_kind_of_vector_is_the_same_bits(node: Node) -> None:
    client = node.client()
    client.create_collection(
        "docs",
        {
            "dense": models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE),
            "half": models.VectorParams(
                size=DIMENSION, distance=models.Distance.DOT, datatype=models.Datatype.FLOAT16
            ),
            "many": models.VectorParams(
                size=2,
                distance=models.Distance.DOT,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            ),
        },
        sparse_vectors_config={"words": models.SparseVectorParams()},
    )
    alias(client, "served", "docs")
    rows = np.random.default_rng(3).standard_normal((50, DIMENSION)).astype(np.float32)
    for number, row in enumerate(rows):
        vectors: dict[str, object] = {"dense": row.tolist(), "half": row.tolist()}
        if number % 2:
            vectors["many"] = [[1.5, float(row[0])], [2.5, float(row[1])]]
        if number % 3:
            vectors["words"] = models.SparseVector(indices=[number, 900], values=[0.5, 1.25])
        client.upsert("docs", [models.PointStruct(id=number, vector=vectors, payload={})])
    client.close()
    before = picture(node)
    await rewritten(node)
    assert picture(node) == before
