"""A migration: a plan, and what became of it step by step."""

from enum import StrEnum
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson

from domain.model.aggregate import LedgerAggregate, stream_id
from domain.model.errors import Rejected
from domain.model.plan import Plan, Step, StepKind


class State(StrEnum):
    """Where a migration is."""

    PLANNED = "planned"
    RUNNING = "running"
    FAILED = "failed"
    COMPLETED = "completed"
    ROLLING_BACK = "rolling back"
    ROLLED_BACK = "rolled back"
    CANCELLED = "cancelled"

    @property
    def settled(self) -> bool:
        """Whether no worker has anything to do until somebody asks for it."""
        return self not in {State.RUNNING, State.ROLLING_BACK}


class Migration(LedgerAggregate):
    """One migration, from its plan to its end."""

    TOPIC = "migration"

    class Created(LedgerAggregate.Created):
        """A plan was made and recorded.

        Attributes:
            name: from the spec.
            recipe: from the spec.
            spec: the whole spec, which has no credentials.
            attempt: 1 for the first migration with this spec.
            plan: `Plan` as JSON.
            plan_hash: what will be applied, exactly.
        """

        TOPIC = "migration.planned"
        name: str
        recipe: str
        spec: dict[str, Any]
        attempt: int
        plan: dict[str, Any]
        plan_hash: str

    class Started(LedgerAggregate.Event):
        """Somebody asked to apply the plan, or to go on after a failure."""

        TOPIC = "migration.started"
        plan_hash: str

        def apply(self, aggregate: "Migration") -> None:
            aggregate.state = State.RUNNING
            aggregate.error = None

    class StepStarted(LedgerAggregate.Event):
        """A step begins; nothing of it has had an effect before this event."""

        TOPIC = "migration.step-started"
        step: str
        phase: str

        def apply(self, aggregate: "Migration") -> None:
            aggregate.started.append(self.step)

    class StepCompleted(LedgerAggregate.Event):
        """A step did what it should.

        Attributes:
            step: its id.
            result: what it really did, for its compensation and for statistics.
        """

        TOPIC = "migration.step-completed"
        step: str
        result: dict[str, Any]

        def apply(self, aggregate: "Migration") -> None:
            aggregate.results[self.step] = self.result

    class StepFailed(LedgerAggregate.Event):
        """A step could not do what it should; the migration stops there.

        Attributes:
            step: its id.
            category: kind of the error.
            error: what happened, and the way out.
        """

        TOPIC = "migration.step-failed"
        step: str
        category: str
        error: str

        def apply(self, aggregate: "Migration") -> None:
            aggregate.error = self.error
            aggregate.state = State.FAILED
            aggregate.failures += 1

    class Completed(LedgerAggregate.Event):
        """Every step is done and verified.

        Attributes:
            statistics: counts of what was done.
        """

        TOPIC = "migration.completed"
        statistics: dict[str, Any]

        def apply(self, aggregate: "Migration") -> None:
            aggregate.state = State.COMPLETED
            aggregate.statistics = self.statistics

    class RollbackRequested(LedgerAggregate.Event):
        """Somebody, or a failure, asked to undo the migration.

        Attributes:
            cancelled: it was running and is given up, so that it ends as cancelled.
        """

        TOPIC = "migration.rollback-requested"
        cancelled: bool

        def apply(self, aggregate: "Migration") -> None:
            aggregate.state = State.ROLLING_BACK
            aggregate.undoing = True
            aggregate.cancelled = self.cancelled

    class StepCompensated(LedgerAggregate.Event):
        """What a step did is undone.

        Attributes:
            step: its id.
            result: what the compensation did.
        """

        TOPIC = "migration.step-compensated"
        step: str
        result: dict[str, Any]

        def apply(self, aggregate: "Migration") -> None:
            aggregate.compensated[self.step] = self.result

    class RolledBack(LedgerAggregate.Event):
        """Everything that the migration did is undone."""

        TOPIC = "migration.rolled-back"

        def apply(self, aggregate: "Migration") -> None:
            aggregate.state = State.CANCELLED if aggregate.cancelled else State.ROLLED_BACK

    class RollbackFailed(LedgerAggregate.Event):
        """A compensation could not do what it should; asking again goes on from there.

        Attributes:
            step: its id.
            category: kind of the error.
            error: what happened, and the way out.
        """

        TOPIC = "migration.rollback-failed"
        step: str
        category: str
        error: str

        def apply(self, aggregate: "Migration") -> None:
            aggregate.error = self.error
            aggregate.state = State.FAILED

    def __init__(
        self,
        name: str,
        recipe: str,
        spec: dict[str, Any],
        attempt: int,
        plan: dict[str, Any],
        plan_hash: str,
    ) -> None:
        self.name = name
        self.recipe = recipe
        self.spec = spec
        self.attempt = attempt
        self.plan = Plan.from_json(plan)
        self.plan_hash = plan_hash
        self.state = State.PLANNED
        self.undoing = False
        self.cancelled = False
        self.error: str | None = None
        self.failures = 0
        self.started: list[str] = []
        self.results: dict[str, dict[str, Any]] = {}
        self.compensated: dict[str, dict[str, Any]] = {}
        self.statistics: dict[str, Any] = {}

    @staticmethod
    def create_id(spec: dict[str, Any], attempt: int) -> UUID:
        """The stream of the n-th migration with this spec."""
        canonical = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)
        return stream_id("migration", sha256(canonical).hexdigest(), attempt)

    @property
    def next_step(self) -> Step | None:
        """The step to run next, or None when all are completed."""
        return next((step for step in self.plan.steps if step.id not in self.results), None)

    @property
    def verified(self) -> bool:
        """Whether a check was passed, so that people may rely on what was copied."""
        return any(s.kind is StepKind.CHECK and s.id in self.results for s in self.plan.steps)

    @property
    def gaps(self) -> dict[str, int]:
        """For how many milliseconds nothing answered under a name, by name."""
        found = [result.get("gap_ms", {}) for result in self.results.values()]
        return {name: gap for gaps in found for name, gap in gaps.items()}

    @property
    def next_compensation(self) -> Step | None:
        """The step to undo next, last started first, or None when all are undone."""
        return next(
            (
                step
                for step in reversed(self.plan.steps)
                if step.id in self.started and step.id not in self.compensated
            ),
            None,
        )

    def start(self, plan_hash: str) -> None:
        """Apply the plan, or go on after a failure.

        Raises:
            Rejected: the hash is of another plan, or the migration is over or going back.
        """
        if plan_hash != self.plan_hash:
            raise Rejected(f"migration {self.id} has plan {self.plan_hash}, not {plan_hash}")
        if self.undoing and self.state is State.FAILED:
            raise Rejected(
                f"migration {self.id} is being rolled back, so it cannot be applied; `rollback` "
                "goes on"
            )
        if self.undoing or self.state not in {State.PLANNED, State.FAILED}:
            raise Rejected(f"migration {self.id} is {self.state}; it cannot be applied")
        self.trigger_event(self.Started, plan_hash=plan_hash)

    def start_step(self, step: Step) -> None:
        """Begin the next step; a step that has begun before goes on.

        Raises:
            Rejected: the migration is not running, or another step is next.
        """
        self._expect(State.RUNNING)
        self._expect_next(step, self.next_step)
        if step.id not in self.started:
            self.trigger_event(self.StepStarted, step=step.id, phase=step.phase.value)

    def complete_step(self, step: Step, result: dict[str, Any]) -> None:
        """Note what the step that began last really did.

        Raises:
            Rejected: the migration is not running, or the step is not the one that began.
        """
        self._expect(State.RUNNING)
        self._expect_next(step, self.next_step if step.id in self.started else None)
        self.trigger_event(self.StepCompleted, step=step.id, result=result)

    def fail_step(self, step: Step, category: str, error: str) -> None:
        """Stop at a step, forward or back.

        Raises:
            Rejected: the migration is settled, and no step is under way.
        """
        if self.state is State.ROLLING_BACK:
            event: type[LedgerAggregate.Event] = self.RollbackFailed
        else:
            self._expect(State.RUNNING)
            event = self.StepFailed
        self.trigger_event(event, step=step.id, category=category, error=error)

    def complete(self, statistics: dict[str, Any]) -> None:
        """Note that every step is done.

        Raises:
            Rejected: the migration is not running, or a step is missing.
        """
        self._expect(State.RUNNING)
        if self.next_step is not None:
            raise Rejected(f"migration {self.id} has still to run step {self.next_step.id!r}")
        self.trigger_event(self.Completed, statistics=statistics)

    def request_rollback(self) -> None:
        """Undo the migration; one that is running is cancelled.

        Raises:
            Rejected: it was only planned, and there is nothing to undo.
        """
        if self.state in {State.ROLLING_BACK, State.ROLLED_BACK, State.CANCELLED}:
            return
        if self.state is State.PLANNED:
            raise Rejected(f"migration {self.id} was only planned; there is nothing to roll back")
        self.trigger_event(
            self.RollbackRequested, cancelled=self.cancelled or self.state is State.RUNNING
        )

    def cancel(self) -> None:
        """Give up a migration that is not over: what it did is undone.

        Raises:
            Rejected: it is completed; that is rolled back, not cancelled.
        """
        if self.state is State.COMPLETED:
            raise Rejected(f"migration {self.id} is completed; use rollback to undo it")
        if self.state in {State.ROLLING_BACK, State.ROLLED_BACK, State.CANCELLED}:
            return
        self.trigger_event(self.RollbackRequested, cancelled=True)

    def compensate_step(self, step: Step, result: dict[str, Any]) -> None:
        """Note what the next compensation did.

        Raises:
            Rejected: the migration is not rolling back, or another compensation is next.
        """
        self._expect(State.ROLLING_BACK)
        self._expect_next(step, self.next_compensation)
        self.trigger_event(self.StepCompensated, step=step.id, result=result)

    def finish_rollback(self) -> None:
        """Note that everything is undone.

        Raises:
            Rejected: the migration is not rolling back, or a compensation is missing.
        """
        self._expect(State.ROLLING_BACK)
        if self.next_compensation is not None:
            raise Rejected(
                f"migration {self.id} has still to undo step {self.next_compensation.id!r}"
            )
        self.trigger_event(self.RolledBack)

    def _expect(self, state: State) -> None:
        if self.state is not state:
            raise Rejected(f"migration {self.id} is {self.state}, not {state}")

    def _expect_next(self, step: Step, expected: Step | None) -> None:
        if expected is None or step.id != expected.id:
            raise Rejected(f"migration {self.id} is not at step {step.id!r}")
