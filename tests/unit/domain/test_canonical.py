"""What applications write is made canonical, or refused with the point and the reason."""

from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.model.canonical import (
    canonical_rows,
    keys_of,
    payloads_of,
    points_of,
    refuse_lossy,
)
from domain.model.errors import InvalidPoint, Rejected
from domain.model.points import decode_payload, decode_sparse, id_of, key_of
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec

COSINE = VectorSpec(VectorKind.DENSE, 3, Distance.COSINE)
DOT = VectorSpec(VectorKind.DENSE, 2, Distance.DOT)
SCHEMA = CollectionSchema(
    {
        "": COSINE,
        "late": VectorSpec(VectorKind.MULTI, 2, Distance.COSINE),
        "words": VectorSpec(VectorKind.SPARSE),
    }
)
PLAIN = CollectionSchema({"": DOT})
NUMBERS = st.floats(-(2**100), 2**100, width=32)


def floats(encoded: bytes | None) -> list[float]:
    assert encoded is not None
    return np.frombuffer(encoded, "<f4").tolist()


def test_a_point_of_every_kind_of_vector() -> None:
    uuid = "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"
    points = points_of(
        SCHEMA,
        [
            {"id": uuid, "payload": {"b": 1, "a": 1.0}, "vector": [0, 3, 4]},
            {
                "id": 7,
                "vector": {
                    "late": [[0.0, 2.0], [0.0, 0.0]],
                    "words": {"indices": [9, 3], "values": [1, 0.5]},
                },
            },
        ],
    )
    assert points.keys == [key_of(UUID(uuid)), key_of(7)]
    assert points.payloads == [b'{"a":1.0,"b":1}', b"{}"]
    assert floats(points.vectors[""][0]) == pytest.approx([0, 0.6, 0.8])
    assert points.vectors[""][1] is None
    assert points.vectors["late"][0] is None
    assert floats(points.vectors["late"][1]) == [0.0, 1.0, 0.0, 0.0]
    sparse = points.vectors["words"][1]
    assert sparse is not None
    assert [part.tolist() for part in decode_sparse(sparse)] == [[3, 9], [0.5, 1.0]]


def test_of_points_with_one_id_the_last_counts() -> None:
    documents = [{"id": n % 2, "payload": {"n": n}, "vector": [n, n]} for n in range(4)]
    points = points_of(PLAIN, documents)
    assert [id_of(key) for key in points.keys] == [0, 1]
    assert [decode_payload(p)["n"] for p in points.payloads] == [2, 3]
    assert [floats(v) for v in points.vectors[""]] == [[2, 2], [3, 3]]


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=20))
def test_rows_have_unit_length_and_keep_it(rows: list[tuple[float, ...]]) -> None:
    owners = [key_of(n) for n in range(len(rows))]
    once = canonical_rows(COSINE, np.array(rows), owners, "")
    squares = (once.astype(np.float64) ** 2).sum(axis=1)
    for row, square in zip(rows, squares, strict=True):
        assert abs(square - (1.0 if any(row) else 0.0)) < 1e-6
    assert canonical_rows(COSINE, once, owners, "").tobytes() == once.tobytes()


def test_rows_of_other_distances_keep_every_bit() -> None:
    rows = np.array([[-0.0, 1e-30], [3.0, 4.0]], "<f4")
    assert canonical_rows(DOT, rows, [key_of(1), key_of(2)], "").tobytes() == rows.tobytes()


