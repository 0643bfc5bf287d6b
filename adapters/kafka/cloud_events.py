"""Events of the ledger as CloudEvents 1.0 over Kafka, in binary content mode.

The value is the event's state as JSON; everything else is in headers
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md):

| header | value |
|---|---|
| ce_specversion | 1.0 |
| ce_id | ``position/stream/version``: the same whenever the event is published again |
| ce_source | the ledger, a URI reference: ``urn:migration-ledger:`` and its id |
| ce_type | ``migration-ledger.`` and the event's topic |
| ce_time | when the database recorded it |
| ce_subject | id of the stream |
| ce_position | position in the ledger |
| ce_streamversion | number in the stream |
| ce_hash | hash of the event in the ledger's chain, hexadecimal |
| ce_timeline | number of the timeline on which this was published |
| ce_actor, ce_actorestablished | who, and how that is known |
| ce_reason, ce_correlationid, ce_causationid | left out when empty, as the standard wants it |

After a recovery everything is published again on the next timeline. Messages of a lower one are
stale, and events at the same position may differ between timelines: their hashes tell.

The type has no reverse domain name in front because the ledger belongs to no domain; who needs one
tells ledgers apart by the source. The key is the id of the stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from domain.model.errors import Rejected
from domain.model.recorded import Recorded
from domain.model.timeline import Witness

TYPE_PREFIX = "migration-ledger."
SOURCE = "urn:migration-ledger"
_NOT_STATE = frozenset({"originator_id", "originator_version", "originator_topic", "timestamp"})

Headers = Sequence[tuple[str, bytes]]


class Message(NamedTuple):
    """A Kafka message."""

    key: bytes
    value: bytes
    headers: Headers


class Delivery(NamedTuple):
    """Where a consumer got a change from; it finds its place by this when the change is done.

    Attributes:
        partition: of the topic.
        offset: in the partition.
        session: of the consumer with this partition.
    """

    partition: int
    offset: int
    session: int


@dataclass(frozen=True)
class Change:
    """An event of a generation, as an applier gets it.

    Attributes:
        position: in the ledger.
        stream: the generation.
        version: number in the generation's stream.
        topic: what kind of event.
        state: fields of the event.
        delivery: where it came from.
    """

    position: int
    stream: UUID
    version: int
    topic: str
    state: dict[str, Any]
    delivery: Delivery | None = field(default=None, compare=False)


def source_of(ledger: str) -> str:
    """The URI reference of a ledger."""
    return f"{SOURCE}:{ledger}"


def encode(recorded: Recorded, source: str, timeline: int = 1) -> Message:
    """An event as a message.

    Args:
        recorded: the event.
        source: which ledger, as a URI reference.
        timeline: number of the ledger's timeline.
    """
    stream = str(recorded.stream)
    context = recorded.context
    state = {name: value for name, value in vars(recorded.event).items() if name not in _NOT_STATE}
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": f"{recorded.position}/{stream}/{recorded.version}",
        "ce_source": source,
        "ce_type": TYPE_PREFIX + recorded.topic,
        "ce_time": recorded.recorded_at.isoformat(),
        "ce_subject": stream,
        "ce_position": str(recorded.position),
        "ce_streamversion": str(recorded.version),
        "ce_hash": recorded.hash.hex(),
        "ce_timeline": str(timeline),
        "ce_actor": context.actor.id,
        "ce_actorestablished": context.actor.established,
        "ce_reason": context.reason,
        "ce_correlationid": context.correlation_id,
        "ce_causationid": context.causation_id,
        "content-type": "application/json",
    }
    return Message(
        key=stream.encode(),
        value=orjson.dumps(state, option=orjson.OPT_SORT_KEYS),
        headers=[(name, value.encode()) for name, value in attributes.items() if value],
    )


def decode(message: Message, delivery: Delivery | None = None) -> Change:
    """A message as a change.

    Raises:
        Rejected: it is none of ours.
    """
    attributes = dict(message.headers)
    try:
        kind = attributes["ce_type"].decode()
        change = Change(
            position=int(attributes["ce_position"]),
            stream=UUID(attributes["ce_subject"].decode()),
            version=int(attributes["ce_streamversion"]),
            topic=kind.removeprefix(TYPE_PREFIX),
            state=orjson.loads(message.value),
            delivery=delivery,
        )
    except (KeyError, ValueError, TypeError) as exc:
        raise Rejected("a message is not an event of a ledger") from exc
    if not kind.startswith(TYPE_PREFIX):
        raise Rejected(f"a message of type {kind} is not an event of a ledger")
    return change


def witness_of(where: str, headers: Headers) -> Witness | None:
    """What a message says of its ledger; None if it is not an event of one.

    Messages of former versions name neither ledger nor timeline; they are of the first one.
    """
    attributes = dict(headers)
    try:
        source = attributes["ce_source"].decode()
        witness = Witness(
            where=where,
            position=int(attributes["ce_position"]),
            hash=bytes.fromhex(attributes["ce_hash"].decode()).hex(),
            timeline=int(attributes.get("ce_timeline", b"1")),
            ledger=source.removeprefix(SOURCE).removeprefix(":"),
        )
    except (KeyError, ValueError):
        return None
    return witness if source.startswith(SOURCE) else None
