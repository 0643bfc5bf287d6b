"""Let the writes of applications go on that an earlier step holds."""

from typing import Any

from domain.use_cases.steps import hold
from domain.use_cases.steps.step_run import StepRun


async def do(run: StepRun) -> dict[str, Any]:
    """Let live writes go on."""
    return await hold.undo(run)


async def undo(run: StepRun) -> dict[str, Any]:
    """Hold them again, until all is undone."""
    there = await run.looked_after(run.step.params["collections"])
    for status in there:
        await run.hold(status.generation)
    return {"held": [status.physical for status in there]}
