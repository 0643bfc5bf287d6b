"""Search collections as they were, by the ledger and its objects alone.

Every point of a version is looked at, so the answer is exact, where a store's index may miss some.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import numpy.typing as npt

from domain.model.errors import Rejected
from domain.model.points import FLOAT32, PointBatch, decode_payload
from domain.model.schema import Distance, VectorKind, VectorSpec
from domain.ports import Hit
from domain.use_cases.read_version import read_version
from domain.use_cases.tools import Tools, recorded_schema
from domain.use_cases.versions import Place

Scores = npt.NDArray[np.float32]


async def search_versions(
    tools: Tools,
    places: Sequence[Place],
    vector: Sequence[float],
    *,
    using: str = "",
    limit: int = 10,
    match: Mapping[str, str] | None = None,
) -> list[Hit]:
    """The nearest points over versions of collections, best first.

    Memory stays at a page of points.

    Args:
        tools: the ports.
        places: the versions.
        vector: `(dimension,)` query vector.
        using: vector name; the unnamed one by default.
        limit: results.
        match: payload field to keyword value that every result must have.

    Raises:
        Rejected: a version has no such vector, or it is sparse, or of another dimension.
        Corrupt: a body is missing or altered.
    """
    query = np.asarray(vector, dtype=FLOAT32)
    best: list[Hit] = []
    for place in places:
        schema = await recorded_schema(tools.ledger, place.status.generation)
        spec = _searchable(schema.vectors, using, len(vector), place)
        async with aclosing(read_version(tools, place)) as pages:
            async for points in pages:
                found = await asyncio.to_thread(
                    _nearest, points, spec, using, query, limit, match or {}, place.status.physical
                )
                best = sorted([*best, *found], key=lambda hit: (-hit.score, hit.key))[:limit]
    return best


def _searchable(
    vectors: Mapping[str, VectorSpec], using: str, dimension: int, place: Place
) -> VectorSpec:
    spec = vectors.get(using)
    if spec is None:
        named = ", ".join(repr(name) for name in sorted(vectors))
        raise Rejected(
            f"{place.status.physical!r} has no vector {using!r}; it has {named} (see --using)"
        )
    if spec.kind is VectorKind.SPARSE:
        raise Rejected(f"vector {using!r} is sparse, and the query is dense")
    if spec.dimension != dimension:
        raise Rejected(
            f"the embedder makes {dimension} numbers, and {place.status.physical!r} has "
            f"{spec.dimension} at that version; choose another --embedder"
        )
    return spec


def _nearest(
    points: PointBatch,
    spec: VectorSpec,
    using: str,
    query: Scores,
    limit: int,
    match: Mapping[str, str],
    physical: str,
) -> list[Hit]:
    """The nearest points of a page."""
    column = points.vectors.get(using, [None] * len(points))
    rows = [
        row for row, vector in enumerate(column) if vector and _matches(points.payloads[row], match)
    ]
    if not rows:
        return []
    encoded = [column[row] or b"" for row in rows]
    matrix = np.frombuffer(b"".join(encoded), FLOAT32).reshape(-1, spec.dimension)
    scores = _scores(matrix, query, spec.distance)
    if spec.kind is VectorKind.MULTI:  # the nearest of its rows
        counts = [len(vector) // (4 * spec.dimension) for vector in encoded]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        scores = np.maximum.reduceat(scores, starts)
    order = np.argsort(-scores, kind="stable")[:limit]
    return [
        Hit(points.keys[rows[n]], float(scores[n]), points.payloads[rows[n]], physical)
        for n in order
    ]


def _scores(matrix: Scores, query: Scores, distance: Distance | None) -> Scores:
    """How near each row is, as stores compute it; higher is nearer."""
    scores: npt.NDArray[Any]
    if distance is Distance.EUCLID:
        scores = -np.linalg.norm(matrix - query, axis=1)
    elif distance is Distance.MANHATTAN:
        scores = -np.abs(matrix - query).sum(axis=1)
    elif distance is Distance.COSINE:
        length = float(np.linalg.norm(query))
        scores = matrix @ (query / length if length else query)
    else:
        scores = matrix @ query
    return scores.astype(FLOAT32)


def _matches(payload: bytes, match: Mapping[str, str]) -> bool:
    """Whether a payload has these keyword values, itself or in a list."""
    if not match:
        return True
    fields = decode_payload(payload)
    return all(
        value in found if isinstance(found := fields.get(name), list) else found == value
        for name, value in match.items()
    )
