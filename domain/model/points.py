"""Points as the ledger keeps them: columns of bytes, made canonical before they are recorded.

A point has an id, a payload and vectors. In a `PointBatch` each is a column of bytes that is
hashed, stored and sent as it stands, so that what comes back is equal bit for bit:

- id: a key whose byte order is Qdrant's scroll order (integers, then UUIDs);
- payload: JSON with sorted keys;
- vector: little-endian float32, see `encode_dense` and `encode_sparse`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from operator import lt
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson

from domain.model.errors import InvalidPoint

FLOAT32 = np.dtype("<f4")
UINT32 = np.dtype("<u4")

INTEGER_KEY = b"\x00"
UUID_KEY = b"\x01"
HASH_SIZE = 16

ERASED = b""
"""The payload of a point that was erased: no JSON, so no point has it."""

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
UINT64_MAX = 2**64 - 1


def key_of(point_id: int | str | UUID) -> bytes:
    """The key of a point id: 9 bytes for an integer, 17 for a UUID.

    Raises:
        InvalidPoint: neither an unsigned 64-bit integer nor a UUID.
    """
    if isinstance(point_id, int) and not isinstance(point_id, bool):
        if 0 <= point_id <= UINT64_MAX:
            return INTEGER_KEY + point_id.to_bytes(8, "big")
        raise InvalidPoint(f"point id {point_id} is not an unsigned 64-bit integer")
    try:
        return UUID_KEY + (point_id if isinstance(point_id, UUID) else UUID(str(point_id))).bytes
    except ValueError as error:
        raise InvalidPoint(f"point id {point_id!r} is neither an integer nor a UUID") from error


def id_of(key: bytes) -> int | str:
    """The point id of a key: an integer, or a UUID in its canonical text form."""
    if key[:1] == INTEGER_KEY:
        return int.from_bytes(key[1:], "big")
    return str(UUID(bytes=key[1:]))


def encode_payload(payload: Mapping[str, Any]) -> bytes:
    """The canonical JSON of a payload: sorted keys, UTF-8, integers and floats kept apart.

    Raises:
        InvalidPoint: NaN, infinity, an integer beyond int64, or a value that is not JSON.
    """
    _refuse_unstorable(payload, "payload")
    try:
        return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise InvalidPoint(f"payload is not JSON: {error}") from error


def decode_payload(payload: bytes) -> dict[str, Any]:
    """The payload that a canonical JSON text holds."""
    decoded: dict[str, Any] = orjson.loads(payload)
    return decoded


def _refuse_unstorable(value: Any, path: str) -> None:
    if isinstance(value, str | bool) or value is None:
        return
    if isinstance(value, int):
        if not INT64_MIN <= value <= INT64_MAX:
            raise InvalidPoint(f"{path}: {value} does not fit into a 64-bit integer")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidPoint(f"{path}: {value} is not a finite number")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_unstorable(inner, f"{path}.{key}")
    elif isinstance(value, Sequence):
        for index, inner in enumerate(value):
            _refuse_unstorable(inner, f"{path}[{index}]")
    else:
        raise InvalidPoint(f"{path}: {type(value).__name__} is not JSON")


def encode_dense(vector: npt.ArrayLike) -> bytes:
    """The bytes of a dense `(dimension,)` or a multi `(count, dimension)` vector.

    Raises:
        InvalidPoint: NaN, infinity, or a number beyond float32.
    """
    with np.errstate(over="ignore"):  # becomes infinity, which is refused
        array = np.ascontiguousarray(vector, dtype=FLOAT32)
    if not np.isfinite(array).all():
        raise InvalidPoint("vector has NaN or infinity")
    return array.tobytes()


def encode_sparse(indices: npt.ArrayLike, values: npt.ArrayLike) -> bytes:
    """The bytes of a sparse vector: n uint32 indices in ascending order, then n float32 values.

    Raises:
        InvalidPoint: NaN or infinity, repeated indices, or lengths that differ.
    """
    index_array = np.asarray(indices, dtype=UINT32)
    with np.errstate(over="ignore"):  # becomes infinity, which is refused
        value_array = np.asarray(values, dtype=FLOAT32)
    if index_array.shape != value_array.shape:
        raise InvalidPoint(f"{index_array.size} indices for {value_array.size} values")
    order = np.argsort(index_array, kind="stable")
    index_array, value_array = index_array[order], value_array[order]
    if index_array.size and (np.diff(index_array.astype(np.int64)) == 0).any():
        raise InvalidPoint("sparse vector repeats an index")
    if not np.isfinite(value_array).all():
        raise InvalidPoint("vector has NaN or infinity")
    return index_array.tobytes() + value_array.tobytes()


def decode_sparse(
    encoded: bytes,
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """Indices `(n,)` and values `(n,)` of an encoded sparse vector."""
    count = len(encoded) // 8
    return (
        np.frombuffer(encoded, dtype=UINT32, count=count),
        np.frombuffer(encoded, dtype=FLOAT32, offset=4 * count),
    )


@dataclass(frozen=True)
class PointBatch:
    """Some points of one collection, by column.

    Attributes:
        keys: id keys, see `key_of`.
        payloads: canonical JSON of each point.
        vectors: by vector name (the unnamed one is ``""``), the encoded vector of each point, or
            None where a point lacks it.
    """

    keys: list[bytes]
    payloads: list[bytes]
    vectors: dict[str, list[bytes | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def hashes(self) -> list[bytes]:
        """The 128-bit BLAKE2b hash of each point: its id, payload and vectors, each with length."""
        names = sorted(self.vectors)
        columns = [self.vectors[name] for name in names]
        prefixes = [_framed(name.encode()) for name in names]
        hashes = []
        for index, (key, payload) in enumerate(zip(self.keys, self.payloads, strict=True)):
            digest = blake2b(_framed(key) + _framed(payload), digest_size=HASH_SIZE)
            for prefix, column in zip(prefixes, columns, strict=True):
                vector = column[index]
                if vector is not None:
                    digest.update(prefix + len(vector).to_bytes(4, "big"))
                    digest.update(vector)
            hashes.append(digest.digest())
        return hashes

    def size(self) -> int:
        """Bytes of all keys, payloads and vectors."""
        vectors = [vector or b"" for column in self.vectors.values() for vector in column]
        return sum(map(len, [*self.keys, *self.payloads, *vectors]))

    def there(self) -> "PointBatch":
        """The points that were not erased."""
        if ERASED not in self.payloads:
            return self
        return self.take([row for row, payload in enumerate(self.payloads) if payload != ERASED])

    def take(self, rows: Sequence[int]) -> "PointBatch":
        """The points at these rows, in this order."""
        return PointBatch(
            keys=[self.keys[row] for row in rows],
            payloads=[self.payloads[row] for row in rows],
            vectors={name: [column[row] for row in rows] for name, column in self.vectors.items()},
        )

    @classmethod
    def concatenate(cls, batches: Sequence["PointBatch"]) -> "PointBatch":
        """All points of several batches; a vector that a batch does not have is missing there."""
        names = {name for batch in batches for name in batch.vectors}
        return cls(
            keys=[key for batch in batches for key in batch.keys],
            payloads=[payload for batch in batches for payload in batch.payloads],
            vectors={
                name: [
                    vector
                    for batch in batches
                    for vector in batch.vectors.get(name, [None] * len(batch))
                ]
                for name in names
            },
        )


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


class Digest:
    """SHA-256 over (key, hash) pairs in ascending key order: the digest of a version."""

    def __init__(self) -> None:
        self._sha = sha256()
        self._last = b""
        self.points = 0

    def add(self, key: bytes, point_hash: bytes) -> None:
        """Add the next point.

        Raises:
            ValueError: the key does not come after the previous one.
        """
        self.extend([key], [point_hash])

    def extend(self, keys: Sequence[bytes], hashes: Sequence[bytes]) -> None:
        """Add the next points.

        Raises:
            ValueError: a key does not come after the one before.
        """
        if not all(map(lt, [self._last, *keys], keys)):
            raise ValueError("digest needs keys in ascending order, each once")
        self._last = keys[-1] if keys else self._last
        self._sha.update(
            b"".join([_framed(key) + hash_ for key, hash_ in zip(keys, hashes, strict=True)])
        )
        self.points += len(keys)

    def hexdigest(self) -> str:
        """The digest so far, in hexadecimal."""
        return self._sha.hexdigest()
