"""What events may hold."""

import pytest

from adapters.postgres.mapper import encode_context, to_stored
from domain.model.aggregate import Actor, Context, pending_events
from domain.model.errors import Rejected
from domain.model.retention import Retention

MARA = Actor("mara", "os-user")


@pytest.mark.parametrize("text", ["\0", "a\0b", "\\\0", "\\\\\0"])
def test_the_character_nul_is_not_recorded(text: str) -> None:
    """PostgreSQL has no such text, so no read model could have the event."""
    with pytest.raises(Rejected, match="NUL"):
        encode_context(Context(MARA, reason=text))
    retention = Retention("prod", "docs")
    retention.place_hold(text)
    with pytest.raises(Rejected, match="NUL"):
        [to_stored(event) for event in pending_events(retention)]


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "u0000", "\1", "\u2400"])
def test_what_only_looks_like_it_is(text: str) -> None:
    assert encode_context(Context(MARA, reason=text))
