"""Events as bytes and back, on eventsourcing's mapper: explicit topics, upcasters, JSON."""

from functools import lru_cache
from typing import Any, cast
from uuid import UUID

import orjson
from eventsourcing.domain import AggregateEvent
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder

from domain.model.aggregate import Context
from domain.model.recorded import Recorded

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


class StateTranscoder(Transcoder):
    """An event's fields as JSON with sorted keys, so that the same fields are the same bytes.

    The timestamp is left out: it is the database's, in a column of its own.
    """

    def encode(self, obj: dict[str, Any]) -> bytes:
        """The bytes of an event's fields."""
        return orjson.dumps(
            {name: value for name, value in obj.items() if name != "timestamp"}, option=_OPTIONS
        )

    def decode(self, data: bytes) -> Any:
        """The fields of an event."""
        return orjson.loads(data)


_MAPPER: Mapper[UUID] = Mapper(StateTranscoder())


def to_stored(event: AggregateEvent) -> StoredEvent:
    """The form in which an event is stored."""
    return _MAPPER.to_stored_event(event)


def to_event(row: Any) -> AggregateEvent:
    """The event of a row with `stream`, `version`, `topic`, `state` and `recorded_at`."""
    event = _MAPPER.to_domain_event(
        StoredEvent(plain_uuid(row["stream"]), row["version"], row["topic"], row["state"])
    )
    vars(event)["timestamp"] = row["recorded_at"]
    return cast("AggregateEvent", event)


def to_recorded(row: Any) -> Recorded:
    """What the ledger gives for a row of `events`."""
    event = to_event(row)
    return Recorded(
        position=row["position"],
        stream=event.originator_id,
        version=row["version"],
        topic=row["topic"],
        event=event,
        context=_context(row["context"]),
        hash=row["hash"],
    )


def encode_context(context: Context) -> bytes:
    """The bytes of a context, as they are hashed and stored."""
    return encode_json(context.to_json())


def encode_json(document: Any) -> bytes:
    """JSON with sorted keys."""
    return orjson.dumps(document, option=_OPTIONS)


@lru_cache(maxsize=1024)
def _context(encoded: bytes) -> Context:
    return Context.from_json(orjson.loads(encoded))


@lru_cache(maxsize=65536)
def plain_uuid(value: UUID) -> UUID:
    """A UUID of the standard library for one of the driver's own class, which JSON refuses."""
    return UUID(int=value.int)
