"""Filters: protobuf to the engine's conditions."""

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from adapters.embedded.node.errors import unsupported, wrong_input
from adapters.embedded.node.ids import ids_from_proto
from adapters.qdrant_grpc import qdrant


def filter_from_proto(proto: qdrant.Filter) -> edge.Filter:
    """A filter as the engine takes it.

    Raises:
        RefusalError: a condition is empty, or one that the engine does not have.
    """
    return edge.Filter(
        must=[_condition(condition) for condition in proto.must] or None,
        should=[_condition(condition) for condition in proto.should] or None,
        must_not=[_condition(condition) for condition in proto.must_not] or None,
        min_should=edge.MinShould(
            [_condition(condition) for condition in proto.min_should.conditions],
            proto.min_should.min_count,
        )
        if proto.HasField("min_should")
        else None,
    )


def optional_filter(request: Any, field: str = "filter") -> edge.Filter | None:
    """The filter in a request's field, if it is set."""
    return filter_from_proto(getattr(request, field)) if request.HasField(field) else None


def _condition(proto: qdrant.Condition) -> Any:
    kind = proto.WhichOneof("condition_one_of")
    if kind is None:
        raise wrong_input("a filter has an empty condition")
    if kind not in _CONDITIONS:
        raise unsupported(f"the filter condition `{kind}`")
    return _CONDITIONS[kind](getattr(proto, kind))


def _field(proto: qdrant.FieldCondition) -> edge.FieldCondition:
    given = {field.name: value for field, value in proto.ListFields() if field.name != "key"}
    if not given:
        raise wrong_input(f"the condition on `{proto.key}` asks for nothing")
    if {"range", "datetime_range"} <= given.keys():
        raise wrong_input(f"the condition on `{proto.key}` has two ranges")
    asked = {_ASKED_AS.get(name, name): _FIELD[name](value) for name, value in given.items()}
    return edge.FieldCondition(proto.key, **asked)


def _match(proto: qdrant.Match) -> Any:
    kind = proto.WhichOneof("match_value")
    if kind is None:
        raise wrong_input("a match condition has no value")
    return _MATCHES[kind](getattr(proto, kind))


def _moments(proto: qdrant.DatetimeRange) -> edge.RangeDateTime:
    return edge.RangeDateTime(
        **{end: moment.ToJsonString() for end, moment in _bounds(proto).items()}
    )


def _bounds(proto: Any) -> dict[str, Any]:
    return {field.name: value for field, value in proto.ListFields()}


def _geo(proto: qdrant.GeoPoint) -> edge.GeoPoint:
    return edge.GeoPoint(proto.lon, proto.lat)


def _ring(proto: qdrant.GeoLineString) -> list[edge.GeoPoint]:
    return [_geo(point) for point in proto.points]


_CONDITIONS: dict[str, Callable[[Any], Any]] = {
    "field": _field,
    "is_empty": lambda proto: edge.IsEmptyCondition(proto.key),
    "is_null": lambda proto: edge.IsNullCondition(proto.key),
    "has_id": lambda proto: edge.HasIdCondition(set(ids_from_proto(proto.has_id))),
    "has_vector": lambda proto: edge.HasVectorCondition(proto.has_vector),
    "filter": filter_from_proto,
    "nested": lambda proto: edge.NestedCondition(proto.key, filter_from_proto(proto.filter)),
}
_ASKED_AS = {"datetime_range": "range"}
_FIELD: dict[str, Callable[[Any], Any]] = {
    "match": _match,
    "range": lambda proto: edge.RangeFloat(**_bounds(proto)),
    "datetime_range": _moments,
    "values_count": lambda proto: edge.ValuesCount(**_bounds(proto)),
    "geo_bounding_box": lambda proto: edge.GeoBoundingBox(
        _geo(proto.top_left), _geo(proto.bottom_right)
    ),
    "geo_radius": lambda proto: edge.GeoRadius(_geo(proto.center), proto.radius),
    "geo_polygon": lambda proto: edge.GeoPolygon(
        _ring(proto.exterior), [_ring(interior) for interior in proto.interiors]
    ),
    "is_empty": bool,
    "is_null": bool,
}
_MATCHES: dict[str, Callable[[Any], Any]] = {
    "keyword": edge.MatchValue,
    "integer": edge.MatchValue,
    "boolean": edge.MatchValue,
    "text": edge.MatchText,
    "text_any": edge.MatchTextAny,
    "phrase": edge.MatchPhrase,
    "prefix": edge.MatchPrefix,
    "substring": edge.MatchSubstring,
    "keywords": lambda proto: edge.MatchAny(list(proto.strings)),
    "integers": lambda proto: edge.MatchAny(list(proto.integers)),
    "except_keywords": lambda proto: edge.MatchExcept(list(proto.strings)),
    "except_integers": lambda proto: edge.MatchExcept(list(proto.integers)),
}
