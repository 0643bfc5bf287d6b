"""Points: columns of bytes to and from Qdrant's protobuf messages, without touching a float.

A dense vector is the same bytes in a `PointBatch` and on the wire (packed little-endian float32),
so its message is a prefix and those bytes. The prefix depends on the column's name and the
vector's length only, and is computed once for both.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from adapters.qdrant.payload import fill_fields, payload_of
from adapters.qdrant_grpc import qdrant
from domain.model.errors import InvalidPoint
from domain.model.points import (
    FLOAT32,
    INTEGER_KEY,
    UINT32,
    UUID_KEY,
    PointBatch,
    decode_sparse,
    encode_sparse,
    id_of,
    key_of,
)
from domain.model.schema import VectorKind

_FLOAT_SIZE = 4
_UUID_SIZE = 16
_CONTINUES = 0x80  # the bit of a varint's byte that another follows
_SPARSE_SIZE = 8  # a uint32 index and a float32 value


def _number(message: Any, field: str) -> int:
    return int(message.DESCRIPTOR.fields_by_name[field].number)


# Field numbers of the wire format, read from the descriptors.
_DENSE_DATA = _number(qdrant.DenseVector, "data")
_MULTI_ROWS = _number(qdrant.MultiDenseVector, "vectors")
_ENTRIES = _number(qdrant.NamedVectors, "vectors")
_ENTRY_NAME, _ENTRY_VECTOR = 1, 2  # of every protobuf map
_KINDS = {
    VectorKind.DENSE: _number(qdrant.Vector, "dense"),
    VectorKind.MULTI: _number(qdrant.Vector, "multi_dense"),
    VectorKind.SPARSE: _number(qdrant.Vector, "sparse"),
}
_UNNAMED = _number(qdrant.Vectors, "vector")
_NAMED = _number(qdrant.Vectors, "vectors")


@dataclass(frozen=True)
class Column:
    """What the codec has to know of a vector.

    Attributes:
        kind: dense, multi or sparse.
        dimension: floats a row; 0 for sparse.
        lower_is_nearer: the store's scores are distances.
    """

    kind: VectorKind
    dimension: int = 0
    lower_is_nearer: bool = False


def point_id(key: bytes) -> qdrant.PointId:
    """The point id of a key."""
    if key[:1] == INTEGER_KEY:
        return qdrant.PointId(num=int.from_bytes(key[1:], "big"))
    return qdrant.PointId(uuid=str(id_of(key)))


def key_of_id(identifier: qdrant.PointId) -> bytes:
    """The key of a point id.

    Raises:
        InvalidPoint: the store sent an id that is no UUID.
    """
    if identifier.WhichOneof("point_id_options") == "num":
        return INTEGER_KEY + identifier.num.to_bytes(8, "big")
    try:
        raw = bytes.fromhex(identifier.uuid.replace("-", ""))
    except ValueError:
        raw = b""
    return UUID_KEY + raw if len(raw) == _UUID_SIZE else key_of(identifier.uuid)


def fill_points(target: Any, points: PointBatch, columns: Mapping[str, Column]) -> None:
    """Append points to a repeated field of `PointStruct`.

    Raises:
        InvalidPoint: a vector is no whole number of rows or pairs, or an integer is beyond int64.
    """
    named = set(columns) != {""}
    encoders = [(name, columns[name], points.vectors[name]) for name in sorted(points.vectors)]
    for row, (key, payload) in enumerate(zip(points.keys, points.payloads, strict=True)):
        point = target.add()
        if key[:1] == INTEGER_KEY:
            point.id.num = int.from_bytes(key[1:], "big")
        else:
            point.id.uuid = str(id_of(key))
        fill_fields(point.payload, payload)
        entries = b"".join(
            [
                _vector(name, column, vectors[row], named=named)
                for name, column, vectors in encoders
                if vectors[row] is not None
            ]
        )
        point.vectors.MergeFromString(_framed(_NAMED, entries) if named or not entries else entries)


def batch_of(points: Iterable[qdrant.RetrievedPoint], names: Iterable[str]) -> PointBatch:
    """The points that a store answered; each name is a column, and so is what else it sent.

    Raises:
        InvalidPoint: a point that no ledger can keep, with its id.
    """
    batch = PointBatch(keys=[], payloads=[], vectors={name: [] for name in names})
    for row, point in enumerate(points):
        key = key_of_id(point.id)
        batch.keys.append(key)
        try:
            batch.payloads.append(payload_of(point.payload))
            vectors = dict(_vectors(point))
        except InvalidPoint as exc:
            raise InvalidPoint(f"point {id_of(key)}: {exc}") from exc
        for name, column in batch.vectors.items():
            column.append(vectors.pop(name, None))
        for name, vector in vectors.items():
            batch.vectors[name] = [*[None] * row, vector]
    return batch


def dense_message(encoded: bytes) -> qdrant.DenseVector:
    """The message of an encoded dense vector."""
    message = qdrant.DenseVector()
    message.MergeFromString(_framed(_DENSE_DATA, encoded))
    return message


def dense_bytes(message: qdrant.DenseVector) -> bytes:
    """The little-endian float32 bytes of a dense vector's message."""
    encoded = message.SerializeToString()
    start = 1
    while start < len(encoded) and encoded[start] & _CONTINUES:
        start += 1
    return bytes(encoded[start + 1 :])


