"""Events as bytes and back, on eventsourcing's mapper: explicit topics, upcasters, JSON."""

import re
from datetime import datetime
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

import orjson
from eventsourcing.domain import AggregateEvent
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder
from eventsourcing.utils import resolve_topic

from domain.model.aggregate import Context, LedgerAggregate
from domain.model.application import Application
from domain.model.erasure import Erasure
from domain.model.errors import Rejected
from domain.model.flow import Flow, FlowRange
from domain.model.generation import Generation
from domain.model.migration import Migration
from domain.model.recorded import Recorded
from domain.model.retention import Retention, Sweep
from domain.model.timeline import Timeline
from domain.model.verification import VerificationLog
from domain.model.version import Version

AGGREGATES: tuple[type[LedgerAggregate], ...] = (
    Application,
    Erasure,
    Flow,
    FlowRange,
    Generation,
    Migration,
    Retention,
    Sweep,
    Timeline,
    VerificationLog,
    Version,
)
"""Whose events the ledger has. Topics are found by name once their classes are imported."""

COLUMNS = "position, stream, version, topic, state, context, recorded_at, hash"
"""Columns of `events` in the order in which `to_recorded` takes them."""

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""The escape of NUL, and not that of a backslash before the same letters."""

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


class StateTranscoder(Transcoder):
    """An event's fields as JSON with sorted keys, so that the same fields are the same bytes.

    The timestamp is left out: it is the database's, in a column of its own.
    """

    def encode(self, obj: dict[str, Any]) -> bytes:
        """The bytes of an event's fields."""
        return encode_json({name: value for name, value in obj.items() if name != "timestamp"})

    def decode(self, data: bytes) -> Any:
        """The fields of an event."""
        return orjson.loads(data)


_MAPPER: Mapper[UUID] = Mapper(StateTranscoder())


def to_stored(event: AggregateEvent) -> StoredEvent:
    """The form in which an event is stored."""
    return _MAPPER.to_stored_event(event)


def to_event(row: Any) -> AggregateEvent:
    """The event of a row with `stream`, `version`, `topic`, `state` and `recorded_at`."""
    return _event(
        plain_uuid(row["stream"]), row["version"], row["topic"], row["state"], row["recorded_at"]
    )


def to_recorded(row: Any) -> Recorded:
    """What the ledger gives for a row of `events` with the `COLUMNS`."""
    position, stream, version, topic, state, context, recorded_at, hash_ = row
    stream = plain_uuid(stream)
    fields = {
        "position": position,
        "stream": stream,
        "version": version,
        "topic": topic,
        "event": _event(stream, version, topic, state, recorded_at),
        "context": _context(context),
        "hash": hash_,
    }
    recorded = object.__new__(Recorded)
    object.__setattr__(recorded, "__dict__", fields)  # its constructor goes field by field
    return recorded


def _event(
    stream: UUID, version: int, topic: str, state: bytes, recorded_at: datetime
) -> AggregateEvent:
    """What `Mapper.to_domain_event` does, without ciphers, compressors and other kinds of ids.

    Everything that follows the ledger reads every event, so half the time is worth it.
    """
    kind = resolve_topic(topic)
    fields = orjson.loads(state)
    written = fields.pop("class_version", 1)
    while written < getattr(kind, "class_version", 1):
        getattr(kind, f"upcast_v{written}_v{written + 1}")(fields)
        written += 1
    fields["originator_id"] = stream
    fields["originator_version"] = version
    fields["timestamp"] = recorded_at
    event = object.__new__(kind)
    object.__setattr__(event, "__dict__", fields)
    return cast("AggregateEvent", event)


def encode_context(context: Context) -> bytes:
    """The bytes of a context, as they are hashed and stored."""
    return encode_json(context.to_json())


def encode_json(document: Any) -> bytes:
    """JSON with sorted keys.

    Raises:
        Rejected: a text in it has a character that PostgreSQL keeps in no text of a read model.
    """
    encoded = orjson.dumps(document, option=_OPTIONS)
    if b"\\u0000" in encoded and _NUL.search(encoded):
        raise Rejected("a text has the character NUL (U+0000), which cannot be recorded")
    return encoded


@lru_cache(maxsize=1024)
def _context(encoded: bytes) -> Context:
    return Context.from_json(orjson.loads(encoded))


@lru_cache(maxsize=65536)
def plain_uuid(value: UUID) -> UUID:
    """A UUID of the standard library for one of the driver's own class, which JSON refuses."""
    return UUID(int=value.int)