def test_the_array_of_the_caller_stays_as_it_is() -> None:
    rows = np.array([[0.0, 3.0, 4.0]], "<f4")
    rows.flags.writeable = False
    kept = canonical_rows(COSINE, rows, [key_of(1)], "")
    assert (rows.tolist(), kept.tolist()[0][1]) == ([[0.0, 3.0, 4.0]], pytest.approx(0.6))
    rows = np.array([[0.0, 3.0, 4.0]], "<f4")
    canonical_rows(COSINE, rows, [key_of(1)], "")
    assert rows.tolist() == [[0.0, 3.0, 4.0]]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"vector": [1, 2, 3]}, "a point has no `id`"),
        ([1, 2], "a point is an object"),
        ({"id": 1}, "point 1 has no `vector`; an upsert replaces the whole point"),
        ({"id": 1, "vector": [1, 2, 3], "payloads": {}}, "point 1: unknown field 'payloads'"),
        ({"id": 1, "vector": [1, 2, 3], "payload": []}, "point 1: `payload` must be an object"),
        ({"id": -1, "vector": [1, 2, 3]}, "point id -1"),
        ({"id": "x", "vector": [1, 2, 3]}, "point id 'x'"),
        ({"id": 1, "vector": [1, 2]}, "point 1: unnamed vector is 2 numbers, and .* 3 numbers"),
        ({"id": 1, "vector": "123"}, "point 1: unnamed vector is str"),
        ({"id": 1, "vector": [1, 2, "3"]}, "point 1: unnamed vector has something that is no num"),
        ({"id": 1, "vector": [1, 2, None]}, "point 1: unnamed vector has something that is no num"),
        ({"id": 1, "vector": [1, 2, [3]]}, "point 1: unnamed vector has something that is no num"),
        ({"id": 1, "vector": [1, 2, 10**400]}, "point 1: unnamed vector has something that is no"),
        ({"id": 1, "vector": {"words": {"indices": 3, "values": 1}}}, "must be lists of numbers"),
        ({"id": 1, "vector": {"words": {"indices": [[1, 2]], "values": [[1, 2]]}}}, "lists of"),
        ({"id": 1, "vector": {"words": {"indices": [1.7], "values": [1]}}}, "a whole number from"),
        ({"id": 1, "vector": {"words": {"indices": [2**32], "values": [1]}}}, "a whole number"),
        ({"id": 1, "vector": {"words": {"indices": [1], "values": ["1"]}}}, "must be numbers"),
        ({"id": 1, "vector": [1, 2, float("nan")]}, "point 1: unnamed vector has NaN, infinity"),
        ({"id": 1, "vector": [1, 2, 1e39]}, "point 1: unnamed vector has NaN, infinity"),
        ({"id": 1, "vector": {"lat": [[1]]}}, "point 1: the collection has no vector 'lat'; it ha"),
        ({"id": 1, "vector": {"late": [1, 2]}}, "point 1: vector 'late' is int"),
        ({"id": 1, "vector": {"late": []}}, "point 1: vector 'late' must be a list of vectors"),
        ({"id": 1, "vector": {"late": [[1, 2], [1]]}}, "point 1: vector 'late' is 1 numbers"),
        ({"id": 1, "vector": {"words": [1]}}, "point 1: vector 'words' is sparse, and takes"),
        (
            {"id": 1, "vector": {"words": {"indices": [1, 1], "values": [1, 2]}}},
            "point 1: vector 'words': sparse vector repeats an index",
        ),
        (
            {"id": 1, "vector": {"words": {"indices": [-1], "values": [1]}}},
            "point 1: vector 'words'",
        ),
        (
            {"id": 1, "vector": {"words": {"indices": ["a"], "values": [1]}}},
            "point 1: vector 'words'",
        ),
        ({"id": 1, "vector": [1, 2, 3], "payload": {"n": 2**63}}, "point 1: payload.n: .* 64-bit"),
    ],
)
def test_what_is_wrong_is_named(document: Any, words: str) -> None:
    fine = {"id": 2, "vector": {"": [1, 2, 3], "late": [[1, 2]]}}
    with pytest.raises(InvalidPoint, match=words):
        points_of(SCHEMA, [fine, document, fine])


def test_truth_is_no_number() -> None:
    with pytest.raises(InvalidPoint, match="point 1: unnamed vector has something that is no"):
        points_of(SCHEMA, [{"id": 1, "vector": [True, False, True]}])


def test_ids_to_delete() -> None:
    uuid = "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"
    assert keys_of([3, {"id": uuid}, 3]) == [key_of(3), key_of(UUID(uuid))]
    for wrong in (True, 1.5, None, {"id": 1, "vector": []}, {}, [1]):
        with pytest.raises(InvalidPoint):
            keys_of([1, wrong])


def test_fields_to_set() -> None:
    found = payloads_of([{"id": 1, "payload": {"a": 1, "b": 1}}, {"id": 1, "payload": {"a": 2}}])
    assert found == {key_of(1): {"a": 2, "b": 1}}
    for wrong in (1, {"id": 1}, {"id": 1, "payload": None}, {"id": 1, "payload": {"a": 2**64}}):
        with pytest.raises(InvalidPoint):
            payloads_of([wrong])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("settings", "fine"),
    [
        ({}, True),
        ({"datatype": "Float32"}, True),
        ({"datatype": "Uint8"}, False),
        ({"datatype": "Float16"}, False),
        ({"index": {"datatype": "Float16"}}, False),
    ],
)
def test_collections_that_round(settings: dict[str, Any], *, fine: bool) -> None:
    schema = CollectionSchema({"v": VectorSpec(VectorKind.SPARSE, settings=settings)})
    if fine:
        refuse_lossy(schema)
    else:
        with pytest.raises(Rejected, match="'v' as "):
            refuse_lossy(schema)
