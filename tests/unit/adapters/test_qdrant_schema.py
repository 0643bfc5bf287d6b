"""Schemas survive the way to Qdrant's messages and back, and nothing is dropped silently."""

from typing import Any

import pytest

from adapters.qdrant.encoding import Column
from adapters.qdrant.endpoint import Endpoint
from adapters.qdrant.schema import (
    columns_of,
    create_request,
    index_request,
    missing_indexes,
    schema_of,
    update_request,
)
from adapters.qdrant_grpc import qdrant
from domain.model.errors import Rejected
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec

VECTOR = VectorSpec(VectorKind.DENSE, 3, Distance.DOT)


def described(schema: CollectionSchema) -> qdrant.CollectionInfo:
    """What a server without defaults would describe after making this schema."""
    request = create_request("c", schema)
    info = qdrant.CollectionInfo(
        config=qdrant.CollectionConfig(
            hnsw_config=request.hnsw_config,
            optimizer_config=request.optimizers_config,
            wal_config=request.wal_config,
            metadata=request.metadata,
            params=qdrant.CollectionParams(
                vectors_config=request.vectors_config,
                sparse_vectors_config=request.sparse_vectors_config,
                shard_number=request.shard_number,
                on_disk_payload=request.on_disk_payload,
            ),
        )
    )
    for section in ("quantization_config", "strict_mode_config"):
        if request.HasField(section):
            getattr(info.config, section).CopyFrom(getattr(request, section))
    for field in ("replication_factor", "write_consistency_factor", "sharding_method"):
        if request.HasField(field):
            setattr(info.config.params, field, getattr(request, field))
    for field in ("payload", "id_tracker"):
        if request.HasField(field):
            getattr(info.config.params, field).CopyFrom(getattr(request, field))
    if update := update_request("c", schema):
        info.config.params.read_fan_out_factor = update.params.read_fan_out_factor
        info.config.params.read_fan_out_delay_ms = update.params.read_fan_out_delay_ms
    for name, index in schema.indexes.items():
        asked = index_request("c", name, index)
        info.payload_schema[name].data_type = asked.field_type + 1
        if asked.HasField("field_index_params"):
            info.payload_schema[name].params.CopyFrom(asked.field_index_params)
    return info


RICH = CollectionSchema(
    vectors={
        "a": VectorSpec(
            VectorKind.DENSE,
            8,
            Distance.EUCLID,
            {
                "hnsw_config": {"m": 0, "inline_storage": False, "memory": "Cached"},
                "quantization_config": {"product": {"compression": "x4", "always_ram": False}},
                "on_disk": False,
                "datatype": "Float16",
                "memory": "Cold",
            },
        ),
        "b": VectorSpec(
            VectorKind.MULTI,
            4,
            Distance.MANHATTAN,
            {"multivector_config": {"comparator": "MaxSim"}},
        ),
        "c": VectorSpec(VectorKind.SPARSE),
        "d": VectorSpec(
            VectorKind.SPARSE, settings={"index": {"on_disk": True}, "modifier": "Idf"}
        ),
    },
    indexes={
        "k": {"type": "keyword", "is_tenant": False, "prefix": {}, "nested": "a[]"},
        "n": {"type": "integer", "lookup": False, "range": True},
        "plain": {"type": "uuid"},
        "t": {
            "type": "text",
            "tokenizer": "Multilingual",
            "stopwords": {"languages": ["english"], "custom": ["the", "a"]},
            "stemmer": {"snowball": {"language": "english"}},
            "phrase_matching": True,
            "scoring": {"type": "Bm25"},
        },
    },
    settings={
        "hnsw_config": {"m": 16, "max_indexing_threads": 0},
        "optimizers_config": {
            "deleted_threshold": 0.1,
            "max_segment_size": 2**63,
            "max_optimization_threads": {"setting": "Auto"},
            "prevent_unoptimized": False,
        },
        "wal_config": {"wal_capacity_mb": 1},
        "quantization_config": {"scalar": {"type": "Int8", "quantile": 0.99}},
        "strict_mode_config": {
            "enabled": True,
            "search_max_oversampling": 1.1,
            "multivector_config": {"multivector_config": {"b": {"max_vectors": 9}}},
            "sparse_config": {"sparse_config": {"c": {"max_length": 100}}},
        },
        "shard_number": 3,
        "on_disk_payload": False,
        "replication_factor": 2,
        "write_consistency_factor": 1,
        "sharding_method": "Auto",
        "payload": {"memory": "Cold"},
        "id_tracker": {"memory": "Pinned"},
        "read_fan_out_factor": 2,
        "read_fan_out_delay_ms": 50,
        "metadata": {"a": 1, "b": 1.0, "c": [None, {"d": []}]},
    },
)


def test_rich_schema_survives() -> None:
    assert schema_of(described(RICH)) == RICH
    assert repr(schema_of(described(RICH)).settings["metadata"]) == repr(RICH.settings["metadata"])
    assert list(missing_indexes(RICH, described(RICH))) == []


def test_unnamed_vector_survives_beside_a_sparse_one() -> None:
    schema = CollectionSchema({"": VECTOR, "s": VectorSpec(VectorKind.SPARSE)})
    assert schema_of(described(schema)).vectors == schema.vectors


def test_multi_vector_needs_no_comparator() -> None:
    schema = CollectionSchema({"m": VectorSpec(VectorKind.MULTI, 2, Distance.DOT)})
    assert schema_of(described(schema)).vectors["m"].kind is VectorKind.MULTI


