"""What our aggregates share on top of `eventsourcing`.

Aggregates have no clock: the time of an event is the database's, set when it is recorded. Until
then an event carries `NOT_RECORDED`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid5

from eventsourcing.domain import Aggregate, AggregateEvent

NOT_RECORDED = datetime.min.replace(tzinfo=UTC)
NAMESPACE = UUID("b1a7a7c6-3f0e-5d58-9f6c-6d1f0c7a3c11")


def stream_id(kind: str, *parts: str | int) -> UUID:
    """The id of the stream of this kind that these parts name; the same parts, the same id."""
    return uuid5(NAMESPACE, "/".join([kind, *(str(part) for part in parts)]))


class LedgerAggregate(Aggregate):
    """An aggregate whose events are stamped by the database."""

    class Event(Aggregate.Event):
        """A recorded fact; fields are plain JSON values."""

        @staticmethod
        def create_timestamp() -> datetime:
            return NOT_RECORDED

        def apply(self, aggregate: Any) -> None:
            """Change the aggregate's state; an event without one only counts."""

    class Created(Event, Aggregate.Created):
        """The first event of a stream."""


def pending_events(aggregate: LedgerAggregate) -> Sequence[AggregateEvent]:
    """What an aggregate decided and nobody recorded yet."""
    return cast("Sequence[AggregateEvent]", aggregate.collect_events())


@dataclass(frozen=True)
class Actor:
    """Who did something, and how the ledger knows.

    Attributes:
        id: name of a person or a service.
        established: ``os-user``, ``api-key``, ``service``: how the id was established.
    """

    id: str
    established: str


@dataclass(frozen=True)
class Context:
    """Who, why, and in answer to what: recorded with every event.

    Attributes:
        actor: who did it.
        reason: why, in their words; empty for what workers do by themselves.
        correlation_id: what it belongs to (a migration).
        causation_id: what caused it (a command, an event, a step).
    """

    actor: Actor
    reason: str = ""
    correlation_id: str = ""
    causation_id: str = ""

    def to_json(self) -> dict[str, str]:
        """The form in which it is recorded."""
        return {
            "actor": self.actor.id,
            "actor_established": self.actor.established,
            "reason": self.reason,
            "correlation_id": self.correlation_id,
            "causation_id": self.causation_id,
        }

    @classmethod
    def from_json(cls, document: dict[str, str]) -> "Context":
        """The context that `to_json` wrote."""
        return cls(
            actor=Actor(document["actor"], document["actor_established"]),
            reason=document["reason"],
            correlation_id=document["correlation_id"],
            causation_id=document["causation_id"],
        )
