"""Protobuf messages to and from plain JSON, field by field, losing nothing silently.

`google.protobuf.json_format` writes 64-bit integers as strings, drops zeros that have a meaning
and passes over fields that this client does not know; settings must survive all three.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.unknown_fields import (  # type: ignore[import-untyped]
    UnknownFieldSet,
)

from domain.model.errors import Rejected

Message = Any


def to_json(message: Message, path: str) -> dict[str, Any]:
    """A message as plain JSON: what is set, and fields that are never unset.

    Args:
        message: of settings.
        path: what the message is, for errors.

    Raises:
        Rejected: it has a field or an enum value that this client does not know.
    """
    document: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        inner = f"{path}.{field.name}"
        if not field.is_repeated:
            document[field.name] = _plain(field, value, inner)
        elif value:
            document[field.name] = _repeated(field, value, inner)
    refuse_unknown(message, path)
    return document


def refuse_unknown(message: Message, path: str) -> None:
    """Fail if a newer server sent a field that this client does not know.

    Raises:
        Rejected: with the path and the field's number.
    """
    numbers = sorted({unknown.field_number for unknown in UnknownFieldSet(message)})
    if numbers:
        raise Rejected(
            f"{path} has a setting that this version does not know and would lose: "
            f"field {', '.join(map(str, numbers))} of {message.DESCRIPTOR.full_name}"
        )


def fill(message: Message, document: Mapping[str, Any], path: str) -> None:
    """Set the fields of a message from plain JSON.

    Raises:
        Rejected: a name is no field of the message, or a value does not fit its field.
    """
    if not isinstance(document, Mapping):
        raise Rejected(f"{path} must be an object, not {document!r}")
    for name, value in document.items():
        field = message.DESCRIPTOR.fields_by_name.get(name)
        inner = f"{path}.{name}"
        if field is None:
            raise Rejected(f"{inner} is not a setting of {message.DESCRIPTOR.full_name}")
        try:
            _set(message, field, value, inner)
        except (TypeError, ValueError, AttributeError) as exc:
            raise Rejected(f"{inner} cannot be {value!r}: {exc}") from exc


def _plain(field: Any, value: Any, path: str) -> Any:
    if field.message_type is not None:
        return to_json(value, path)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        if known is None:
            raise Rejected(f"{path} is {value}, which this version does not know and would lose")
        return known.name
    if field.type == field.TYPE_FLOAT:
        return float(str(np.float32(value)))  # the shortest decimal that gives this float32
    return value


def _repeated(field: Any, values: Any, path: str) -> Any:
    if _is_map(field):
        inner = field.message_type.fields_by_name["value"]
        return {key: _plain(inner, values[key], f"{path}.{key}") for key in sorted(values)}
    return [_plain(field, value, f"{path}[{row}]") for row, value in enumerate(values)]


def _set(message: Message, field: Any, value: Any, path: str) -> None:
    if _is_map(field):
        for key, inner in value.items():
            fill(getattr(message, field.name)[key], inner, f"{path}.{key}")
    elif field.is_repeated:
        getattr(message, field.name).extend(value)
    elif field.message_type is not None:
        inner = getattr(message, field.name)
        inner.SetInParent()
        fill(inner, value, path)
    elif field.enum_type is not None:
        known = field.enum_type.values_by_name.get(value)
        if known is None:
            raise Rejected(
                f"{path} cannot be {value!r}: one of {sorted(field.enum_type.values_by_name)}"
            )
        setattr(message, field.name, known.number)
    else:
        setattr(message, field.name, value)


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(
        field.message_type.has_options and field.message_type.GetOptions().map_entry
    )
