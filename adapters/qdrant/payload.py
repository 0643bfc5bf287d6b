"""Payloads: canonical JSON to and from protobuf values; 1 and 1.0 stay different."""

from collections.abc import Mapping
from typing import Any

from adapters.qdrant_grpc import qdrant
from domain.model.errors import InvalidPoint
from domain.model.points import decode_payload, encode_payload


def fill_fields(fields: Any, payload: bytes) -> None:
    """Write canonical JSON into a protobuf map of values.

    Values are filled in place: building them first and copying them in takes twice as long.

    Raises:
        InvalidPoint: an integer beyond int64.
    """
    _fill_map(fields, decode_payload(payload))


def payload_of(fields: Mapping[str, qdrant.Value]) -> bytes:
    """The canonical JSON of a protobuf map of values.

    Raises:
        InvalidPoint: NaN or infinity.
    """
    return encode_payload({name: plain(value) for name, value in fields.items()})


def plain(value: qdrant.Value) -> Any:
    """A protobuf value as a Python value."""
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "list_value":
        return [plain(item) for item in value.list_value.values]
    if kind == "struct_value":
        return {name: plain(inner) for name, inner in value.struct_value.fields.items()}
    return getattr(value, kind)


def fill_value(target: qdrant.Value, value: Any) -> None:
    """Write a JSON value into a protobuf value.

    Raises:
        InvalidPoint: an integer beyond int64.
    """
    # By frequency, but bool before int, which it is a subclass of.
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        try:
            target.integer_value = value
        except ValueError as exc:
            raise InvalidPoint(f"{value} does not fit into a 64-bit integer") from exc
    elif isinstance(value, float):
        target.double_value = value
    elif value is None:
        target.null_value = qdrant.NULL_VALUE
    elif isinstance(value, dict):
        target.struct_value.SetInParent()
        _fill_map(target.struct_value.fields, value)
    else:
        target.list_value.SetInParent()
        values = target.list_value.values
        for item in value:
            fill_value(values.add(), item)


def _fill_map(fields: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        fill_value(fields[name], value)
