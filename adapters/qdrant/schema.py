"""Collection schemas to and from Qdrant's messages.

Qdrant describes a collection in other messages than it creates one from. The tables below say
which field becomes which; a field that is set and not in a table is refused, because a collection
made after this one would lack it. Below those tables both sides use the same messages, which are
carried whole.
"""

from collections.abc import Mapping
from typing import Any

from adapters.qdrant.encoding import Column
from adapters.qdrant.messages import fill, refuse_unknown, to_json
from adapters.qdrant.payload import fill_value, plain
from adapters.qdrant.witness import KEY
from adapters.qdrant_grpc import qdrant
from domain.model.errors import Rejected
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec

# Fields of CollectionConfig and what CreateCollection calls them.
_CONFIG = {
    "hnsw_config": "hnsw_config",
    "optimizer_config": "optimizers_config",
    "wal_config": "wal_config",
    "quantization_config": "quantization_config",
    "strict_mode_config": "strict_mode_config",
}
# Fields of CollectionParams that CreateCollection has too, and those that only an update sets.
_PARAMS = frozenset(
    {
        "shard_number",
        "on_disk_payload",
        "replication_factor",
        "write_consistency_factor",
        "sharding_method",
        "payload",
        "id_tracker",
    }
)
_UPDATED = frozenset({"read_fan_out_factor", "read_fan_out_delay_ms"})
_VECTORS = frozenset({"vectors_config", "sparse_vectors_config"})
_CREATED = frozenset(_CONFIG.values()) | _PARAMS

_DISTANCES = {
    Distance.COSINE: qdrant.Distance.Cosine,
    Distance.DOT: qdrant.Distance.Dot,
    Distance.EUCLID: qdrant.Distance.Euclid,
    Distance.MANHATTAN: qdrant.Distance.Manhattan,
}
_DISTANCE_NAMES = {number: distance for distance, number in _DISTANCES.items()}
_LOWER_IS_NEARER = {qdrant.Distance.Euclid, qdrant.Distance.Manhattan}

_INDEX_TYPES = ("keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid")


def schema_of(info: qdrant.CollectionInfo) -> CollectionSchema:
    """The schema of a collection as Qdrant describes it, defaults filled in.

    Raises:
        Rejected: it has a setting that a collection made after it would lack.
    """
    return CollectionSchema(
        vectors=vectors_of(info),
        indexes={field: _index(field, info) for field in sorted(info.payload_schema)},
        settings=_settings(info.config),
    )


def vectors_of(info: qdrant.CollectionInfo) -> dict[str, VectorSpec]:
    """The vectors of a collection by name; the unnamed one is ``""``.

    Raises:
        Rejected: one has a setting that would be lost.
    """
    specs = {name: _dense_spec(name, vector) for name, vector in _dense(info)}
    for name, sparse in info.config.params.sparse_vectors_config.map.items():
        settings = to_json(sparse, f"vector {name!r}")
        specs[name] = VectorSpec(VectorKind.SPARSE, settings=settings)
    return dict(sorted(specs.items()))


def columns_of(info: qdrant.CollectionInfo) -> dict[str, Column]:
    """What the codec has to know of each vector; settings are not looked at."""
    columns = {
        name: Column(_kind(vector), vector.size, vector.distance in _LOWER_IS_NEARER)
        for name, vector in _dense(info)
    }
    for name in info.config.params.sparse_vectors_config.map:
        columns[name] = Column(VectorKind.SPARSE)
    return columns


def create_request(name: str, schema: CollectionSchema) -> qdrant.CreateCollection:
    """The request that makes a collection of this schema, without its indexes.

    Raises:
        Rejected: a setting that Qdrant does not have.
    """
    request = qdrant.CreateCollection(collection_name=name)
    _fill_vectors(request, schema.vectors)
    for setting, value in schema.settings.items():
        if setting == "metadata":
            for key, inner in value.items():
                fill_value(request.metadata[key], inner)
        elif setting in _CREATED:
            fill(request, {setting: value}, "settings")
        elif setting not in _UPDATED:
            raise Rejected(f"{setting!r} is not a setting of a Qdrant collection")
    return request


def update_request(name: str, schema: CollectionSchema) -> qdrant.UpdateCollection | None:
    """The request that sets what a collection cannot be created with, or None."""
    settings = {key: value for key, value in schema.settings.items() if key in _UPDATED}
    if not settings:
        return None
    request = qdrant.UpdateCollection(collection_name=name)
    fill(request.params, settings, "settings")
    return request


