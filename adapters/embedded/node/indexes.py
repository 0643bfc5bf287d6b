"""Payload indexes: their parameters for the engine, and as the catalogue keeps them."""

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from adapters.embedded.node.errors import wrong_input
from adapters.qdrant_grpc import qdrant

_PARAMS: dict[str, tuple[qdrant.PayloadSchemaType.ValueType, type[Any]]] = {
    "keyword_index_params": (qdrant.PayloadSchemaType.Keyword, edge.KeywordIndexParams),
    "integer_index_params": (qdrant.PayloadSchemaType.Integer, edge.IntegerIndexParams),
    "float_index_params": (qdrant.PayloadSchemaType.Float, edge.FloatIndexParams),
    "geo_index_params": (qdrant.PayloadSchemaType.Geo, edge.GeoIndexParams),
    "text_index_params": (qdrant.PayloadSchemaType.Text, edge.TextIndexParams),
    "bool_index_params": (qdrant.PayloadSchemaType.Bool, edge.BoolIndexParams),
    "datetime_index_params": (qdrant.PayloadSchemaType.Datetime, edge.DatetimeIndexParams),
    "uuid_index_params": (qdrant.PayloadSchemaType.Uuid, edge.UuidIndexParams),
}
_FIELD_TYPES = {
    qdrant.FieldType.FieldTypeKeyword: qdrant.PayloadSchemaType.Keyword,
    qdrant.FieldType.FieldTypeInteger: qdrant.PayloadSchemaType.Integer,
    qdrant.FieldType.FieldTypeFloat: qdrant.PayloadSchemaType.Float,
    qdrant.FieldType.FieldTypeGeo: qdrant.PayloadSchemaType.Geo,
    qdrant.FieldType.FieldTypeText: qdrant.PayloadSchemaType.Text,
    qdrant.FieldType.FieldTypeBool: qdrant.PayloadSchemaType.Bool,
    qdrant.FieldType.FieldTypeDatetime: qdrant.PayloadSchemaType.Datetime,
    qdrant.FieldType.FieldTypeUuid: qdrant.PayloadSchemaType.Uuid,
}


def schema_from_create(request: qdrant.CreateFieldIndexCollection) -> qdrant.PayloadSchemaInfo:
    """What is to be indexed, as `Get` answers it, without a count.

    Raises:
        RefusalError: neither a type nor parameters are given, or they disagree.
    """
    asked = _FIELD_TYPES[request.field_type] if request.HasField("field_type") else None
    kind = request.field_index_params.WhichOneof("index_params")
    if kind is None:
        if asked is None:
            raise wrong_input("field_type or field_index_params is needed")
        return qdrant.PayloadSchemaInfo(data_type=asked)
    data_type, _ = _PARAMS[kind]
    if asked not in (None, data_type):
        raise wrong_input("field_type and field_index_params are of different types")
    return qdrant.PayloadSchemaInfo(data_type=data_type, params=request.field_index_params)


def engine_schema(info: qdrant.PayloadSchemaInfo) -> Any:
    """The same for the engine: a type, or parameters.

    Raises:
        RefusalError: a parameter has a value that the engine does not know.
    """
    kind = info.params.WhichOneof("index_params")
    if kind is None:
        return getattr(edge.PayloadSchemaType, qdrant.PayloadSchemaType.Name(info.data_type))
    params = getattr(info.params, kind)
    _, engine_class = _PARAMS[kind]
    return engine_class(
        **{field.name: _parameter(field.name, value) for field, value in params.ListFields()}
    )


def _parameter(name: str, value: Any) -> Any:
    return _PARAMETERS[name](value) if name in _PARAMETERS else value


def _stopwords(proto: qdrant.StopwordsSet) -> edge.StopwordsSet:
    return edge.StopwordsSet(
        languages={_member(edge.Language, name.capitalize()) for name in proto.languages},
        custom=set(proto.custom),
    )


def _stemmer(proto: qdrant.StemmingAlgorithm) -> Any:
    if proto.WhichOneof("stemming_params") != "snowball":
        return edge.DisabledStemmer()
    language = proto.snowball.language.capitalize()
    return edge.SnowballParams(_member(edge.SnowballLanguage, language))


def _member(enum: Any, name: str) -> Any:
    if not hasattr(enum, name):
        raise wrong_input(f"{name} is not a {enum.__name__} that the embedded node knows")
    return getattr(enum, name)


_PARAMETERS: dict[str, Callable[[Any], Any]] = {
    "memory": lambda value: _member(edge.Memory, qdrant.Memory.Name(value)),
    "tokenizer": lambda value: _member(edge.TokenizerType, qdrant.TokenizerType.Name(value)),
    "stopwords": _stopwords,
    "stemmer": _stemmer,
    # Messages without fields of their own that matter: to be there is to be asked for.
    "prefix": lambda _: True,
    "scoring": lambda _: True,
}
