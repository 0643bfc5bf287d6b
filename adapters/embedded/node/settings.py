"""A collection's settings: what was asked, what Qdrant fills in, and what the engine gets of it."""

from typing import Any

import qdrant_edge as edge

from adapters.embedded.node.errors import wrong_input
from adapters.qdrant_grpc import qdrant

MAX_DIMENSION = 65_536

_DISTANCES = {
    qdrant.Distance.Cosine: edge.Distance.Cosine,
    qdrant.Distance.Euclid: edge.Distance.Euclid,
    qdrant.Distance.Dot: edge.Distance.Dot,
    qdrant.Distance.Manhattan: edge.Distance.Manhattan,
}
_DATATYPES = {
    qdrant.Datatype.Default: edge.VectorStorageDatatype.Float32,
    qdrant.Datatype.Float32: edge.VectorStorageDatatype.Float32,
    qdrant.Datatype.Float16: edge.VectorStorageDatatype.Float16,
    qdrant.Datatype.Uint8: edge.VectorStorageDatatype.Uint8,
    qdrant.Datatype.Turbo8: edge.VectorStorageDatatype.Turbo8,
    qdrant.Datatype.Turbo16: edge.VectorStorageDatatype.Turbo16,
}


def config_from_create(request: qdrant.CreateCollection) -> qdrant.CollectionConfig:
    """The whole configuration: what was asked, over Qdrant's defaults."""
    config = qdrant.CollectionConfig(
        params=qdrant.CollectionParams(
            shard_number=1, replication_factor=1, write_consistency_factor=1, on_disk_payload=True
        ),
        hnsw_config=qdrant.HnswConfigDiff(
            m=16, ef_construct=100, full_scan_threshold=10_000, max_indexing_threads=0
        ),
        optimizer_config=qdrant.OptimizersConfigDiff(
            deleted_threshold=0.2,
            vacuum_min_vector_number=1_000,
            default_segment_number=0,
            indexing_threshold=10_000,
            flush_interval_sec=5,
        ),
        wal_config=qdrant.WalConfigDiff(
            wal_capacity_mb=32, wal_segments_ahead=0, wal_retain_closed=1
        ),
    )
    for field, value in request.ListFields():
        match field.name:
            case "collection_name" | "timeout":
                pass
            case "optimizers_config":
                config.optimizer_config.MergeFrom(value)
            case "metadata":
                config.MergeFrom(qdrant.CollectionConfig(metadata=value))
            case "hnsw_config" | "wal_config" | "quantization_config" | "strict_mode_config":
                getattr(config, field.name).MergeFrom(value)
            case "shard_number" | "replication_factor" | "write_consistency_factor" as number:
                if not value:
                    raise wrong_input(f"{number} must be 1 or larger")
                setattr(config.params, number, value)
            case "on_disk_payload" | "sharding_method" as scalar:
                setattr(config.params, scalar, value)
            case section:
                getattr(config.params, section).MergeFrom(value)
    return config


def updated(
    config: qdrant.CollectionConfig, request: qdrant.UpdateCollection
) -> qdrant.CollectionConfig:
    """The configuration after an update; the engine uses none of what can be updated.

    Raises:
        RefusalError: it names a vector that the collection does not have.
    """
    changed = qdrant.CollectionConfig()
    changed.CopyFrom(config)
    changed.optimizer_config.MergeFrom(request.optimizers_config)
    changed.hnsw_config.MergeFrom(request.hnsw_config)
    changed.params.MergeFrom(_params(request.params))
    if request.HasField("strict_mode_config"):
        changed.strict_mode_config.MergeFrom(request.strict_mode_config)
    if request.HasField("quantization_config"):
        _quantize(changed, request.quantization_config)
    for name, value in request.metadata.items():
        if value.WhichOneof("kind") in {None, "null_value"}:
            changed.metadata.pop(name, None)
        else:
            changed.metadata[name].CopyFrom(value)
    _update_vectors(changed.params, request)
    return changed


