import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.embedded.node.errors import RefusalError
from adapters.embedded.node.payload import payload_from_proto, payload_to_proto
from adapters.qdrant_grpc import qdrant

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def exactly(value: Any) -> Any:
    """The value with its types and the bits of its floats, which `==` does not tell apart."""
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exactly(item) for item in value]
    return (type(value).__name__, value)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_payloads_come_back_exactly(payload: dict[str, Any]) -> None:
    wire = qdrant.PointStruct(payload=payload_to_proto(payload)).SerializeToString()
    back = payload_from_proto(qdrant.PointStruct.FromString(wire).payload)
    assert exactly(back) == exactly(payload)


def test_a_value_of_no_kind_is_null() -> None:
    assert payload_from_proto({"a": qdrant.Value()}) == {"a": None}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_refused_at_any_depth(number: float) -> None:
    inner = qdrant.Value(double_value=number)
    nested = qdrant.Value(list_value=qdrant.ListValue(values=[inner]))
    with pytest.raises(RefusalError, match="NaN or infinite"):
        payload_from_proto({"a": nested})
