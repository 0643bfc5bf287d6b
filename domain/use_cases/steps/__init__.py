"""Step executors, one file for each kind of step, and this registry of them."""

from typing import Any, Protocol

from domain.model.plan import StepKind
from domain.use_cases.steps import (
    adopt,
    aliases,
    check,
    create,
    drop,
    flow,
    hand_over,
    hold,
    look_again,
    restore,
    restructure,
    resume,
)
from domain.use_cases.steps.step_run import StepRun


class Executor(Protocol):
    """Does one kind of step, and undoes it. Both may be repeated after a crash."""

    async def do(self, run: StepRun) -> dict[str, Any]:
        """Do the step; returns what it really did."""

    async def undo(self, run: StepRun) -> dict[str, Any]:
        """Undo what the step did, as far as it came; returns what was undone."""


EXECUTORS: dict[StepKind, Executor] = {
    StepKind.ADOPT: adopt,
    StepKind.CREATE: create,
    StepKind.HOLD_WRITES: hold,
    StepKind.RESTORE: restore,
    StepKind.FLOW: flow,
    StepKind.CHECK: check,
    StepKind.HAND_OVER: hand_over,
    StepKind.LOOK_AGAIN: look_again,
    StepKind.POINT_ALIASES: aliases,
    StepKind.RESTRUCTURE: restructure,
    StepKind.DROP: drop,
    StepKind.RESUME_WRITES: resume,
}
