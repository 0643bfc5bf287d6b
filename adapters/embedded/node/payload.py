"""Payload values: protobuf `Value` to and from Python, without losing what kind a number is."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from adapters.embedded.node.errors import wrong_input
from adapters.qdrant_grpc import qdrant


def payload_from_proto(fields: Mapping[str, qdrant.Value]) -> dict[str, Any]:
    """A payload as the engine takes it.

    Raises:
        RefusalError: a number is NaN or infinite.
    """
    return {key: _from_value(value) for key, value in fields.items()}


def payload_to_proto(payload: Mapping[str, Any]) -> dict[str, qdrant.Value]:
    """A payload as it goes over the wire."""
    return {key: _to_value(value) for key, value in payload.items()}


def _from_value(value: qdrant.Value) -> Any:
    kind = value.WhichOneof("kind")
    match kind:
        case "string_value" | "integer_value" | "bool_value":
            return getattr(value, kind)
        case "double_value":
            if not math.isfinite(value.double_value):
                raise wrong_input("a payload number is NaN or infinite")
            return value.double_value
        case "struct_value":
            return payload_from_proto(value.struct_value.fields)
        case "list_value":
            return [_from_value(item) for item in value.list_value.values]
        case _:
            return None


def _to_value(value: Any) -> qdrant.Value:
    return _WRITERS[type(value)](value)


_WRITERS: dict[type, Callable[[Any], qdrant.Value]] = {
    str: lambda value: qdrant.Value(string_value=value),
    bool: lambda value: qdrant.Value(bool_value=value),
    int: lambda value: qdrant.Value(integer_value=value),
    float: lambda value: qdrant.Value(double_value=value),
    dict: lambda value: qdrant.Value(struct_value=qdrant.Struct(fields=payload_to_proto(value))),
    list: lambda value: qdrant.Value(
        list_value=qdrant.ListValue(values=[_to_value(item) for item in value])
    ),
    type(None): lambda _: qdrant.Value(null_value=qdrant.NULL_VALUE),
}
