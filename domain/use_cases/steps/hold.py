"""Hold the writes of applications to collections while their points are on their way elsewhere."""

from typing import Any

from domain.use_cases.steps.step_run import StepRun


async def do(run: StepRun) -> dict[str, Any]:
    """Refuse live writes from here on; they are told which migration to ask about.

    Raises:
        StepBlocked: another migration holds them already, so that its copies would miss what this
            one changes.
    """
    for physical in run.step.params["collections"]:
        await run.hold_alone((await run.generation(physical)).generation)
    return {"held": list(run.step.params["collections"])}


async def undo(run: StepRun) -> dict[str, Any]:
    """Let live writes go on."""
    there = await run.looked_after(run.step.params["collections"])
    for status in there:
        await run.resume(status.generation)
    return {"resumed": [status.physical for status in there]}
