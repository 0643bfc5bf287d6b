import numpy as np
import pytest
import qdrant_edge as edge

from adapters.embedded.node.errors import RefusalError
from adapters.embedded.node.vectors import Layout, VectorReader, vectors_to_proto
from adapters.qdrant_grpc import qdrant

LAYOUT = Layout(
    qdrant.CollectionParams(
        vectors_config=qdrant.VectorsConfig(
            params_map=qdrant.VectorParamsMap(
                map={
                    "text": qdrant.VectorParams(size=300, distance=qdrant.Distance.Dot),
                    "parts": qdrant.VectorParams(
                        size=2,
                        distance=qdrant.Distance.Dot,
                        multivector_config=qdrant.MultiVectorConfig(),
                    ),
                }
            )
        ),
        sparse_vectors_config=qdrant.SparseVectorConfig(map={"words": qdrant.SparseVectorParams()}),
    )
)


def dense(values: list[float]) -> qdrant.Vector:
    return qdrant.Vector(dense=qdrant.DenseVector(data=values))


def read(name: str, vector: qdrant.Vector) -> None:
    reader = VectorReader(LAYOUT)
    reader.vector(name, vector)
    reader.finish()


def sparse(indices: list[int], values: list[float]) -> qdrant.Vector:
    return qdrant.Vector(sparse=qdrant.SparseVector(indices=indices, values=values))


def multi(*rows: list[float]) -> qdrant.Vector:
    vectors = [qdrant.DenseVector(data=row) for row in rows]
    return qdrant.Vector(multi_dense=qdrant.MultiDenseVector(vectors=vectors))


def test_dense_vectors_keep_their_bits() -> None:
    row = np.random.default_rng(1).normal(size=300).astype("<f4")
    row[:3] = [-0.0, np.float32(1e-45), np.float32(3.4e38)]
    read = VectorReader(LAYOUT).vector("text", dense(row.tolist()))
    point = edge.Point(1, {"text": read})
    assert isinstance(point.vector, dict)
    written = vectors_to_proto(point.vector).vectors.vectors["text"].dense
    assert np.asarray(written.data, "<f4").tobytes() == row.tobytes()


def test_the_fields_of_older_clients_are_understood() -> None:
    reader = VectorReader(LAYOUT)
    rows = reader.vector("parts", qdrant.Vector(data=[1.0, 2.0, 3.0, 4.0], vectors_count=2))
    assert rows == [[1.0, 2.0], [3.0, 4.0]]
    words = reader.vector(
        "words", qdrant.Vector(data=[1.5], indices=qdrant.SparseIndices(data=[7]))
    )
    assert (words.indices, words.values) == ([7], [1.5])


def test_an_empty_set_of_vectors_is_written_as_one() -> None:
    assert vectors_to_proto({}).WhichOneof("vectors_options") == "vectors"


@pytest.mark.parametrize(
    ("name", "vector", "says"),
    [
        ("text", dense([1.0]), "expected dim: 300, got 1"),
        ("text", sparse([1], [1.0]), "not a sparse vector"),
        ("text", multi([1.0] * 300), "not a multi-vector"),
        ("words", dense([1.0]), "not a dense vector"),
        ("words", sparse([1, 2], [1.0]), "as many values"),
        ("words", sparse([1, 1], [1.0, 2.0]), "distinct"),
        ("parts", multi(), "at least one row"),
        ("parts", multi([1.0, 2.0], [1.0]), "expected dim: 2, got 1"),
        ("other", dense([1.0]), "Not existing vector name error: other"),
        ("text", qdrant.Vector(document=qdrant.Document(text="hello")), "needs inference"),
        ("words", sparse([1], [float("nan")]), "NaN or infinite"),
        ("parts", multi([1.0, float("inf")]), "NaN or infinite"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(name: str, vector: qdrant.Vector, says: str) -> None:
    with pytest.raises(RefusalError, match=says):
        read(name, vector)
