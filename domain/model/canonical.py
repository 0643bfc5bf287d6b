"""Points as applications write them, made canonical for a collection before they are recorded.

What a store would change is changed here: vectors of cosine collections get unit length (in
float64, then cast), because Qdrant keeps those bit for bit, within 1e-6 of unit length.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from domain.model.errors import InvalidPoint, Rejected
from domain.model.points import (
    FLOAT32,
    PointBatch,
    decode_payload,
    encode_payload,
    encode_sparse,
    id_of,
    key_of,
)
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec

UNIT_TOLERANCE = 5e-7
"""How far the squared length of a vector may be from 1 and the vector be kept as it is."""

EXACT = frozenset({"Default", "Float32"})
"""Datatypes that keep every bit, in the words of Qdrant."""

MOST_INDEX = 2**32 - 1
LARGEST_POWER = 308
"""Of ten, that a float holds."""

MOST_UNITS = 1000
"""In the last place, that a float may be moved: 1 is enough from 1e-6 to 1e7, 43 was the most."""

EXACT_DIGITS = 16
"""Characters of a float whose digits and power of ten are exact as floats."""
FIELDS = frozenset({"id", "payload", "vector"})

Document = Mapping[str, Any]


def refuse_lossy(schema: CollectionSchema) -> None:
    """Refuse a collection that does not keep the vectors that are written to it.

    Raises:
        Rejected: with the vectors that it rounds.
    """
    rounded = {
        f"{name!r} as {kind}"
        for name, spec in schema.vectors.items()
        for settings in (spec.settings, spec.settings.get("index", {}))
        if (kind := settings.get("datatype", "Default")) not in EXACT
    }
    if rounded:
        raise Rejected(
            f"the collection stores vector {', '.join(sorted(rounded))}, which rounds what is "
            "written, so that what is recorded would not be what is stored; write to a collection "
            "with float32 vectors"
        )


def points_of(schema: CollectionSchema, documents: Sequence[Document]) -> PointBatch:
    """Points from JSON: `id`, `payload`, and `vector`, which is a list or has one for each name.

    A dense vector is a list of numbers, a multi-vector a list of these, a sparse one has `indices`
    and `values`. Of points with the same id the last one counts.

    Raises:
        InvalidPoint: something that the collection cannot take, with the id.
    """
    unique = {_key(document): document for document in documents}
    given = {key: _vectors(schema, key, document) for key, document in unique.items()}
    return PointBatch(
        keys=list(unique),
        payloads=[
            _of(key, encode_canonical, document.get("payload") or {})
            for key, document in unique.items()
        ],
        vectors={
            name: _column(spec, name, [(key, vectors.get(name)) for key, vectors in given.items()])
            for name, spec in schema.vectors.items()
        },
    )


def keys_of(documents: Iterable[Any]) -> list[bytes]:
    """Keys of points from JSON: ids, or objects with nothing but an `id`; each once.

    Raises:
        InvalidPoint: something else.
    """
    found: dict[bytes, None] = {}
    for document in documents:
        if isinstance(document, Mapping):
            _refuse_other_fields(document, frozenset({"id"}))
        found[key_of(document["id"] if isinstance(document, Mapping) else document)] = None
    return list(found)


def payloads_of(documents: Iterable[Document]) -> dict[bytes, dict[str, Any]]:
    """Payload fields to be set from JSON, by key: `id` and `payload`.

    Fields for the same id are merged, the last one wins.

    Raises:
        InvalidPoint: no id, no object under `payload`, or something that JSON cannot say.
    """
    found: dict[bytes, dict[str, Any]] = {}
    for document in documents:
        _refuse_other_fields(document, frozenset({"id", "payload"}))
        key, payload = key_of(document["id"]), document.get("payload")
        if not isinstance(payload, dict):
            raise InvalidPoint(f"point {id_of(key)}: `payload` must be an object with fields")
        canonical = decode_payload(_of(key, encode_canonical, payload))
        found.setdefault(key, {}).update(canonical)
    return found


def canonical_rows(
    spec: VectorSpec, rows: npt.NDArray[Any], owners: Sequence[bytes], name: str
) -> npt.NDArray[np.float32]:
    """Rows of dense vectors as a store keeps them.

    Args:
        spec: of the vector.
        rows: `(n, dimension)` floats.
        owners: key of the point that each row belongs to, for errors.
        name: of the vector.

    Returns:
        `(n, dimension)` float32, C-contiguous.

    Raises:
        InvalidPoint: NaN, infinity, a number beyond float32, or another dimension.
    """
    if rows.shape[1] != spec.dimension:
        raise InvalidPoint(
            f"point {id_of(owners[0])}: {vector_named(name)} has {rows.shape[1]} numbers, and the "
            f"collection takes {spec.dimension}"
        )
    wide = rows.astype(np.float64, copy=False)
    with np.errstate(over="ignore"):  # becomes infinity, which is refused
        kept = np.array(rows, dtype=FLOAT32, order="C")  # a copy, which may be changed
    finite = np.isfinite(kept).all(axis=1)
    if not finite.all():
        raise InvalidPoint(
            f"point {id_of(owners[int(np.argmin(finite))])}: {vector_named(name)} has NaN, "
            "infinity, or a number beyond float32"
        )
    if spec.distance is not Distance.COSINE:
        return kept
    squares = np.einsum("ij,ij->i", kept, kept, dtype=np.float64)
    wrong = np.abs(squares - 1.0) > UNIT_TOLERANCE
    lengths = np.linalg.norm(wide[wrong], axis=1, keepdims=True)
    unit = np.divide(wide[wrong], lengths, out=np.zeros_like(wide[wrong]), where=lengths > 0)
    kept[wrong] = unit
    return kept


def dense_vectors(
    spec: VectorSpec, rows: npt.NDArray[Any], keys: Sequence[bytes], name: str
) -> list[bytes]:
    """Encoded dense vectors, one a point, made canonical; see `canonical_rows`."""
    return [row.tobytes() for row in canonical_rows(spec, rows, keys, name)]


def multi_vectors(
    spec: VectorSpec,
    rows: npt.NDArray[Any],
    keys: Sequence[bytes],
    counts: Sequence[int],
    name: str,
) -> list[bytes]:
    """Encoded multi-vectors, `counts` rows a point, made canonical; see `canonical_rows`."""
    owners = [key for key, count in zip(keys, counts, strict=True) for _ in range(count)]
    kept = canonical_rows(spec, rows, owners, name)
    return [part.tobytes() for part in np.split(kept, np.cumsum(counts)[:-1])]


def canonical_float(number: float) -> float:
    """The float nearest to a number that the Qdrant engine gives back as it was written.

    The engine keeps payloads as JSON text, and reads the digits of a float as an integer that is
    scaled by a power of ten (serde_json without `float_roundtrip`, `f64_from_parts`). For about a
    tenth of all floats with 16 and more digits that is another float, one unit in the last place
    away, or more where the power is large.

    Raises:
        InvalidPoint: there is none near it.
    """
    text = repr(number)
    if not math.isfinite(number) or (len(text) <= EXACT_DIGITS and "e" not in text):
        return number  # of few digits, which are read exactly
    below = above = number
    for _ in range(MOST_UNITS):
        for candidate in (below, above):
            if _as_read(candidate) == candidate:
                return candidate
        below, above = math.nextafter(below, -math.inf), math.nextafter(above, math.inf)
    raise InvalidPoint(f"{number!r} is a number that the Qdrant engine does not keep")


def _as_read(number: float) -> float:
    if number == 0 or not math.isfinite(number):
        return number
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    power = int(exponent)
    read = float(int("".join(map(str, digits))))
    while power < -LARGEST_POWER:
        read, power = read / 10.0**LARGEST_POWER, power + LARGEST_POWER
    read = read * float(f"1e{power}") if power >= 0 else read / float(f"1e{-power}")
    return -read if sign else read


def encode_canonical(payload: Mapping[str, Any]) -> bytes:
    """The canonical JSON of a payload, floats as the engine gives them back.

    Raises:
        InvalidPoint: NaN, infinity, an integer beyond int64, or a value that is not JSON.
    """
    return encode_payload(_canonical_payload(payload))


def _canonical_payload(payload: Any) -> Any:
    """A payload with floats as the engine gives them back."""
    if isinstance(payload, float):
        return canonical_float(payload)
    if isinstance(payload, dict):
        return {name: _canonical_payload(value) for name, value in payload.items()}
    if isinstance(payload, list):
        return [_canonical_payload(value) for value in payload]
    return payload


def canonical_sparse(indices: npt.ArrayLike, values: npt.ArrayLike) -> bytes:
    """An encoded sparse vector of numbers as they are given.

    Raises:
        InvalidPoint: indices that are no whole numbers of 32 bits, values that are no numbers,
            repeated indices, or lengths that differ.
    """
    try:
        index, value = np.array(indices), np.array(values)
    except ValueError as error:
        raise InvalidPoint("indices and values must be lists of numbers") from error
    if index.ndim != 1 or value.ndim != 1:
        raise InvalidPoint("indices and values must be lists of numbers")
    if index.size and (index.dtype.kind not in "iu" or index.min() < 0 or index.max() > MOST_INDEX):
        raise InvalidPoint(f"an index is a whole number from 0 to {MOST_INDEX}")
    if value.size and value.dtype.kind not in "iuf":
        raise InvalidPoint("values must be numbers")
    return encode_sparse(index, value)


def _key(document: Any) -> bytes:
    if not isinstance(document, Mapping):
        raise InvalidPoint("a point is an object with `id`, `payload` and `vector`")
    _refuse_other_fields(document, FIELDS)
    key = key_of(document["id"])
    if not isinstance(document.get("payload"), dict | None):
        raise InvalidPoint(f"point {id_of(key)}: `payload` must be an object with fields")
    return key


def _refuse_other_fields(document: Any, fields: frozenset[str]) -> None:
    if not isinstance(document, Mapping):
        raise InvalidPoint(f"expected an object with {', '.join(sorted(fields))}")
    if "id" not in document:
        raise InvalidPoint("a point has no `id`")
    other = sorted(document.keys() - fields)
    if other:
        raise InvalidPoint(
            f"point {document['id']}: unknown field {other[0]!r}; there are "
            f"{', '.join(sorted(fields))}"
        )


def _vectors(schema: CollectionSchema, key: bytes, document: Document) -> dict[str, Any]:
    """The vectors of a point by name.

    Raises:
        InvalidPoint: there are none, or one that the collection does not have.
    """
    vector = document.get("vector")
    if vector is None:
        raise InvalidPoint(
            f"point {id_of(key)} has no `vector`; an upsert replaces the whole point, to change "
            'its payload use set-payload (or say `"vector": {}`)'
        )
    vectors = vector if isinstance(vector, dict) else {"": vector}
    unknown = sorted(vectors.keys() - schema.vectors.keys())
    if unknown:
        listed = ", ".join(vector_named(name) for name in sorted(schema.vectors))
        raise InvalidPoint(
            f"point {id_of(key)}: the collection has no {vector_named(unknown[0])}; it has {listed}"
        )
    return vectors


def _column(spec: VectorSpec, name: str, given: Sequence[tuple[bytes, Any]]) -> list[bytes | None]:
    """Encoded vectors of points, None where a point has none."""
    present = [(key, vector) for key, vector in given if vector is not None]
    encode = {
        VectorKind.DENSE: _dense,
        VectorKind.MULTI: _multi,
        VectorKind.SPARSE: _sparse,
    }[spec.kind]
    encoded = iter(encode(spec, name, present) if present else [])
    return [None if vector is None else next(encoded) for _, vector in given]


def _dense(spec: VectorSpec, name: str, given: Sequence[tuple[bytes, Any]]) -> list[bytes]:
    keys = [key for key, _ in given]
    rows = _array(spec, name, keys, [vector for _, vector in given])
    return dense_vectors(spec, rows, keys, name)


def _multi(spec: VectorSpec, name: str, given: Sequence[tuple[bytes, Any]]) -> list[bytes]:
    for key, vectors in given:
        if not isinstance(vectors, list) or not vectors:
            raise InvalidPoint(
                f"point {id_of(key)}: {vector_named(name)} must be a list of vectors"
            )
    owners = [key for key, vectors in given for _ in vectors]
    rows = _array(spec, name, owners, [row for _, vectors in given for row in vectors])
    counts = [len(vectors) for _, vectors in given]
    return multi_vectors(spec, rows, [key for key, _ in given], counts, name)


def _sparse(_spec: VectorSpec, name: str, given: Sequence[tuple[bytes, Any]]) -> list[bytes]:
    encoded = []
    for key, vector in given:
        if not isinstance(vector, dict) or vector.keys() != {"indices", "values"}:
            raise InvalidPoint(
                f"point {id_of(key)}: {vector_named(name)} is sparse, and takes "
                '{"indices": [...], "values": [...]}'
            )
        try:
            encoded.append(canonical_sparse(vector["indices"], vector["values"]))
        except InvalidPoint as error:
            raise InvalidPoint(f"point {id_of(key)}: {vector_named(name)}: {error}") from error
    return encoded


def _array(
    spec: VectorSpec, name: str, owners: Sequence[bytes], rows: Sequence[Any]
) -> npt.NDArray[Any]:
    """Lists of numbers as `(n, dimension)`; the first one that is none is named."""
    for key, row in zip(owners, rows, strict=True):
        if not isinstance(row, list) or len(row) != spec.dimension:
            found = f"{len(row)} numbers" if isinstance(row, list) else f"{type(row).__name__}"
            raise InvalidPoint(
                f"point {id_of(key)}: {vector_named(name)} is {found}, and the collection takes "
                f"{spec.dimension} numbers"
            )
    try:
        array = np.array(rows)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.ndim != 2 or array.dtype.kind not in "fiu":  # noqa: PLR2004  # rows and columns
        numbers = zip(owners, rows, strict=True)
        bad = next((key for key, row in numbers if not all(map(_is_number, row))), owners[0])
        raise InvalidPoint(
            f"point {id_of(bad)}: {vector_named(name)} has something that is no number"
        )
    return array


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**64


def _of(key: bytes, encode: Any, value: Any) -> bytes:
    """What `encode` makes of a value; errors name the point."""
    try:
        encoded: bytes = encode(value)
    except InvalidPoint as error:
        raise InvalidPoint(f"point {id_of(key)}: {error}") from error
    return encoded


def vector_named(name: str) -> str:
    """A vector in words; one of them may have no name."""
    return f"vector {name!r}" if name else "unnamed vector"
