"""Let the writes of applications go on that an earlier step holds."""

from typing import Any

from domain.use_cases.steps import hold
from domain.use_cases.steps.step_run import StepRun
from domain.use_cases.tools import live_generation


async def do(run: StepRun) -> dict[str, Any]:
    """Let live writes go on."""
    return await hold.undo(run)


async def undo(run: StepRun) -> dict[str, Any]:
    """Hold them again, until all is undone."""
    held = []
    for physical in run.step.params["collections"]:
        status = await live_generation(run.tools.applications, run.store_name, physical)
        if status is not None:
            await run.hold(status.generation)
            held.append(physical)
    return {"held": held}
