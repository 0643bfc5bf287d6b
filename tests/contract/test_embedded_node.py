"""The embedded node, as a child process, driven with Qdrant's own clients and stubs."""

import itertools
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from adapters.qdrant_grpc import qdrant

START_SECONDS = 30
DIMENSION = 8


class Node:
    """A node that can be killed and started again at the same address."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def spawn(self, port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "adapters.embedded.node"),
                *("--data-dir", str(self.data_dir), "--port", str(port)),
            ],
            stderr=subprocess.PIPE,
        )

    def start(self) -> None:
        self.process = self.spawn(self.port)
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.port}", options=[("grpc.max_receive_message_length", -1)]
        )
        grpc.channel_ready_future(self.channel).result(START_SECONDS)
        self.points = qdrant.PointsStub(self.channel)
        self.collections = qdrant.CollectionsStub(self.channel)

    def stop(self, number: int) -> int:
        self.channel.close()
        self.process.send_signal(number)
        _, _ = self.process.communicate(timeout=START_SECONDS)
        return self.process.returncode

    def restart(self, number: int) -> None:
        self.stop(number)
        self.start()

    def client(self) -> QdrantClient:
        return QdrantClient(
            host="127.0.0.1",
            port=self.port,
            grpc_port=self.port,
            prefer_grpc=True,
            check_compatibility=False,
            timeout=START_SECONDS,
        )


@pytest.fixture
def new_node(tmp_path: Path) -> Iterator[Callable[[str], Node]]:
    with ExitStack() as stack:

        def start(name: str) -> Node:
            node = Node(tmp_path / name)
            stack.callback(lambda: node.stop(signal.SIGKILL))
            return node

        yield start


@pytest.fixture
def node(new_node: Callable[[str], Node]) -> Node:
    return new_node("node")


@pytest.fixture
def client(node: Node) -> Iterator[QdrantClient]:
    client = node.client()
    yield client
    client.close()


def unit_vectors(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSION))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def create(
    client: QdrantClient, name: str, distance: models.Distance = models.Distance.COSINE
) -> None:
    client.create_collection(name, models.VectorParams(size=DIMENSION, distance=distance))


def fill(client: QdrantClient, name: str, count: int) -> None:
    points = [
        models.PointStruct(id=i, vector=row.tolist(), payload={"n": i, "even": i % 2 == 0})
        for i, row in enumerate(unit_vectors(count))
    ]
    assert client.upsert(name, points).status == models.UpdateStatus.COMPLETED


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def point(number: int, values: Any = (1.0,) * DIMENSION) -> qdrant.PointStruct:
    vector = qdrant.Vector(dense=qdrant.DenseVector(data=values))
    return qdrant.PointStruct(id=qdrant.PointId(num=number), vectors=qdrant.Vectors(vector=vector))


def alias(client: QdrantClient, name: str, collection: str) -> None:
    created = models.CreateAlias(collection_name=collection, alias_name=name)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=created)])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_acknowledged_survives_the_end_of_the_process(
    node: Node, client: QdrantClient, number: int
) -> None:
    create(client, "a")
    fill(client, "a", 1_200)
    client.delete("a", [3])
    client.set_payload("a", {"later": 1}, points=[4])
    client.create_payload_index("a", "n", models.PayloadSchemaType.INTEGER)
    alias(client, "b", "a")
    node.restart(number)
    again = node.client()
    assert again.count("b").count == 1_199
    assert again.retrieve("b", [4])[0].payload == {"n": 4, "even": True, "later": 1}
    assert again.get_collection("b").payload_schema["n"].points == 1_199
    vector = again.retrieve("a", [1_199], with_vectors=True)[0].vector
    assert np.asarray(vector, np.float32).tobytes() == unit_vectors(1_200)[1_199].tobytes()
    again.close()


def test_sigterm_ends_with_status_zero(node: Node) -> None:
    assert node.stop(signal.SIGTERM) == 0
    node.start()


def test_a_second_process_is_refused_the_data_directory(node: Node) -> None:
    second = node.spawn(0)
    _, said = second.communicate(timeout=START_SECONDS)
    assert second.returncode == 1
    assert b"data_dir_in_use" in said


def test_a_start_removes_folders_that_are_not_catalogued(node: Node, client: QdrantClient) -> None:
    create(client, "a")
    leftover = node.data_dir / "shards" / "leftover"
    leftover.mkdir()
    node.restart(signal.SIGKILL)
    assert not leftover.exists()
    assert len(list((node.data_dir / "shards").iterdir())) == 1


def test_a_deleted_collection_takes_its_folder_and_aliases_along(
    node: Node, client: QdrantClient
) -> None:
    create(client, "a")
    alias(client, "b", "a")
    assert client.delete_collection("a")
    assert not client.delete_collection("a")
    assert client.get_aliases().aliases == []
    assert list((node.data_dir / "shards").iterdir()) == []
    assert not client.collection_exists("b")


def test_every_setting_comes_back(node: Node) -> None:
    asked = qdrant.CreateCollection(
        collection_name="a",
        vectors_config=qdrant.VectorsConfig(
            params_map=qdrant.VectorParamsMap(
                map={
                    "text": qdrant.VectorParams(
                        size=4,
                        distance=qdrant.Distance.Dot,
                        hnsw_config=qdrant.HnswConfigDiff(m=0),
                        datatype=qdrant.Datatype.Float16,
                    ),
                    "parts": qdrant.VectorParams(
                        size=2,
                        distance=qdrant.Distance.Cosine,
                        multivector_config=qdrant.MultiVectorConfig(),
                    ),
                }
            )
        ),
        sparse_vectors_config=qdrant.SparseVectorConfig(
            map={"words": qdrant.SparseVectorParams(modifier=qdrant.Modifier.Idf)}
        ),
        hnsw_config=qdrant.HnswConfigDiff(m=7),
        wal_config=qdrant.WalConfigDiff(wal_capacity_mb=3),
        optimizers_config=qdrant.OptimizersConfigDiff(indexing_threshold=5),
        shard_number=3,
        replication_factor=2,
        write_consistency_factor=2,
        on_disk_payload=False,
        quantization_config=qdrant.QuantizationConfig(
            scalar=qdrant.ScalarQuantization(type=qdrant.QuantizationType.Int8, quantile=0.5)
        ),
        strict_mode_config=qdrant.StrictModeConfig(enabled=True, max_query_limit=9),
        metadata={"owner": qdrant.Value(string_value="me")},
    )
    node.collections.Create(asked)
    node.collections.Update(
        qdrant.UpdateCollection(
            collection_name="a",
            params=qdrant.CollectionParamsDiff(read_fan_out_factor=4),
            optimizers_config=qdrant.OptimizersConfigDiff(flush_interval_sec=8),
        )
    )
    node.restart(signal.SIGKILL)
    info = node.collections.Get(qdrant.GetCollectionInfoRequest(collection_name="a")).result
    params = info.config.params
    assert info.status == qdrant.CollectionStatus.Green
    assert params.vectors_config == asked.vectors_config
    assert params.sparse_vectors_config == asked.sparse_vectors_config
    assert (params.shard_number, params.replication_factor, params.on_disk_payload) == (3, 2, False)
    assert (params.write_consistency_factor, params.read_fan_out_factor) == (2, 4)
    assert (info.config.hnsw_config.m, info.config.hnsw_config.ef_construct) == (7, 100)
    assert info.config.wal_config.wal_capacity_mb == 3
    assert info.config.optimizer_config.indexing_threshold == 5
    assert info.config.optimizer_config.flush_interval_sec == 8
    assert info.config.quantization_config == asked.quantization_config
    assert info.config.strict_mode_config == asked.strict_mode_config
    assert info.config.metadata == asked.metadata


def test_names_of_collections_never_become_paths(node: Node, client: QdrantClient) -> None:
    create(client, "..")
    assert [path.parent.name for path in node.data_dir.glob("shards/*")] == ["shards"]
    code, _ = refusal(lambda: create(client, "a/b"))
    assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_aliases_are_moved_in_one_step_and_never_hide_a_collection(
    node: Node, client: QdrantClient
) -> None:
    create(client, "a")
    create(client, "b")

    def point_alias(alias: str, collection: str) -> qdrant.AliasOperations:
        return qdrant.AliasOperations(
            create_alias=qdrant.CreateAlias(alias_name=alias, collection_name=collection)
        )

    def change(*actions: qdrant.AliasOperations) -> None:
        node.collections.UpdateAliases(qdrant.ChangeAliases(actions=actions))

    change(point_alias("live", "a"))
    change(point_alias("live", "b"))
    assert client.get_collection_aliases("a").aliases == []
    assert client.get_collection_aliases("b").aliases[0].alias_name == "live"
    code, message = refusal(lambda: change(point_alias("other", "a"), point_alias("a", "b")))
    assert (code, message) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "Wrong input: Collection `a` already exists!",
    )
    assert [alias.alias_name for alias in client.get_aliases().aliases] == ["live"]
    change(
        qdrant.AliasOperations(
            rename_alias=qdrant.RenameAlias(old_alias_name="live", new_alias_name="now")
        )
    )
    fill(client, "now", 5)
    assert client.count("b").count == 5
    assert refusal(lambda: create(client, "now"))[0] == grpc.StatusCode.INVALID_ARGUMENT
    change(qdrant.AliasOperations(delete_alias=qdrant.DeleteAlias(alias_name="now")))
    assert not client.collection_exists("now")


def test_status_codes_and_wording_are_those_of_qdrant(node: Node, client: QdrantClient) -> None:
    create(client, "a")
    assert refusal(lambda: create(client, "a")) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "Wrong input: Collection `a` already exists!",
    )
    assert refusal(lambda: client.count("x")) == (
        grpc.StatusCode.NOT_FOUND,
        "Not found: Collection `x` doesn't exist!",
    )
    code, message = refusal(
        lambda: node.points.Recommend(qdrant.RecommendPoints(collection_name="a", limit=1))
    )
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert "qdrant.Points.Recommend" in message


def test_no_acknowledged_write_is_lost_when_the_node_is_killed_while_writing(node: Node) -> None:
    client = node.client()
    create(client, "a")
    client.close()
    acknowledged: list[int] = []

    def write(thread: int) -> None:
        for number in itertools.count(thread, 4):
            request = qdrant.UpsertPoints(collection_name="a", points=[point(number)])
            try:
                node.points.Upsert(request)
            except (grpc.RpcError, ValueError):
                return
            acknowledged.append(number)

    with ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(write, thread) for thread in range(4)]
        while len(acknowledged) < 500:
            assert not any(writer.done() for writer in writers)
        node.process.kill()
    node.restart(signal.SIGKILL)
    ids = [qdrant.PointId(num=number) for number in acknowledged]
    found = node.points.Get(qdrant.GetPoints(collection_name="a", ids=ids)).result
    assert [each.id.num for each in found] == acknowledged


def test_a_request_with_one_wrong_point_changes_nothing(node: Node, client: QdrantClient) -> None:
    create(client, "a")
    points = [*(point(number) for number in range(700)), point(700, [float("nan")] * DIMENSION)]
    request = qdrant.UpsertPoints(collection_name="a", points=points)
    code, message = refusal(lambda: node.points.Upsert(request))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "NaN or infinite" in message
    assert client.count("a").count == 0


def test_a_call_whose_deadline_passes_while_it_waits_is_not_applied(
    node: Node, client: QdrantClient
) -> None:
    for attempt in itertools.count():
        name = f"a{attempt}"
        create(client, name)
        many = qdrant.UpsertPoints(collection_name=name, points=map(point, range(30_000)))
        late = qdrant.UpsertPoints(collection_name=name, points=[point(99_999)])
        writing = node.points.Upsert.future(many)
        while not client.count(name).count:
            pass
        code = node.points.Upsert.future(late, timeout=0.05).code()
        if not writing.done():  # else there was nothing to wait for
            break
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert writing.result().result.status == qdrant.UpdateStatus.Completed
    node.points.Upsert(qdrant.UpsertPoints(collection_name=name, points=[point(1)]))
    assert client.count(name).count == 30_000
    assert client.retrieve(name, [99_999]) == []


def test_two_nodes_migrate_with_the_official_function(new_node: Callable[[str], Node]) -> None:
    source, target = new_node("one").client(), new_node("two").client()
    create(source, "a")
    fill(source, "a", 250)
    source.create_payload_index(
        "a",
        "n",
        models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=True),
    )
    source.migrate(target)
    everything = {"limit": 500, "with_vectors": True}
    assert target.scroll("a", **everything) == source.scroll("a", **everything)
    assert target.get_collection("a") == source.get_collection("a")
    source.close()
    target.close()


async def test_the_asynchronous_client_reads_and_writes(node: Node) -> None:
    client = AsyncQdrantClient(
        host="127.0.0.1",
        port=node.port,
        grpc_port=node.port,
        prefer_grpc=True,
        check_compatibility=False,
    )
    await client.create_collection("a", models.VectorParams(size=2, distance=models.Distance.DOT))
    key = UUID("8a7cde30-cbb4-4bfb-9c57-1f7a9b3c7a11")
    await client.upsert("a", [models.PointStruct(id=str(key), vector=[1.0, 2.0], payload={})])
    assert (await client.retrieve("a", [str(key)]))[0].id == str(key)
    await client.close()
