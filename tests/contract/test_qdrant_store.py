"""`QdrantStore` against a real server: the embedded node, or the configured one."""

from collections.abc import AsyncIterator
from random import SystemRandom
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from vector_store import MIXED, UNNAMED, VectorStoreContract, numbered

from adapters.qdrant.store import QdrantStore
from domain.model.errors import SchemaMismatch
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from tests.infra.qdrant import endpoint

RICH = CollectionSchema(
    vectors={
        "dense": VectorSpec(
            VectorKind.DENSE,
            8,
            Distance.COSINE,
            {
                "hnsw_config": {"m": 8, "payload_m": 16, "on_disk": True},
                "quantization_config": {
                    "scalar": {"type": "Int8", "quantile": 0.99, "always_ram": True}
                },
                "on_disk": True,
                "datatype": "Float32",
            },
        ),
        "multi": VectorSpec(
            VectorKind.MULTI, 4, Distance.DOT, {"multivector_config": {"comparator": "MaxSim"}}
        ),
        "sparse": VectorSpec(
            VectorKind.SPARSE,
            settings={
                "index": {"full_scan_threshold": 7, "on_disk": False, "datatype": "Float32"},
                "modifier": "Idf",
            },
        ),
    },
    indexes={
        "at": {"type": "datetime", "is_principal": True},
        "flag": {"type": "bool", "on_disk": False},
        "n": {"type": "integer", "lookup": True, "range": False, "is_principal": False},
        "place": {"type": "geo"},
        "price": {"type": "float", "on_disk": True},
        "ref": {"type": "uuid"},
        "tenant": {"type": "keyword", "is_tenant": True, "on_disk": True},
        "text": {
            "type": "text",
            "tokenizer": "Word",
            "lowercase": True,
            "min_token_len": 2,
            "max_token_len": 20,
        },
    },
    settings={
        "hnsw_config": {
            "m": 24,
            "ef_construct": 128,
            "full_scan_threshold": 5000,
            "max_indexing_threads": 2,
            "on_disk": False,
        },
        "optimizers_config": {
            "deleted_threshold": 0.35,
            "vacuum_min_vector_number": 2000,
            "default_segment_number": 2,
            "indexing_threshold": 30_000,
            "flush_interval_sec": 7,
        },
        "wal_config": {"wal_capacity_mb": 64, "wal_segments_ahead": 1, "wal_retain_closed": 1},
        "quantization_config": {"binary": {"always_ram": True}},
        "strict_mode_config": {"enabled": True, "max_query_limit": 100, "upsert_max_batchsize": 40},
        "shard_number": 1,
        "on_disk_payload": True,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "metadata": {"team": "search", "level": 1, "share": 1.0, "nested": {"list": [1, None]}},
    },
)


@pytest_asyncio.fixture
async def store(qdrant_url: str) -> AsyncIterator[QdrantStore]:
    async with QdrantStore(endpoint(qdrant_url), random=SystemRandom()) as store:
        yield store


class TestQdrantStore(VectorStoreContract):
    async def test_a_rich_schema_is_described_as_it_was_asked_for(
        self, store: QdrantStore, name: str
    ) -> None:
        await store.create(name, RICH)
        description = await store.describe(name)
        assert description is not None
        assert _kept(RICH.to_json(), description.schema.to_json())

    async def test_batches_stay_within_the_limits_of_strict_mode(
        self, store: QdrantStore, name: str
    ) -> None:
        strict = {"enabled": True, "max_query_limit": 30, "upsert_max_batchsize": 40}
        await store.create(
            name, CollectionSchema(UNNAMED.vectors, {}, {"strict_mode_config": strict})
        )
        points = numbered(101)
        await store.upsert(name, points)
        assert [len(batch) async for batch in store.scan(name)] == [30, 30, 30, 11]
        assert await store.retrieve(name, points.keys) == points

    async def test_mismatch_names_the_differences(self, store: QdrantStore, name: str) -> None:
        await store.create(name, UNNAMED)
        with pytest.raises(SchemaMismatch) as mismatch:
            await store.create(name, MIXED)
        assert len(mismatch.value.differences) == 4

    async def test_writes_see_that_another_client_made_the_collection_again(
        self, store: QdrantStore, name: str, qdrant_url: str
    ) -> None:
        await store.create(name, UNNAMED)
        await store.upsert(name, numbered(1))
        async with QdrantStore(endpoint(qdrant_url), random=SystemRandom()) as other:
            await other.drop(name)
            wider = VectorSpec(VectorKind.MULTI, 2, Distance.DOT)
            await other.create(name, CollectionSchema({"": wider}))
        await store.upsert(name, numbered(1))
        assert (await store.retrieve(name, numbered(1).keys)).hashes() == numbered(1).hashes()

    async def test_a_name_that_is_free_is_not_taken_by_an_error(self, store: QdrantStore) -> None:
        assert await store.describe(f"never-{uuid4().hex}") is None


def _kept(asked: Any, found: Any) -> bool:
    """Whether everything that was asked for is there; a server may tell its defaults as well."""
    if isinstance(asked, dict) and isinstance(found, dict):
        return all(name in found and _kept(asked[name], found[name]) for name in asked)
    return bool(asked == found)
