"""What every vector store must do. A test class that subclasses this gives the fixture `store`.

Nothing here assumes an empty store, or one of our own: names are new for every test.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
import pytest_asyncio

from domain.model.errors import NotFound, Rejected
from domain.model.points import (
    PointBatch,
    decode_payload,
    encode_dense,
    encode_payload,
    encode_sparse,
    key_of,
)
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.model.timeline import Witness
from domain.ports import VectorStore

UNNAMED = CollectionSchema({"": VectorSpec(VectorKind.DENSE, 4, Distance.DOT)})
MIXED = CollectionSchema(
    {
        "text": VectorSpec(VectorKind.DENSE, 3, Distance.COSINE),
        "rows": VectorSpec(VectorKind.MULTI, 2, Distance.DOT),
        "words": VectorSpec(VectorKind.SPARSE),
    }
)
WITNESS = Witness(
    where="a collection",
    position=812,
    hash="ab" * 32,
    timeline=2,
    ledger="6f1c2a52-1d57-4a53-9b0e-3c5f6a0d9e11",
    generation="00112233-4455-6677-8899-aabbccddeeff",
    version=7,
)
PAYLOADS: list[dict[str, Any]] = [
    {},
    {"integer": 1, "float": 1.0, "zero": -0.0, "most": 2**63 - 1, "least": -(2**63)},
    {"tiny": 5e-324, "third": 1 / 3, "big": 1e300},
    {"text": "čaj 茶 🍵\n\u0000", "empty": "", "": "no name"},
    {"null": None, "list": [], "object": {}, "yes": True, "deep": [{"a": [[], {"b": [1, 1.0]}]}]},
]


def dense(count: int, dimension: int = 4, *, seed: int = 7) -> list[bytes | None]:
    """Vectors with full mantissas, as random numbers have them."""
    rows = np.random.default_rng(seed).standard_normal((count, dimension))
    return [encode_dense(row) for row in rows]


def numbered(count: int, *, start: int = 1) -> PointBatch:
    """Points with integer ids and one payload field."""
    return PointBatch(
        keys=[key_of(number) for number in range(start, start + count)],
        payloads=[encode_payload({"n": number}) for number in range(start, start + count)],
        vectors={"": dense(count, seed=start)},
    )


async def everything(
    store: VectorStore, name: str, *, after: bytes = b"", page: int = 500
) -> PointBatch:
    return PointBatch.concatenate(
        [batch async for batch in store.scan(name, after=after, page=page)]
    )


class VectorStoreContract:
    """The suite."""

    @pytest_asyncio.fixture
    async def name(self, store: VectorStore) -> AsyncIterator[str]:
        name = f"contract-{uuid4().hex}"
        yield name
        for alias, target in (await store.aliases()).items():
            if target.startswith(name):
                await store.remove_alias(alias)
        for collection in await store.collections():
            if collection.startswith(name):
                await store.drop(collection)

    async def test_version_is_a_version(self, store: VectorStore) -> None:
        assert (await store.version()).split(".")[0].isdigit()

    async def test_created_collection_is_listed_and_described(
        self, store: VectorStore, name: str
    ) -> None:
        assert await store.describe(name) is None
        await store.create(name, UNNAMED)
        await store.create(name, UNNAMED)
        assert name in await store.collections()
        description = await store.describe(name)
        assert description is not None
        assert (description.name, description.points) == (name, 0)
        assert UNNAMED.differences(description.schema) == ()

    async def test_collection_made_after_another_has_its_schema(
        self, store: VectorStore, name: str
    ) -> None:
        schema = CollectionSchema(
            vectors=MIXED.vectors,
            indexes={
                "tenant": {"type": "keyword", "is_tenant": True},
                "n": {"type": "integer", "lookup": True, "range": False},
            },
            settings={
                "hnsw_config": {"m": 24, "ef_construct": 128},
                "optimizers_config": {"deleted_threshold": 0.3, "indexing_threshold": 5000},
                "metadata": {"owner": "search", "level": 1, "share": 1.0},
            },
        )
        await store.create(name, schema)
        first = await store.describe(name)
        assert first is not None
        await store.create(f"{name}-2", CollectionSchema.from_json(first.schema.to_json()))
        second = await store.describe(f"{name}-2")
        assert second is not None
        assert second.schema == first.schema
        assert first.schema.indexes["tenant"]["is_tenant"] is True
        assert first.schema.settings["hnsw_config"]["m"] == 24
        assert repr(first.schema.settings["metadata"]["share"]) == "1.0"
        assert repr(first.schema.settings["metadata"]["level"]) == "1"

    async def test_other_vectors_under_the_same_name_are_rejected(
        self, store: VectorStore, name: str
    ) -> None:
        await store.create(name, UNNAMED)
        wider = CollectionSchema({"": VectorSpec(VectorKind.DENSE, 5, Distance.DOT)})
        with pytest.raises(Rejected, match=r"dense 5 dot here and dense 4 dot there"):
            await store.create(name, wider)

    async def test_missing_indexes_are_made_in_a_collection_that_exists(
        self, store: VectorStore, name: str
    ) -> None:
        await store.create(name, UNNAMED)
        indexed = CollectionSchema(UNNAMED.vectors, {"kind": {"type": "keyword"}})
        await store.create(name, indexed)
        description = await store.describe(name)
        assert description is not None
        assert description.schema.indexes["kind"]["type"] == "keyword"

    async def test_dropped_collection_is_gone(self, store: VectorStore, name: str) -> None:
        await store.create(name, UNNAMED)
        await store.drop(name)
        await store.drop(name)
        assert name not in await store.collections()
        with pytest.raises(NotFound, match=name):
            await store.count(name)

    async def test_collection_that_does_not_exist_is_not_found(
        self, store: VectorStore, name: str
    ) -> None:
        with pytest.raises(NotFound):
            await store.upsert(name, numbered(1))
        with pytest.raises(NotFound):
            await store.delete(name, [key_of(1)])
        with pytest.raises(NotFound):
            await store.retrieve(name, [key_of(1)])
        with pytest.raises(NotFound):
            await everything(store, name)
        with pytest.raises(NotFound):
            await store.search(name, [1, 0, 0, 0])
        with pytest.raises(NotFound):
            await store.point_alias(f"{name}-alias", name)

    async def test_points_come_back_bit_for_bit(self, store: VectorStore, name: str) -> None:
        await store.create(name, UNNAMED)
        vectors: list[bytes | None] = [
            encode_dense([0.0, -0.0, 1e-45, 3.4e38]),
            *dense(len(PAYLOADS) - 1),
        ]
        ids = [0, 2**64 - 1, UUID(int=1), UUID(int=2**128 - 1), 7]
        points = PointBatch([key_of(i) for i in ids], [encode_payload(p) for p in PAYLOADS], {})
        points.vectors[""] = vectors
        await store.upsert(name, points)
        expected = points.take(sorted(range(len(points)), key=lambda row: points.keys[row]))
        assert await everything(store, name) == expected
        assert await store.retrieve(name, [*points.keys, key_of(99)]) == expected

    async def test_vectors_of_every_kind_come_back_bit_for_bit(
        self, store: VectorStore, name: str
    ) -> None:
        await store.create(name, MIXED)
        unit = np.array([0.6, 0.0, 0.8]) / np.linalg.norm([0.6, 0.0, 0.8])
        points = PointBatch(
            keys=[key_of(1), key_of(2)],
            payloads=[b"{}", b"{}"],
            vectors={
                "text": [encode_dense(unit), None],
                "rows": [None, encode_dense([[1, 2], [3, 1 / 3], [-0.0, 5]])],
                "words": [encode_sparse([9, 2**32 - 1], [0.1, -2]), encode_sparse([3], [1 / 3])],
            },
        )
        await store.upsert(name, points)
        assert await everything(store, name) == points

    async def test_write_replaces_the_whole_point(self, store: VectorStore, name: str) -> None:
        await store.create(name, MIXED)
        key, text = key_of(1), encode_dense([1, 0, 0])
        words = encode_sparse([1], [1])
        before = PointBatch([key], [b'{"a":1}'], {"text": [text], "words": [words]})
        after = PointBatch([key], [b'{"b":2}'], {"text": [text]})
        await store.upsert(name, before)
        await store.upsert(name, after)
        assert (await store.retrieve(name, [key])).hashes() == after.hashes()

    async def test_the_same_point_twice_in_a_batch_is_rejected(
        self, store: VectorStore, name: str
    ) -> None:
        await store.create(name, UNNAMED)
        with pytest.raises(Rejected, match="twice"):
            await store.upsert(name, numbered(2).take([0, 1, 0]))
        assert await store.count(name) == 0

    async def test_vector_that_does_not_fit_is_rejected(
        self, store: VectorStore, name: str
    ) -> None:
        await store.create(name, UNNAMED)
        with pytest.raises(Rejected, match=name):
            await store.upsert(name, PointBatch([key_of(1)], [b"{}"], {"": dense(1, 5)}))
        with pytest.raises(Rejected, match="other"):
            await store.upsert(name, PointBatch([key_of(1)], [b"{}"], {"other": dense(1)}))
        assert await store.count(name) == 0

    async def test_writes_see_a_collection_made_again_with_other_vectors(
        self, store: VectorStore, name: str
    ) -> None:
        await store.create(name, UNNAMED)
        await store.upsert(name, numbered(1))
        await store.drop(name)
        await store.create(name, MIXED)
        points = PointBatch([key_of(1)], [b"{}"], {"words": [encode_sparse([1], [1])]})
        await store.upsert(name, points)
        assert await store.count(name) == 1

    async def test_large_batch_and_huge_payload_pass(self, store: VectorStore, name: str) -> None:
        await store.create(name, UNNAMED)
        points = numbered(2_001)
        points.payloads[1000] = encode_payload({"text": "x" * 5_000_000})
        await store.upsert(name, points)
        assert await store.count(name) == 2_001
        assert (await everything(store, name)).hashes() == points.hashes()

    async def test_scan_pages_in_key_order_after_a_key(self, store: VectorStore, name: str) -> None:
        await store.create(name, UNNAMED)
        points = numbered(25)
        points.keys[20:] = [key_of(UUID(int=number)) for number in range(5)]
        await store.upsert(name, points)
        pages = [len(batch) async for batch in store.scan(name, page=10)]
        assert pages == [10, 10, 5]
        assert await everything(store, name, page=1) == points
        later = await everything(store, name, after=key_of(7), page=4)
        assert later == points.take(range(7, 25))
        assert (await everything(store, name, after=points.keys[-1])).keys == []
        await store.delete(name, [key_of(7)])
        assert await everything(store, name, after=key_of(7)) == later

    async def test_scan_can_stop_early(self, store: VectorStore, name: str) -> None:
        await store.create(name, UNNAMED)
        await store.upsert(name, numbered(30))
        async with aclosing(store.scan(name, page=5)) as pages:  # type: ignore[type-var]
            async for batch in pages:
                assert batch.keys == numbered(5).keys
                break
        assert await store.count(name) == 30

    async def test_scan_ends_at_its_limit(self, store: VectorStore, name: str) -> None:
        await store.create(name, UNNAMED)
        points = numbered(30)
        await store.upsert(name, points)

        async def scanned(**where: Any) -> list[PointBatch]:
            return [batch async for batch in store.scan(name, page=5, **where)]

        assert [len(batch) for batch in await scanned(limit=12)] == [5, 5, 2]
        for _ in range(2):  # with the point that it begins behind, and without
            pages = await scanned(limit=10, after=key_of(7))
            assert [len(batch) for batch in pages] == [5, 5]
            assert PointBatch.concatenate(pages) == points.take(range(7, 17))
            await store.delete(name, [key_of(7)])
        assert [len(batch) for batch in await scanned(limit=100)] == [5] * 5 + [4]

    async def test_scan_of_nothing_is_empty(self, store: VectorStore, name: str) -> None:
        await store.create(name, UNNAMED)
        assert [batch async for batch in store.scan(name)] == []
        assert len(await store.retrieve(name, [])) == 0

    async def test_deleted_points_are_gone(self, store: VectorStore, name: str) -> None:
        await store.create(name, UNNAMED)
        await store.upsert(name, numbered(10))
        await store.delete(name, [key_of(2), key_of(2), key_of(99), key_of(UUID(int=5))])
        await store.delete(name, [key_of(2)])
        await store.delete(name, [])
        assert await store.count(name) == 9
        assert key_of(2) not in (await everything(store, name)).keys

    async def test_alias_moves_and_goes(self, store: VectorStore, name: str) -> None:
        alias, other = f"{name}-alias", f"{name}-2"
        for number, physical in enumerate((name, other), start=1):
            await store.create(physical, UNNAMED)
            await store.upsert(physical, numbered(number))
        for physical, points in ((name, 1), (other, 2), (other, 2)):
            await store.point_alias(alias, physical)
            assert (await store.aliases())[alias] == physical
            assert await store.count(alias) == points
            assert len(await everything(store, alias)) == points
        assert await store.describe(alias) is None
        assert alias not in await store.collections()
        await store.remove_alias(alias)
        await store.remove_alias(alias)
        assert alias not in await store.aliases()

    async def test_alias_cannot_take_the_name_of_a_collection(
        self, store: VectorStore, name: str
    ) -> None:
        await store.create(name, UNNAMED)
        await store.create(f"{name}-2", UNNAMED)
        with pytest.raises(Rejected):
            await store.point_alias(f"{name}-2", name)

    async def test_search_finds_the_nearest(self, store: VectorStore, name: str) -> None:
        schema = CollectionSchema(UNNAMED.vectors, {"kind": {"type": "keyword"}})
        await store.create(name, schema)
        rows = np.eye(4) * [[1], [2], [3], [4]]
        points = PointBatch(
            keys=[key_of(number) for number in range(4)],
            payloads=[encode_payload({"kind": kind}) for kind in "abab"],
            vectors={"": [encode_dense(row) for row in rows]},
        )
        await store.upsert(name, points)
        hits = await store.search(name, [1, 1, 1, 1], limit=3)
        assert [(hit.key, hit.score) for hit in hits] == [
            (key_of(3), 4.0),
            (key_of(2), 3.0),
            (key_of(1), 2.0),
        ]
        assert decode_payload(hits[0].payload) == {"kind": "b"}
        assert hits[0].collection == name
        only_a = await store.search(name, [1, 1, 1, 1], match={"kind": "a"})
        assert [hit.key for hit in only_a] == [key_of(2), key_of(0)]

    async def test_higher_score_is_nearer_whatever_the_distance(
        self, store: VectorStore, name: str
    ) -> None:
        schema = CollectionSchema({"place": VectorSpec(VectorKind.DENSE, 2, Distance.EUCLID)})
        await store.create(name, schema)
        rows: list[bytes | None] = [encode_dense([3, 4]), encode_dense([0, 1])]
        await store.upsert(name, PointBatch([key_of(1), key_of(2)], [b"{}"] * 2, {"place": rows}))
        hits = await store.search(name, [0, 0], using="place")
        assert [(hit.key, hit.score) for hit in hits] == [(key_of(2), -1.0), (key_of(1), -5.0)]

    async def test_a_collection_says_how_far_the_ledger_had_come(
        self, store: VectorStore, name: str
    ) -> None:
        mine = {"metadata": {"owner": "search"}}
        await store.create(name, CollectionSchema(UNNAMED.vectors, settings=mine))
        before = await store.describe(name)
        assert await store.read_witness(name) is None
        for witness in (WITNESS, replace(WITNESS, position=900, version=8, unfinished=True)):
            await store.write_witness(name, witness)
            assert await store.read_witness(name) == replace(witness, where=f"collection {name}")
        assert await store.describe(name) == before
        await store.write_witness(name, None)
        await store.write_witness(name, None)
        assert await store.read_witness(name) is None
        assert await store.describe(name) == before

    async def test_a_collection_is_made_with_what_it_says(
        self, store: VectorStore, name: str
    ) -> None:
        await store.create(name, UNNAMED, witness=WITNESS)
        assert await store.read_witness(name) == replace(WITNESS, where=f"collection {name}")
        await store.create(name, UNNAMED, witness=replace(WITNESS, position=1))
        assert await store.read_witness(name) == replace(WITNESS, where=f"collection {name}")
        plain = await store.describe(name)
        assert plain is not None
        assert "metadata" not in plain.schema.settings

    async def test_a_collection_that_does_not_exist_says_nothing(
        self, store: VectorStore, name: str
    ) -> None:
        assert await store.read_witness(name) is None
        with pytest.raises(NotFound):
            await store.write_witness(name, WITNESS)