def _vector(name: str, column: Column, encoded: bytes | None, *, named: bool) -> bytes:
    """The wire bytes of `Vectors.vector`, or of one entry of `NamedVectors`."""
    if encoded is None:
        return b""
    if column.kind is VectorKind.DENSE:
        return _dense_prefix(name, len(encoded), named=named) + encoded
    body = _multi(encoded, column) if column.kind is VectorKind.MULTI else _sparse(encoded)
    return _placed(name, _framed(_KINDS[column.kind], body), named=named)


@lru_cache(maxsize=1024)
def _dense_prefix(name: str, size: int, *, named: bool) -> bytes:
    body = _framed(_DENSE_DATA, bytes(size))
    return _placed(name, _framed(_KINDS[VectorKind.DENSE], body), named=named)[
        : -size if size else None
    ]


def _placed(name: str, vector: bytes, *, named: bool) -> bytes:
    if not named:
        return _framed(_UNNAMED, vector)
    entry = _framed(_ENTRY_NAME, name.encode()) + _framed(_ENTRY_VECTOR, vector)
    return _framed(_ENTRIES, entry)


def _multi(encoded: bytes, column: Column) -> bytes:
    size = column.dimension * _FLOAT_SIZE
    if len(encoded) % size:
        raise InvalidPoint(
            f"{len(encoded)} bytes are no whole number of rows of {column.dimension} floats"
        )
    rows = (encoded[start : start + size] for start in range(0, len(encoded), size))
    return b"".join(_framed(_MULTI_ROWS, _framed(_DENSE_DATA, row)) for row in rows)


def _sparse(encoded: bytes) -> bytes:
    if len(encoded) % _SPARSE_SIZE:
        raise InvalidPoint(f"{len(encoded)} bytes are no whole number of indices and values")
    indices, values = decode_sparse(encoded)
    message = qdrant.SparseVector(indices=indices.tolist(), values=values.tolist())
    return bytes(message.SerializeToString())


def _framed(number: int, body: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= _CONTINUES:
        encoded.append(value % _CONTINUES | _CONTINUES)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _vectors(point: qdrant.RetrievedPoint) -> Iterable[tuple[str, bytes]]:
    match point.vectors.WhichOneof("vectors_options"):
        case "vector":
            yield "", _decoded(point.vectors.vector)
        case "vectors":
            for name, output in point.vectors.vectors.vectors.items():
                yield name, _decoded(output)


def _decoded(output: qdrant.VectorOutput) -> bytes:
    match output.WhichOneof("vector"):
        case "dense":
            return dense_bytes(output.dense)
        case "sparse":
            return _sparse_bytes(output.sparse.indices, output.sparse.values)
        case "multi_dense":
            return b"".join([dense_bytes(row) for row in output.multi_dense.vectors])
    # Servers before 1.16 fill the deprecated fields; rows of a multi vector follow each other.
    if output.HasField("indices"):
        return _sparse_bytes(output.indices.data, output.data)
    return np.fromiter(output.data, FLOAT32, len(output.data)).tobytes()


def _sparse_bytes(indices: Sequence[int], values: Sequence[float]) -> bytes:
    return encode_sparse(
        np.fromiter(indices, UINT32, len(indices)), np.fromiter(values, FLOAT32, len(values))
    )
