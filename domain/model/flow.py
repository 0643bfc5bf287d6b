"""Flows: how points get from somewhere into generations, range by range."""

from datetime import datetime
from typing import Any
from uuid import UUID

from domain.model.aggregate import LedgerAggregate, stream_id


class Flow(LedgerAggregate):
    """One flow of a migration.

    Its ranges are streams of their own, so that workers record them without waiting for each
    other, and the first recorded result of a range wins.
    """

    TOPIC = "flow"

    class Created(LedgerAggregate.Created):
        """A flow was planned.

        Attributes:
            migration: id of the migration.
            step: id of the step.
            kind: ``capture`` (store to its own generation), ``route`` (heads to generations),
                ``follow`` (the same, and then what is written to the source) or ``return`` (what is
                written to a target goes back to where its points came from).
            source: stream of the generation that it reads.
            through: version of the source's stream when the flow was planned.
            batch: points in a change set.
            field: payload field that routes are chosen by; empty if everything has one target.
            routes: value of the field to ``{"generation": stream, "captured_at": version}``; the
                key ``*`` takes every point.
        """

        TOPIC = "flow.planned"
        migration: str
        step: str
        kind: str
        source: str
        through: int
        batch: int
        field: str
        routes: dict[str, dict[str, Any]]

    class ReturnPlanned(LedgerAggregate.Event):
        """This flow gives back what is written to a target of another one.

        Attributes:
            reverses: stream of the other flow.
            until: time, ISO 8601, from which it rests, before a rollback; None for at once.
        """

        TOPIC = "flow.return-planned"
        reverses: str
        until: str | None

        def apply(self, aggregate: "Flow") -> None:
            aggregate.reverses = UUID(self.reverses)
            aggregate.until = None if self.until is None else datetime.fromisoformat(self.until)

    def __init__(
        self,
        migration: str,
        step: str,
        kind: str,
        source: str,
        through: int,
        batch: int,
        field: str,
        routes: dict[str, dict[str, Any]],
    ) -> None:
        self.migration = migration
        self.step = step
        self.kind = kind
        self.source = UUID(source)
        self.through = through
        self.batch = batch
        self.field = field
        self.routes = routes
        self.reverses: UUID | None = None
        self.until: datetime | None = None

    def give_back(self, reverses: UUID, until: datetime | None) -> None:
        """Let this flow be the way back of another one, until it rests."""
        self.trigger_event(
            self.ReturnPlanned,
            reverses=str(reverses),
            until=None if until is None else until.isoformat(),
        )

    @property
    def first_request(self) -> dict[str, Any]:
        """What its first range has to read: points after a key, or changes since a version."""
        return {"since": self.through} if self.kind == "return" else {"after": ""}

    @property
    def follows(self) -> bool:
        """Whether changes of its source come after its points."""
        return self.kind == "follow"

    @staticmethod
    def create_id(migration: str, step: str) -> UUID:
        """The stream of the flow of a step."""
        return stream_id("flow", migration, step)


class FlowRange(LedgerAggregate):
    """What a worker found in one range of a flow."""

    TOPIC = "flow-range"

    class Created(LedgerAggregate.Created):
        """A range was read and its change sets are recorded, in one transaction with this.

        Attributes:
            flow: stream of the flow.
            kind: ``capture``, ``route``, ``follow`` or ``return``; ``stopped`` at the end of a flow
                that was ended.
            number: of the range, from 0.
            read: points read.
            placed: points by the generation that they went to.
            unplaced: points by reason that have no route.
            examples: ids of some unplaced points, by reason.
            following: what the next range has to read, or None at the end.
        """

        TOPIC = "flow.range-recorded"
        flow: str
        kind: str
        number: int
        read: int
        placed: dict[str, int]
        unplaced: dict[str, int]
        examples: dict[str, list[int | str]]
        following: dict[str, Any] | None

    def __init__(
        self,
        flow: str,
        kind: str,
        number: int,
        read: int,
        placed: dict[str, int],
        unplaced: dict[str, int],
        examples: dict[str, list[int | str]],
        following: dict[str, Any] | None,
    ) -> None:
        self.flow = flow
        self.kind = kind
        self.number = number
        self.read = read
        self.placed = placed
        self.unplaced = unplaced
        self.examples = examples
        self.following = following

    @staticmethod
    def create_id(flow: str, number: int) -> UUID:
        """The stream of a range."""
        return stream_id("flow-range", flow, number)
