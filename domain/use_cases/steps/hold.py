"""Hold the writes of applications to collections while their points are on their way elsewhere."""

from typing import Any

from domain.use_cases.steps.step_run import StepRun
from domain.use_cases.tools import live_generation


async def do(run: StepRun) -> dict[str, Any]:
    """Refuse live writes from here on; they are told which migration to ask about."""
    for physical in run.step.params["collections"]:
        await run.hold((await run.generation(physical)).generation)
    return {"held": list(run.step.params["collections"])}


async def undo(run: StepRun) -> dict[str, Any]:
    """Let live writes go on."""
    resumed = []
    for physical in run.step.params["collections"]:
        status = await live_generation(run.tools.applications, run.store_name, physical)
        if status is not None:
            await run.resume(status.generation)
            resumed.append(physical)
    return {"resumed": resumed}
