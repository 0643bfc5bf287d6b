"""Compare collections once more that others write to, after clients were told the new names."""

from typing import Any

from domain.use_cases.steps.step_run import StepRun


async def do(run: StepRun) -> dict[str, Any]:
    """Count what was written to the sources of a hand-over since; it is in no copy.

    What is found is recorded, and stops nothing: the new collections serve already.
    """
    late, examples = {}, {}
    for status in await run.looked_after(run.step.params["collections"]):
        found = await run.verify_and_record(status.physical)
        late[status.physical] = found.missing + found.extra + found.changed
        if found.examples:
            examples[status.physical] = found.examples
    return {"late": late, "examples": examples}


async def undo(_run: StepRun) -> dict[str, Any]:
    """A comparison changes nothing."""
    return {}