def index_request(
    name: str, field: str, index: Mapping[str, Any]
) -> qdrant.CreateFieldIndexCollection:
    """The request that makes a payload index and waits for it.

    Raises:
        Rejected: no such type or parameter.
    """
    kind = index.get("type")
    if kind not in _INDEX_TYPES:
        raise Rejected(f"index {field!r} has type {kind!r}, not one of {', '.join(_INDEX_TYPES)}")
    request = qdrant.CreateFieldIndexCollection(
        collection_name=name,
        wait=True,
        field_name=field,
        field_type=qdrant.FieldType.Value(f"FieldType{str(kind).title()}"),
    )
    parameters = {key: value for key, value in index.items() if key != "type"}
    if parameters:
        fill(request.field_index_params, {f"{kind}_index_params": parameters}, f"index {field!r}")
    return request


def missing_indexes(
    schema: CollectionSchema, info: qdrant.CollectionInfo
) -> dict[str, dict[str, Any]]:
    """Indexes of a schema that a collection does not have, or not with these parameters."""
    known = schema.indexes.keys() & info.payload_schema.keys()
    return schema.missing_indexes({field: _index(field, info) for field in known})


def _settings(config: qdrant.CollectionConfig) -> dict[str, Any]:
    _refuse_others(config, {*_CONFIG, "params", "metadata"})
    _refuse_others(config.params, _PARAMS | _UPDATED | _VECTORS)
    if config.params.sharding_method == qdrant.ShardingMethod.Custom:
        raise Rejected(
            "sharding_method Custom: the shard keys of its points are not carried and would be lost"
        )
    settings = {
        _CONFIG[field.name]: to_json(message, _CONFIG[field.name])
        for field, message in config.ListFields()
        if field.name in _CONFIG
    }
    params = qdrant.CollectionParams()
    params.CopyFrom(config.params)
    params.ClearField("vectors_config")
    params.ClearField("sparse_vectors_config")
    settings |= to_json(params, "params")
    metadata = {k: plain(config.metadata[k]) for k in sorted(config.metadata) if k != KEY}
    if metadata:
        settings["metadata"] = metadata
    return settings


def _refuse_others(message: Any, known: set[str] | frozenset[str]) -> None:
    refuse_unknown(message, message.DESCRIPTOR.name)
    for field, _ in message.ListFields():
        if field.name not in known:
            raise Rejected(f"setting {field.name!r} is not carried and would be lost")


def _dense(info: qdrant.CollectionInfo) -> list[tuple[str, qdrant.VectorParams]]:
    vectors = info.config.params.vectors_config
    if vectors.WhichOneof("config") == "params":
        return [("", vectors.params)]
    return list(vectors.params_map.map.items())


def _kind(vector: qdrant.VectorParams) -> VectorKind:
    return VectorKind.MULTI if vector.HasField("multivector_config") else VectorKind.DENSE


def _dense_spec(name: str, vector: qdrant.VectorParams) -> VectorSpec:
    path = f"vector {name!r}" if name else "the vector"
    settings = to_json(vector, path)
    del settings["size"], settings["distance"]
    if vector.distance not in _DISTANCE_NAMES:
        raise Rejected(f"{path} has no distance that this version knows")
    return VectorSpec(_kind(vector), vector.size, _DISTANCE_NAMES[vector.distance], settings)


def _fill_vectors(request: qdrant.CreateCollection, vectors: Mapping[str, VectorSpec]) -> None:
    named = request.vectors_config.params_map
    named.SetInParent()
    for name, spec in vectors.items():
        path = f"vector {name!r}"
        if spec.kind is VectorKind.SPARSE:
            fill(request.sparse_vectors_config.map[name], spec.settings, path)
        elif name:
            _fill_dense(named.map[name], spec, path)
    if "" in vectors:
        if named.map or vectors[""].kind is VectorKind.SPARSE:
            raise Rejected("an unnamed vector is dense, and the only dense one of its collection")
        _fill_dense(request.vectors_config.params, vectors[""], "the vector")


def _fill_dense(vector: qdrant.VectorParams, spec: VectorSpec, path: str) -> None:
    if spec.distance is None:
        raise Rejected(f"{path} needs a distance")
    vector.size = spec.dimension
    vector.distance = _DISTANCES[spec.distance]
    fill(vector, spec.settings, path)
    if spec.kind is VectorKind.MULTI:
        vector.multivector_config.SetInParent()
    elif vector.HasField("multivector_config"):
        raise Rejected(f"{path} is dense and has a multivector_config")


def _index(field: str, info: qdrant.CollectionInfo) -> dict[str, Any]:
    index = info.payload_schema[field]
    path = f"index {field!r}"
    refuse_unknown(index, path)
    names = {number: name.lower() for name, number in qdrant.PayloadSchemaType.items()}
    kind = names.get(index.data_type, str(index.data_type))
    if kind not in _INDEX_TYPES:
        raise Rejected(f"{path} has type {kind}, which this version does not know and would lose")
    refuse_unknown(index.params, path)
    variant = index.params.WhichOneof("index_params")
    parameters = to_json(getattr(index.params, variant), path) if variant else {}
    return {"type": kind, **parameters}