def test_columns_know_kind_dimension_and_direction() -> None:
    columns = columns_of(described(RICH))
    assert columns == {
        "a": Column(VectorKind.DENSE, 8, lower_is_nearer=True),
        "b": Column(VectorKind.MULTI, 4, lower_is_nearer=True),
        "c": Column(VectorKind.SPARSE),
        "d": Column(VectorKind.SPARSE),
    }


UNKNOWN = b"\x98\x3f\x01"  # field 1011, varint 1


@pytest.mark.parametrize(
    ("section", "named"),
    [
        (lambda info: info.config, "CollectionConfig"),
        (lambda info: info.config.params, "CollectionParams"),
        (lambda info: info.config.hnsw_config, "hnsw_config"),
        (lambda info: info.config.strict_mode_config.sparse_config, "strict_mode_config.sparse"),
        (lambda info: info.config.params.vectors_config.params_map.map["a"], "'a'"),
        (
            lambda info: (
                info.config.params.vectors_config.params_map.map["a"].quantization_config.product
            ),
            "'a'.quantization_config.product",
        ),
        (lambda info: info.config.params.sparse_vectors_config.map["d"].index, "'d'.index"),
        (lambda info: info.payload_schema["k"], "index 'k'"),
        (lambda info: info.payload_schema["k"].params, "index 'k'"),
        (lambda info: info.payload_schema["t"].params.text_index_params.stopwords, "stopwords"),
    ],
)
def test_setting_of_a_newer_server_is_refused_by_name(section: Any, named: str) -> None:
    info = described(RICH)
    section(info).MergeFromString(UNKNOWN)
    with pytest.raises(Rejected, match=f"{named}.*field 1011"):
        schema_of(info)


def test_enum_value_of_a_newer_server_is_refused_by_name() -> None:
    info = described(RICH)
    info.config.params.vectors_config.params_map.map["a"].datatype = 77
    with pytest.raises(Rejected, match="datatype is 77"):
        schema_of(info)
    info = described(RICH)
    info.payload_schema["k"].data_type = 78
    with pytest.raises(Rejected, match="'k' has type 78"):
        schema_of(info)


def test_shard_keys_are_refused() -> None:
    info = described(RICH)
    info.config.params.sharding_method = qdrant.ShardingMethod.Custom
    with pytest.raises(Rejected, match="sharding_method"):
        schema_of(info)


def test_new_runtime_facts_of_a_server_are_ignored() -> None:
    info = described(RICH)
    info.MergeFromString(UNKNOWN)
    assert schema_of(info) == RICH


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sharts": 1}, "'sharts' is not a setting"),
        ({"collection_name": "x"}, "'collection_name' is not a setting"),
        ({"hnsw_config": {"n": 1}}, "hnsw_config.n is not a setting"),
        ({"hnsw_config": {"m": "many"}}, "hnsw_config.m cannot be 'many'"),
        ({"hnsw_config": 3}, "hnsw_config must be an object"),
        ({"sharding_method": "Odd"}, "sharding_method cannot be 'Odd'.*Auto"),
    ],
)
def test_wrong_settings_are_rejected_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Rejected, match=message):
        create_request("c", CollectionSchema({"": VECTOR}, {}, settings))


@pytest.mark.parametrize(
    "vectors",
    [
        {"": VECTOR, "other": VECTOR},
        {"": VectorSpec(VectorKind.SPARSE)},
        {"a": VectorSpec(VectorKind.DENSE, 2, Distance.DOT, {"multivector_config": {}})},
    ],
)
def test_vectors_that_qdrant_does_not_have_are_rejected(vectors: dict[str, VectorSpec]) -> None:
    with pytest.raises(Rejected):
        create_request("c", CollectionSchema(vectors))


def test_wrong_index_is_rejected() -> None:
    with pytest.raises(Rejected, match="type 'words'"):
        index_request("c", "f", {"type": "words"})
    with pytest.raises(Rejected, match=r"index 'f'.keyword_index_params.lookup"):
        index_request("c", "f", {"type": "keyword", "lookup": True})


def test_index_with_other_parameters_is_missing() -> None:
    asked = CollectionSchema(RICH.vectors, {"n": {"type": "integer", "lookup": True}})
    assert dict(missing_indexes(asked, described(RICH))) == asked.indexes
    partial = CollectionSchema(RICH.vectors, {"n": {"type": "integer"}})
    assert list(missing_indexes(partial, described(RICH))) == []


@pytest.mark.parametrize(
    "url",
    ["localhost:6334", "grpc://host:6334", "http://", "http://host/path", "https://host?x=1"],
)
def test_url_of_another_form_is_rejected(url: str) -> None:
    with pytest.raises(Rejected):
        Endpoint(url)


def test_credentials_stay_out_of_errors_and_text() -> None:
    with pytest.raises(Rejected) as caught:
        Endpoint("https://me:secret@host")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(Endpoint("https://host", "secret"))


def test_key_does_not_travel_in_the_clear() -> None:
    with pytest.raises(Rejected, match="unencrypted"):
        Endpoint("http://example.org:6334", "secret")
    for url in ("https://example.org", "http://127.0.0.1", "http://[::1]:1", "http://localhost"):
        assert Endpoint(url, "secret").metadata == (("api-key", "secret"),)
