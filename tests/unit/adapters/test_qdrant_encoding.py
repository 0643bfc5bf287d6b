"""Points survive the way to Qdrant's messages and back bit for bit."""

import struct
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.qdrant.encoding import Column, batch_of, dense_bytes, dense_message, fill_points
from adapters.qdrant.sizes import CALL_BYTES, chunks, page_points
from adapters.qdrant_grpc import qdrant
from domain.model.errors import InvalidPoint
from domain.model.points import (
    PointBatch,
    encode_dense,
    encode_payload,
    encode_sparse,
    id_of,
    key_of,
)
from domain.model.schema import VectorKind

DENSE = Column(VectorKind.DENSE, 2)
COLUMNS = {
    "text": Column(VectorKind.DENSE, 2),
    "ročni": Column(VectorKind.MULTI, 2),
    "words": Column(VectorKind.SPARSE),
}

float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)
payloads = st.dictionaries(st.text(), values).map(encode_payload)
keys = (st.integers(0, 2**64 - 1) | st.uuids()).map(key_of)
dense_vectors = st.lists(float32s, min_size=2, max_size=2).map(encode_dense)
multi_vectors = st.lists(st.tuples(float32s, float32s), min_size=1).map(encode_dense)
sparse_vectors = st.dictionaries(st.integers(0, 2**32 - 1), float32s).map(
    lambda pairs: encode_sparse(list(pairs), list(pairs.values()))
)


@st.composite
def batches(draw: st.DrawFn) -> PointBatch:
    chosen = draw(st.lists(keys, unique=True, min_size=1, max_size=5))

    def column(vectors: st.SearchStrategy[bytes]) -> list[bytes | None]:
        return [draw(st.none() | vectors) for _ in chosen]

    return PointBatch(
        keys=chosen,
        payloads=[draw(payloads) for _ in chosen],
        vectors={
            "text": column(dense_vectors),
            "ročni": column(multi_vectors),
            "words": column(sparse_vectors),
        },
    )


def sent(points: PointBatch, columns: dict[str, Column]) -> list[qdrant.PointStruct]:
    """The points as a server parses them."""
    request = qdrant.UpsertPoints()
    fill_points(request.points, points, columns)
    return list(qdrant.UpsertPoints.FromString(request.SerializeToString()).points)


def answered(points: list[qdrant.PointStruct]) -> list[qdrant.RetrievedPoint]:
    """What a server answers that keeps these points as they came."""
    retrieved = []
    for point in points:
        vectors = qdrant.VectorsOutput.FromString(point.vectors.SerializeToString())
        answer = qdrant.RetrievedPoint(id=point.id, payload=point.payload, vectors=vectors)
        retrieved.append(qdrant.RetrievedPoint.FromString(answer.SerializeToString()))
    return retrieved


@given(batches())
def test_named_vectors_and_payloads_survive(points: PointBatch) -> None:
    assert batch_of(answered(sent(points, COLUMNS)), COLUMNS) == points


@given(st.lists(st.none() | dense_vectors, min_size=1))
def test_unnamed_vector_survives(vectors: list[bytes | None]) -> None:
    points = PointBatch([key_of(i) for i in range(len(vectors))], [b"{}"] * len(vectors))
    points.vectors[""] = vectors
    assert batch_of(answered(sent(points, {"": DENSE})), {"": DENSE}) == points


@pytest.mark.parametrize("dimension", [0, 1, 31, 32, 1536, 4096, 600_000])
def test_dense_message_is_a_prefix_and_the_bytes(dimension: int) -> None:
    vector = np.random.default_rng(dimension).standard_normal(dimension).astype("<f4")
    by_floats = qdrant.DenseVector(data=vector.tolist())
    assert dense_message(vector.tobytes()) == by_floats
    assert dense_bytes(by_floats) == vector.tobytes()


def test_packed_floats_are_field_one_of_a_dense_vector() -> None:
    field = qdrant.DenseVector.DESCRIPTOR.fields_by_name["data"]
    assert (field.number, field.is_packed, field.type) == (1, True, field.TYPE_FLOAT)
    encoded = dense_message(struct.pack("<2f", 1.0, -0.0)).SerializeToString()
    assert encoded == b"\x0a\x08\x00\x00\x80\x3f\x00\x00\x00\x80"


