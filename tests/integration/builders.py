"""Points and schemas that worlds are filled with; the same seed, the same bits."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any
from uuid import UUID

import numpy as np

from domain.model.points import PointBatch, encode_dense, encode_payload, encode_sparse, key_of
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec

DOCS = CollectionSchema(
    {"": VectorSpec(VectorKind.DENSE, 8, Distance.COSINE)},
    {"source_id": {"type": "keyword"}},
)
CODE = CollectionSchema(
    {
        "text": VectorSpec(VectorKind.DENSE, 6, Distance.DOT),
        "words": VectorSpec(VectorKind.SPARSE),
    }
)


def document_points(
    sources: Sequence[Any], *, first: int = 1, seed: int = 1, payload: Mapping[str, Any] = {}
) -> PointBatch:
    """A point for `DOCS` for each source; every third id is a UUID."""
    random, numbers = Random(seed), np.random.default_rng(seed)
    ids = [
        UUID(int=random.getrandbits(128)) if number % 3 == 0 else number
        for number in range(first, first + len(sources))
    ]
    vectors: list[bytes | None] = []
    for _ in sources:
        vector = numbers.standard_normal(8)
        vectors.append(encode_dense(vector / np.linalg.norm(vector)))
    return PointBatch(
        keys=[key_of(one) for one in ids],
        payloads=[
            encode_payload({"source_id": source, "n": n, "third": n / 3, **payload})
            for n, source in enumerate(sources)
        ],
        vectors={"": vectors},
    )


def code_points(sources: Sequence[Any], *, first: int = 1, seed: int = 2) -> PointBatch:
    """A point for `CODE` for each source; every fifth lacks its sparse vector."""
    numbers = np.random.default_rng(seed)
    dense: list[bytes | None] = [encode_dense(numbers.standard_normal(6)) for _ in sources]
    sparse: list[bytes | None] = [
        None
        if n % 5 == 0
        else encode_sparse(numbers.choice(1000, 4, replace=False), numbers.standard_normal(4))
        for n, _ in enumerate(sources)
    ]
    return PointBatch(
        keys=[key_of(first + n) for n, _ in enumerate(sources)],
        payloads=[
            encode_payload({"source_id": source, "path": f"src/{n}.py"})
            for n, source in enumerate(sources)
        ],
        vectors={"text": dense, "words": sparse},
    )
