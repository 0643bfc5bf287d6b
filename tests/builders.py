"""What unit tests make their histories of."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from eventsourcing.domain import AggregateEvent
from eventsourcing.utils import get_topic
from hypothesis import settings

from domain.model.aggregate import Actor, Context, LedgerAggregate
from domain.model.plan import Phase, Plan, Step, StepKind
from domain.model.recorded import Recorded

few_examples = settings(max_examples=25, deadline=None)
"""For properties whose examples are slow to make; a deadline would be a timing assertion."""

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MARA = Actor("mara", "os-user")


def recorded_at(position: int) -> datetime:
    """The database's time of a position: one second later each."""
    return START + timedelta(seconds=position)


class History:
    """A ledger in memory: numbers positions and versions, and sets the database's time."""

    def __init__(self) -> None:
        self.recorded: list[Recorded] = []
        self._versions: dict[UUID, int] = {}

    def record(self, aggregate: LedgerAggregate, context: Context | None = None) -> None:
        """Record what an aggregate has collected."""
        for event in aggregate.collect_events():
            self._add(event, context or Context(MARA))

    def _add(self, event: AggregateEvent, context: Context) -> None:
        stream = event.originator_id
        position = len(self.recorded) + 1
        self._versions[stream] = self._versions.get(stream, 0) + 1
        assert event.originator_version == self._versions[stream]
        vars(event)["timestamp"] = recorded_at(position)
        self.recorded.append(
            Recorded(
                position=position,
                stream=stream,
                version=event.originator_version,
                topic=get_topic(type(event)),
                event=event,
                context=context,
                hash=sha256(position.to_bytes(8, "big")).digest(),
            )
        )


def plan_of(steps: Sequence[str], **estimates: Any) -> Plan:
    """A plan whose steps have these ids."""
    phases = [Phase.BACKUP, Phase.CREATION, Phase.MIGRATION, Phase.CUT_OVER]
    return Plan(
        steps=tuple(
            Step(name, StepKind.CREATE, phases[index % len(phases)], {}, "does", "undo", "verify")
            for index, name in enumerate(steps)
        ),
        facts={"source": {"1": "one"}},
        estimates=estimates,
    )