def test_messages_are_those_that_the_generated_classes_build() -> None:
    points = PointBatch(
        keys=[key_of(7), key_of(UUID(int=9))],
        payloads=[b'{"a":1,"n":null}', b"{}"],
        vectors={
            "text": [encode_dense([1, 2]), None],
            "ročni": [None, encode_dense([[1, 2], [3, 4]])],
            "words": [encode_sparse([5, 2], [1, 2]), None],
        },
    )
    first, second = sent(points, COLUMNS)
    assert first == qdrant.PointStruct(
        id=qdrant.PointId(num=7),
        payload={
            "a": qdrant.Value(integer_value=1),
            "n": qdrant.Value(null_value=qdrant.NULL_VALUE),
        },
        vectors=qdrant.Vectors(
            vectors=qdrant.NamedVectors(
                vectors={
                    "text": qdrant.Vector(dense=qdrant.DenseVector(data=[1, 2])),
                    "words": qdrant.Vector(
                        sparse=qdrant.SparseVector(indices=[2, 5], values=[2, 1])
                    ),
                }
            )
        ),
    )
    rows = [qdrant.DenseVector(data=[1, 2]), qdrant.DenseVector(data=[3, 4])]
    assert second.id.uuid == str(id_of(points.keys[1]))
    assert second.vectors.vectors.vectors["ročni"] == qdrant.Vector(
        multi_dense=qdrant.MultiDenseVector(vectors=rows)
    )


def test_unnamed_vector_is_sent_without_a_name() -> None:
    points = PointBatch([key_of(1)], [b"{}"], {"": [encode_dense([1, 2])]})
    (point,) = sent(points, {"": DENSE})
    vector = qdrant.Vector(dense=qdrant.DenseVector(data=[1, 2]))
    assert point.vectors == qdrant.Vectors(vector=vector)


def test_point_without_vectors_is_sent_with_an_empty_set_of_them() -> None:
    for columns in (COLUMNS, {"": DENSE}):
        points = PointBatch([key_of(1)], [b"{}"], {name: [None] for name in columns})
        (point,) = sent(points, columns)
        assert point.vectors.WhichOneof("vectors_options") == "vectors"


def test_sparse_vectors_of_a_store_are_made_canonical() -> None:
    message = qdrant.SparseVector(indices=[9, 3], values=[0.5, -1.0])
    point = qdrant.RetrievedPoint(
        id=qdrant.PointId(num=1),
        vectors=qdrant.VectorsOutput(
            vectors=qdrant.NamedVectorsOutput(
                vectors={"words": qdrant.VectorOutput(sparse=message)}
            )
        ),
    )
    assert batch_of([point], []).vectors == {"words": [encode_sparse([3, 9], [-1, 0.5])]}


def test_deprecated_fields_of_old_servers_are_read() -> None:
    outputs = {
        "text": qdrant.VectorOutput(data=[1.5, -0.0]),
        "words": qdrant.VectorOutput(data=[1, 2], indices=qdrant.SparseIndices(data=[8, 4])),
    }
    point = qdrant.RetrievedPoint(
        id=qdrant.PointId(num=1),
        vectors=qdrant.VectorsOutput(vectors=qdrant.NamedVectorsOutput(vectors=outputs)),
    )
    assert batch_of([point], ["text"]).vectors == {
        "text": [encode_dense([1.5, -0.0])],
        "words": [encode_sparse([4, 8], [2, 1])],
    }


def test_vector_that_only_a_later_point_has_is_missing_before() -> None:
    points = answered(
        sent(PointBatch([key_of(1), key_of(2)], [b"{}"] * 2, {"text": [None, bytes(8)]}), COLUMNS)
    )
    assert batch_of(points, []).vectors == {"text": [None, bytes(8)]}


@pytest.mark.parametrize(("column", "size"), [("ročni", 12), ("words", 4)])
def test_vectors_of_broken_length_are_invalid(column: str, size: int) -> None:
    points = PointBatch([key_of(1)], [b"{}"], {column: [bytes(size)]})
    with pytest.raises(InvalidPoint, match=f"{size} bytes"):
        sent(points, COLUMNS)


def test_payload_that_no_ledger_keeps_names_its_point() -> None:
    bad = qdrant.RetrievedPoint(
        id=qdrant.PointId(num=42), payload={"x": qdrant.Value(double_value=float("nan"))}
    )
    with pytest.raises(InvalidPoint, match=r"point 42: payload\.x"):
        batch_of([bad], [])


def test_integer_beyond_int64_is_invalid() -> None:
    with pytest.raises(InvalidPoint):
        sent(PointBatch([key_of(1)], [b'{"x":9223372036854775808}'], {}), COLUMNS)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1] * 500, [500]),
        ([1] * 501, [500, 1]),
        ([CALL_BYTES, 1], [1, 1]),
        ([1, CALL_BYTES * 2, 1], [1, 1, 1]),
        ([CALL_BYTES // 2] * 4, [2, 2]),
    ],
)
def test_batches_are_split_by_points_and_bytes(sizes: list[int], expected: list[int]) -> None:
    blocks: dict[int, Any] = {size: bytes(size) for size in set(sizes)}
    points = PointBatch([bytes([1])] * len(sizes), [blocks[size] for size in sizes], {})
    assert [len(rows) for rows in chunks(points)] == expected


def test_page_has_at_least_one_point() -> None:
    assert page_points(500, CALL_BYTES * 3) == 1
    assert page_points(500, 10) == 500
    assert page_points(500, 2**20) == 16
