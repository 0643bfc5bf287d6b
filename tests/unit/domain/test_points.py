"""Points are made canonical, and their hashes and digests depend on what they are and no more."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.model.errors import InvalidPoint
from domain.model.points import (
    INT64_MAX,
    INT64_MIN,
    UINT64_MAX,
    Digest,
    PointBatch,
    decode_payload,
    decode_sparse,
    encode_dense,
    encode_payload,
    encode_sparse,
    id_of,
    key_of,
)
from tests.builders import few_examples

integers = st.integers(0, UINT64_MAX)
float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(INT64_MIN, INT64_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
payloads = st.dictionaries(
    st.text(),
    st.recursive(
        scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
    ),
)


@few_examples
@given(st.lists(integers | st.uuids(), unique=True))
def test_key_order_is_the_order_of_a_qdrant_scroll(ids: list[int | UUID]) -> None:
    numbers = sorted(i for i in ids if isinstance(i, int))
    uuids = sorted((i for i in ids if isinstance(i, UUID)), key=lambda u: u.int)
    assert [id_of(key) for key in sorted(map(key_of, ids))] == [*numbers, *map(str, uuids)]


@few_examples
@given(integers | st.uuids())
def test_ids_survive(point_id: int | UUID) -> None:
    text = str(point_id) if isinstance(point_id, UUID) else point_id
    assert id_of(key_of(point_id)) == text
    assert key_of(text) == key_of(point_id)


def test_one_uuid_has_one_key_however_it_is_written() -> None:
    one = "00112233-4455-6677-8899-AABBCCDDEEFF"
    assert key_of(one) == key_of(one.lower()) == key_of(one.replace("-", "")) == key_of(UUID(one))


@pytest.mark.parametrize("point_id", [-1, UINT64_MAX + 1, True, "7", "", "no-uuid", 1.5, None])
def test_what_no_store_takes_as_an_id_is_refused(point_id: Any) -> None:
    with pytest.raises(InvalidPoint, match="point id"):
        key_of(point_id)


@few_examples
@given(payloads)
def test_payloads_survive_and_their_bytes_do_not_depend_on_key_order(
    payload: dict[str, Any],
) -> None:
    encoded = encode_payload(payload)
    assert decode_payload(encoded) == payload
    assert encode_payload(_reversed(payload)) == encoded
    assert encode_payload(decode_payload(encoded)) == encoded


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reversed(inner) for key, inner in reversed(value.items())}
    return [_reversed(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("payload", "encoded"),
    [
        ({"b": 1, "a": {"d": 2, "c": 3}}, b'{"a":{"c":3,"d":2},"b":1}'),
        ({"n": 1}, b'{"n":1}'),
        ({"n": 1.0}, b'{"n":1.0}'),
        ({"n": -0.0}, b'{"n":-0.0}'),
        ({"n": 0.0}, b'{"n":0.0}'),
        ({"n": 0}, b'{"n":0}'),
        ({"n": True}, b'{"n":true}'),
        ({"n": 0.1 + 0.2}, b'{"n":0.30000000000000004}'),
        ({"n": 1e16}, b'{"n":1e+16}'),
        ({"n": INT64_MIN}, b'{"n":-9223372036854775808}'),
        ({"n": INT64_MAX}, b'{"n":9223372036854775807}'),
        ({"é": "ž\n"}, '{"é":"ž\\n"}'.encode()),
        ({"n": None, "e": [], "o": {}}, b'{"e":[],"n":null,"o":{}}'),
    ],
)
def test_payload_bytes(payload: dict[str, Any], encoded: bytes) -> None:
    assert encode_payload(payload) == encoded


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"a": float("nan")}, r"payload\.a: nan"),
        ({"a": {"b": [0, float("inf")]}}, r"payload\.a\.b\[1\]: inf"),
        ({"a": [{"b": float("-inf")}]}, r"payload\.a\[0\]\.b: -inf"),
        ({"a": INT64_MAX + 1}, r"payload\.a: 9223372036854775808 does not fit"),
        ({"a": [INT64_MIN - 1]}, r"payload\.a\[0\]: -9223372036854775809 does not fit"),
        ({"a": datetime(2026, 1, 2, tzinfo=UTC)}, r"payload\.a: datetime is not JSON"),
        ({"a": {UUID(int=1)}}, r"payload\.a: set is not JSON"),
        ({"a": b"bytes"}, "payload is not JSON"),
        ({"a": "\ud800"}, "payload is not JSON"),
        ({"a": {1: 2}}, "payload is not JSON"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_named(payload: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidPoint, match=path):
        encode_payload(payload)


def test_dense_vectors_are_little_endian_float32() -> None:
    assert encode_dense([1.0, -0.0]) == bytes.fromhex("0000803f00000080")
    assert encode_dense([[1.0], [2.0]]) == bytes.fromhex("0000803f00000040")
    assert encode_dense(np.array([1.0, 2.0], dtype=">f8")) == encode_dense([1.0, 2.0])
    assert encode_dense(np.array([[1.0, 9.0], [2.0, 9.0]])[:, 0]) == encode_dense([1.0, 2.0])


@few_examples
@given(st.lists(float32s))
def test_dense_vectors_survive_bit_for_bit(vector: list[float]) -> None:
    back = np.frombuffer(encode_dense(vector), dtype="<f4")
    assert back.tobytes() == np.array(vector, dtype="<f4").tobytes()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e39])
@pytest.mark.parametrize(
    "encode", [lambda x: encode_dense([0.0, x]), lambda x: encode_sparse([0, 1], [0.0, x])]
)
def test_vectors_are_finite_float32(encode: Callable[[float], bytes], bad: float) -> None:
    with pytest.raises(InvalidPoint, match="NaN or infinity"):
        encode(bad)


@few_examples
@given(st.dictionaries(st.integers(0, 2**32 - 1), float32s), st.randoms())
def test_sparse_vectors_do_not_depend_on_the_order_of_their_indices(
    pairs: dict[int, float], random: Any
) -> None:
    shuffled = list(pairs.items())
    random.shuffle(shuffled)
    encoded = encode_sparse([i for i, _ in shuffled], [v for _, v in shuffled])
    indices, values = decode_sparse(encoded)
    assert indices.tolist() == sorted(pairs)
    assert values.tobytes() == np.array([pairs[i] for i in sorted(pairs)], "<f4").tobytes()


def test_sparse_bytes() -> None:
    assert encode_sparse([258, 1], [2.0, 1.0]) == bytes.fromhex("01000000020100000000803f00000040")


@pytest.mark.parametrize(
    ("indices", "values", "why"),
    [([1, 1], [0.5, 0.5], "repeats"), ([1, 2], [0.5], "2 indices for 1 values")],
)
def test_sparse_vectors_that_are_none(indices: list[int], values: list[float], why: str) -> None:
    with pytest.raises(InvalidPoint, match=why):
        encode_sparse(indices, values)


def _one(
    key: bytes = key_of(1),
    payload: bytes = b"{}",
    vectors: dict[str, bytes | None] | None = None,
) -> bytes:
    vectors = {"": b"aaaa", "text": b"bbbb"} if vectors is None else vectors
    [found] = PointBatch([key], [payload], {name: [v] for name, v in vectors.items()}).hashes()
    return found


def test_the_hash_depends_on_every_part() -> None:
    different = {
        "as it is": _one(),
        "id": _one(key=key_of(2)),
        "payload": _one(payload=b'{"a":1}'),
        "float": _one(payload=b'{"a":1.0}'),
        "vector": _one(vectors={"": b"aaaa", "text": b"bbbc"}),
        "unnamed vector": _one(vectors={"": b"aaab", "text": b"bbbb"}),
        "name": _one(vectors={"": b"aaaa", "texts": b"bbbb"}),
        "swapped": _one(vectors={"": b"bbbb", "text": b"aaaa"}),
        "missing": _one(vectors={"": b"aaaa"}),
        "empty": _one(vectors={"": b"aaaa", "text": b""}),
        "moved border": _one(vectors={"": b"aaaab", "text": b"bbb"}),
        "no vector": _one(vectors={}),
    }
    assert len(set(different.values())) == len(different)
    assert {len(found) for found in different.values()} == {16}


def test_the_hash_depends_on_nothing_else() -> None:
    assert _one(vectors={"text": b"bbbb", "": b"aaaa"}) == _one()
    assert _one(vectors={"": b"aaaa", "text": b"bbbb", "other": None}) == _one()
    both = PointBatch(
        [key_of(0), key_of(1)], [b"{}", b"{}"], {"": [None, b"aaaa"], "text": [None, b"bbbb"]}
    )
    assert both.hashes()[1] == _one()
    assert both.take([1]).hashes() == [_one()]


BATCH = PointBatch(
    [key_of(1), key_of(2)], [b'{"a":1}', b'{"a":2}'], {"": [b"aaaa", None], "text": [b"bb", b"cc"]}
)


def test_rows_are_taken_in_the_asked_order() -> None:
    assert BATCH.take([1, 0]).hashes() == BATCH.hashes()[::-1]
    assert BATCH.take([1]) == PointBatch([key_of(2)], [b'{"a":2}'], {"": [None], "text": [b"cc"]})
    assert len(BATCH.take([])) == 0


def test_batches_with_other_vectors_are_joined_with_gaps() -> None:
    other = PointBatch([key_of(3)], [b"{}"], {"code": [b"dd"]})
    joined = PointBatch.concatenate([BATCH, other])
    assert len(joined) == 3
    assert joined.vectors == {
        "": [b"aaaa", None, None],
        "text": [b"bb", b"cc", None],
        "code": [None, None, b"dd"],
    }
    assert joined.hashes() == [*BATCH.hashes(), *other.hashes()]
    assert PointBatch.concatenate([]) == PointBatch([], [])


def _digest(pairs: list[tuple[bytes, bytes]]) -> str:
    digest = Digest()
    for key, point_hash in pairs:
        digest.add(key, point_hash)
    assert digest.points == len(pairs)
    return digest.hexdigest()


@pytest.mark.parametrize("ids", [(2, 1), (1, 1), (1, 3, 2)])
def test_a_digest_refuses_disorder(ids: tuple[int, ...]) -> None:
    *before, last = ids
    digest = Digest()
    for point_id in before:
        digest.add(key_of(point_id), b"h" * 16)
    with pytest.raises(ValueError, match="ascending"):
        digest.add(key_of(last), b"h" * 16)
    assert digest.points == len(before)


def test_a_digest_of_many_points_at_once_is_that_of_each() -> None:
    pairs = [(key_of(number), bytes([number]) * 16) for number in range(9)]
    together = Digest()
    for start, end in ((0, 4), (4, 4), (4, 9)):
        together.extend(
            [key for key, _ in pairs[start:end]], [hash_ for _, hash_ in pairs[start:end]]
        )
    assert (together.hexdigest(), together.points) == (_digest(pairs), 9)
    before = together.hexdigest()
    for keys in ([key_of(8)], [key_of(11), key_of(10)], [key_of(10), key_of(10)]):
        with pytest.raises(ValueError, match="ascending"):
            together.extend(keys, [b"h" * 16] * len(keys))
    assert together.hexdigest() == before


def test_a_digest_depends_on_ids_and_hashes() -> None:
    different = [
        [],
        [(key_of(1), b"a" * 16)],
        [(key_of(2), b"a" * 16)],
        [(key_of(1), b"b" * 16)],
        [(key_of(1), b"a" * 16), (key_of(2), b"b" * 16)],
        [(key_of(1), b"b" * 16), (key_of(2), b"a" * 16)],
    ]
    assert len({_digest(pairs) for pairs in different}) == len(different)
