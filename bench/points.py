"""Points to measure with: unit vectors and payloads as a knowledge base has them."""

import asyncio
from collections.abc import Iterator

import numpy as np

from domain.model.points import PointBatch, encode_payload, key_of
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.ports import VectorStore

_TEXT = """
adopt alias batch body change cluster collection commit cursor digest event filter flow generation
hash head index ledger migration node object partition payload point position query range receipt
record relay replica route score shard snapshot source store stream topic transform vector version
"""
WORDS = tuple(_TEXT.split())
BATCH = 1000


def schema(dimension: int) -> CollectionSchema:
    """One unnamed cosine vector, and an index on the source."""
    vector = VectorSpec(VectorKind.DENSE, dimension, Distance.COSINE)
    return CollectionSchema({"": vector}, {"source_id": {"type": "keyword"}})


def batches(
    count: int, dimension: int, sources: int, *, seed: int = 1, first: int = 1
) -> Iterator[PointBatch]:
    """`count` points in batches: ids from `first`, `sources` sources in turn, texts of 40 words."""
    random = np.random.default_rng(seed)
    for start in range(first, first + count, BATCH):
        size = min(BATCH, first + count - start)
        vectors = random.standard_normal((size, dimension))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        words = random.integers(0, len(WORDS), (size, 40))
        numbers = range(start, start + size)
        yield PointBatch(
            keys=[key_of(number) for number in numbers],
            payloads=[
                encode_payload(
                    {
                        "source_id": str(number % sources + 1),
                        "title": f"chunk {number}",
                        "page": number // 7,
                        "text": " ".join(WORDS[word] for word in row),
                    }
                )
                for number, row in zip(numbers, words, strict=True)
            ],
            vectors={"": [row.tobytes() for row in vectors.astype("<f4")]},
        )


def parts(count: int, dimension: int, sources: int, size: int) -> list[PointBatch]:
    """The same points in batches of another size, all of them in memory."""
    return [
        whole.take(range(start, min(start + size, len(whole))))
        for whole in batches(count, dimension, sources)
        for start in range(0, len(whole), size)
    ]


async def fill(
    store: VectorStore, name: str, count: int, dimension: int, sources: int, *, seed: int = 1
) -> None:
    """Make a collection that holds `count` points."""
    await store.create(name, schema(dimension))
    waiting = batches(count, dimension, sources, seed=seed)
    while (batch := await asyncio.to_thread(next, waiting, None)) is not None:
        await store.upsert(name, batch)