def engine_config(params: qdrant.CollectionParams) -> edge.EdgeConfig:
    """What the engine needs to know: the vectors. Everything else it keeps at its defaults.

    Raises:
        RefusalError: the engine could not store such vectors truthfully.
    """
    if params.sharding_method == qdrant.ShardingMethod.Custom:
        raise wrong_input("custom sharding needs shard keys, which the embedded node does not have")
    vectors = params.vectors_config
    if vectors.WhichOneof("config") == "params":
        dense = {"": _dense("", vectors.params)}
    else:
        dense = {name: _dense(name, vector) for name, vector in vectors.params_map.map.items()}
    sparse = {
        name: edge.EdgeSparseVectorParams(
            modifier=edge.Modifier.Idf if vector.modifier == qdrant.Modifier.Idf else None,
            datatype=_datatype(name, vector.index.datatype),
        )
        for name, vector in params.sparse_vectors_config.map.items()
    }
    if not dense and not sparse:
        raise wrong_input("a collection of the embedded node needs at least one vector")
    return edge.EdgeConfig(
        vectors=dense,
        sparse_vectors=sparse,
        max_search_threads=1,
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=0),
    )


def _dense(name: str, vector: qdrant.VectorParams) -> edge.EdgeVectorParams:
    if not 0 < vector.size <= MAX_DIMENSION:
        raise wrong_input(f"the size of vector `{name}` must be from 1 to {MAX_DIMENSION}")
    if vector.distance not in _DISTANCES:
        raise wrong_input(f"vector `{name}` has no distance")
    return edge.EdgeVectorParams(
        size=vector.size,
        distance=_DISTANCES[vector.distance],
        multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
        if vector.HasField("multivector_config")
        else None,
        datatype=_datatype(name, vector.datatype),
    )


def _datatype(name: str, datatype: Any) -> edge.VectorStorageDatatype:
    if datatype not in _DATATYPES:
        raise wrong_input(
            f"the embedded node cannot store vector `{name}` as {qdrant.Datatype.Name(datatype)}"
        )
    return _DATATYPES[datatype]


def _params(diff: qdrant.CollectionParamsDiff) -> qdrant.CollectionParams:
    """The same fields in the message that is kept; their names agree."""
    params = qdrant.CollectionParams()
    for field, value in diff.ListFields():
        if field.message_type is None:
            setattr(params, field.name, value)
        else:
            getattr(params, field.name).CopyFrom(value)
    return params


def _quantize(target: Any, diff: qdrant.QuantizationConfigDiff) -> None:
    """Replace the quantization of a collection or of one vector, or take it away."""
    kind = diff.WhichOneof("quantization")
    target.ClearField("quantization_config")
    if kind is not None and kind != "disabled":
        getattr(target.quantization_config, kind).CopyFrom(getattr(diff, kind))


def _update_vectors(params: qdrant.CollectionParams, request: qdrant.UpdateCollection) -> None:
    vectors = params.vectors_config
    known: dict[str, Any] = (
        {"": vectors.params}
        if vectors.WhichOneof("config") == "params"
        else {name: vectors.params_map.map[name] for name in vectors.params_map.map}
    )
    asked = request.vectors_config
    diffs: dict[str, qdrant.VectorParamsDiff] = (
        {"": asked.params} if asked.WhichOneof("config") == "params" else dict(asked.params_map.map)
    )
    for name, diff in diffs.items():
        if name not in known:
            raise wrong_input(f"Not existing vector name error: {name}")
        for field, value in diff.ListFields():
            if field.name == "quantization_config":
                _quantize(known[name], value)
            elif field.name == "hnsw_config":
                known[name].hnsw_config.MergeFrom(value)
            else:
                setattr(known[name], field.name, value)
    for name, sparse in request.sparse_vectors_config.map.items():
        if name not in params.sparse_vectors_config.map:
            raise wrong_input(f"Not existing vector name error: {name}")
        if sparse.HasField("modifier") or sparse.index.HasField("datatype"):
            raise wrong_input(f"the embedded node cannot change how vector `{name}` is stored")
        params.sparse_vectors_config.map[name].MergeFrom(sparse)
