"""What is made canonical before it is recorded comes back from the engine as it was written."""

import math
import struct
from collections.abc import AsyncIterator, Callable
from random import Random, SystemRandom
from uuid import uuid4

import pytest_asyncio

from adapters.qdrant.store import QdrantStore
from domain.model.canonical import canonical_float, points_of
from domain.model.points import decode_payload
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from tests.infra.qdrant import endpoint

SCHEMA = CollectionSchema({"": VectorSpec(VectorKind.DENSE, 1, Distance.DOT)})
COUNT = 20_000
A_PAYLOAD = 200


def doubles(random: Random) -> list[float]:
    """Floats as people have them, and any at all."""
    kinds: list[Callable[[], float]] = [
        lambda: random.uniform(-1, 1),
        lambda: random.uniform(-1e6, 1e6),
        lambda: random.gauss(0, 1) * 10 ** random.randint(-300, 300),
        lambda: random.randint(-(10**9), 10**9) / 1000,
        lambda: struct.unpack("<d", random.randbytes(8))[0],
    ]
    found = (random.choice(kinds)() for _ in range(2 * COUNT))
    return [number for number in found if math.isfinite(number)][:COUNT]


@pytest_asyncio.fixture
async def store(qdrant_url: str) -> AsyncIterator[QdrantStore]:
    async with QdrantStore(endpoint(qdrant_url), random=SystemRandom()) as store:
        yield store


async def test_every_bit_of_a_payload_comes_back(store: QdrantStore) -> None:
    name = f"floats_{uuid4().hex[:12]}"
    given = doubles(Random(7))
    documents = [
        {"id": n, "payload": {"floats": given[n : n + A_PAYLOAD]}, "vector": [1.0]}
        for n in range(0, COUNT, A_PAYLOAD)
    ]
    points = points_of(SCHEMA, documents)
    await store.create(name, SCHEMA)
    await store.upsert(name, points)
    stored = await store.retrieve(name, points.keys)
    await store.drop(name)
    assert stored.payloads == points.payloads
    wrong = [f for f in given if canonical_float(f) != f]
    assert 0 < len(wrong) < COUNT / 5
    for number in given:
        moved = abs(canonical_float(number) - number)
        assert moved <= (1 if 1e-6 < abs(number) < 1e7 else 100) * math.ulp(number)
    first = decode_payload(points.payloads[0])["floats"]
    assert first == [canonical_float(number) for number in given[:A_PAYLOAD]]
