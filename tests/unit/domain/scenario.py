"""Given facts, when a command, then facts: how aggregates are tested.

Every history goes through the ledger's own mapper, so what a scenario replays is what was stored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

import pytest
from eventsourcing.domain import AggregateEvent
from eventsourcing.utils import get_topic

from adapters.postgres.mapper import to_event, to_stored
from domain.model.aggregate import NOT_RECORDED, LedgerAggregate
from domain.model.errors import Rejected

A = TypeVar("A", bound=LedgerAggregate)


@dataclass(frozen=True)
class Fact:
    """An event without its place in a stream."""

    event: type[AggregateEvent]
    fields: dict[str, Any]


def fact(event: type[AggregateEvent], **fields: Any) -> Fact:
    return Fact(event, fields)


def stored_and_loaded(event: AggregateEvent) -> AggregateEvent:
    stored = to_stored(event)
    return to_event(
        {
            "stream": stored.originator_id,
            "version": stored.originator_version,
            "topic": stored.topic,
            "state": stored.state,
            "recorded_at": NOT_RECORDED,
        }
    )


def collected(aggregate: LedgerAggregate) -> list[AggregateEvent]:
    return cast("list[AggregateEvent]", aggregate.collect_events())


def replayed(events: Sequence[AggregateEvent]) -> Any:
    aggregate: Any = None
    for event in events:
        aggregate = stored_and_loaded(event).mutate(aggregate)
    return aggregate


def facts_of(events: Sequence[AggregateEvent]) -> list[Fact]:
    place = {"originator_id", "originator_version", "originator_topic", "timestamp"}
    return [
        Fact(type(e), {name: value for name, value in vars(e).items() if name not in place})
        for e in events
    ]


class Given(Generic[A]):
    """An aggregate with a history."""

    def __init__(self, aggregate: type[A], *history: Fact) -> None:
        created, *later = history
        stream: UUID = cast("Any", aggregate).create_id(
            **{name: created.fields[name] for name in _id_fields(aggregate)}
        )
        self.events: list[AggregateEvent] = [
            created.event(
                originator_id=stream,
                originator_version=1,
                timestamp=NOT_RECORDED,
                originator_topic=get_topic(aggregate),
                **created.fields,
            )
        ]
        for version, one in enumerate(later, start=2):
            self.events.append(
                one.event(
                    originator_id=stream,
                    originator_version=version,
                    timestamp=NOT_RECORDED,
                    **one.fields,
                )
            )
        self.aggregate: A = replayed(self.events)

    def when(self, *commands: Callable[[A], None]) -> "When[A]":
        return When(self, commands)


class When(Generic[A]):
    """The same, and what somebody asks of it."""

    def __init__(self, given: Given[A], commands: Sequence[Callable[[A], None]]) -> None:
        self._given = given
        self._commands = commands

    def then(self, *facts: Fact) -> A:
        aggregate = self._given.aggregate
        for command in self._commands:
            command(aggregate)
        events = collected(aggregate)
        assert facts_of(events) == list(facts)
        assert replayed([*self._given.events, *events]) == aggregate
        return aggregate

    def refused(self, because: str) -> None:
        aggregate = self._given.aggregate
        *before, last = self._commands
        for command in before:
            command(aggregate)
        events = collected(aggregate)
        with pytest.raises(Rejected, match=because):
            last(aggregate)
        assert collected(aggregate) == []
        assert replayed([*self._given.events, *events]) == aggregate


def _id_fields(aggregate: type[LedgerAggregate]) -> tuple[str, ...]:
    code = cast("Any", aggregate).create_id.__code__
    return cast("tuple[str, ...]", code.co_varnames[: code.co_argcount])
