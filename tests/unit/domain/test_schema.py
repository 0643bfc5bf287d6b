"""Schemas of collections: as JSON, and what differs between two."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.model.errors import Rejected
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from tests.builders import few_examples

settings = st.dictionaries(st.text(), st.none() | st.integers(0, 9) | st.booleans(), max_size=2)
sparse = settings.map(lambda s: VectorSpec(VectorKind.SPARSE, settings=s))
dense = st.builds(
    VectorSpec,
    st.sampled_from([VectorKind.DENSE, VectorKind.MULTI]),
    st.integers(1, 4096),
    st.sampled_from(Distance),
    settings,
)
schemas = st.builds(
    CollectionSchema,
    st.dictionaries(st.text(), sparse | dense, max_size=3),
    st.dictionaries(st.text(), settings, max_size=3),
    settings,
)


@few_examples
@given(schemas)
def test_schemas_survive_as_json(schema: CollectionSchema) -> None:
    document = orjson.loads(orjson.dumps(schema.to_json()))
    assert CollectionSchema.from_json(document) == schema
    assert CollectionSchema.from_json(document).to_json() == document


def test_a_schema_as_json() -> None:
    schema = CollectionSchema(
        {
            "": VectorSpec(VectorKind.DENSE, 4, Distance.COSINE, {"hnsw": {"m": 16}}),
            "words": VectorSpec(VectorKind.SPARSE),
        },
        {"source_id": {"type": "keyword"}},
        {"shards": 2},
    )
    assert orjson.loads(orjson.dumps(schema.to_json())) == {
        "vectors": {
            "": {
                "kind": "dense",
                "dimension": 4,
                "distance": "cosine",
                "settings": {"hnsw": {"m": 16}},
            },
            "words": {"kind": "sparse", "dimension": 0, "distance": None, "settings": {}},
        },
        "indexes": {"source_id": {"type": "keyword"}},
        "settings": {"shards": 2},
    }


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ((VectorKind.DENSE, 0, Distance.DOT), "dimension and a distance"),
        ((VectorKind.DENSE, -1, Distance.DOT), "dimension and a distance"),
        ((VectorKind.MULTI, 4, None), "dimension and a distance"),
        ((VectorKind.SPARSE, 4, None), "neither"),
        ((VectorKind.SPARSE, 0, Distance.DOT), "neither"),
    ],
)
def test_vectors_that_are_none(fields: tuple[Any, ...], why: str) -> None:
    with pytest.raises(Rejected, match=why):
        VectorSpec(*fields)


COSINE_4 = VectorSpec(VectorKind.DENSE, 4, Distance.COSINE)


@pytest.mark.parametrize(
    ("ours", "theirs", "differences"),
    [
        ({"": COSINE_4}, {"": COSINE_4}, ()),
        (
            {"": COSINE_4},
            {"": VectorSpec(VectorKind.DENSE, 8, Distance.COSINE)},
            ("the vector is dense 4 cosine here and dense 8 cosine there",),
        ),
        (
            {"": COSINE_4},
            {"": VectorSpec(VectorKind.DENSE, 4, Distance.DOT)},
            ("the vector is dense 4 cosine here and dense 4 dot there",),
        ),
        (
            {"a": COSINE_4},
            {"a": VectorSpec(VectorKind.MULTI, 4, Distance.COSINE)},
            ("vector 'a' is dense 4 cosine here and multi 4 cosine there",),
        ),
        (
            {"b": COSINE_4, "a": COSINE_4},
            {"a": VectorSpec(VectorKind.SPARSE), "c": COSINE_4},
            (
                "vector 'a' is dense 4 cosine here and sparse there",
                "vector 'b' exists on one side only",
                "vector 'c' exists on one side only",
            ),
        ),
        ({"": COSINE_4}, {"": VectorSpec(VectorKind.DENSE, 4, Distance.COSINE, {"m": 1})}, ()),
    ],
)
def test_differences_are_of_shape(
    ours: dict[str, VectorSpec], theirs: dict[str, VectorSpec], differences: tuple[str, ...]
) -> None:
    assert CollectionSchema(ours).differences(CollectionSchema(theirs)) == differences


def test_indexes_and_settings_are_no_difference_of_shape() -> None:
    plain = CollectionSchema({"": COSINE_4})
    other = CollectionSchema({"": COSINE_4}, {"f": {"type": "keyword"}}, {"shards": 2})
    assert plain.differences(other) == ()
