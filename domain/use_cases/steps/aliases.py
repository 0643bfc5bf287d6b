"""Let names serve the new collections: the cut-over."""

from functools import partial
from typing import Any

from domain.model.errors import Conflict
from domain.model.generation import Generation
from domain.use_cases.steps.gap import gap_ms
from domain.use_cases.steps.step_run import StepRun
from domain.use_cases.tools import live_generation, update


async def do(run: StepRun) -> dict[str, Any]:
    """Point every alias to its collection.

    Where the migration dropped a collection for an alias of the same name, the result says how long
    nothing answered under it.

    Raises:
        Conflict: somebody has pointed one elsewhere since the plan.
    """
    previous = run.step.params["previous"]
    there = await run.store.aliases()
    for alias, physical in run.step.params["aliases"].items():
        if there.get(alias) not in {None, previous.get(alias), physical}:
            raise Conflict(
                f"alias {alias!r} points to {there[alias]!r} now, which the plan does not know; "
                "roll back and plan again"
            )
    waiting = []
    for alias, physical in run.step.params["aliases"].items():
        status = await run.generation(physical)
        await update(
            run.tools.ledger,
            Generation,
            status.generation,
            run.key(alias),
            run.context,
            partial(Generation.point_alias, alias=alias, previous=previous.get(alias)),
        )
        waiting.append(status.generation)
    await run.applied(waiting)
    gaps = {alias: await gap_ms(run, alias) for alias in run.step.params["aliases"]}
    known = {alias: gap for alias, gap in gaps.items() if gap is not None}
    return {"pointed": run.step.params["aliases"], **({"gap_ms": known} if known else {})}


async def undo(run: StepRun) -> dict[str, Any]:
    """Point every alias back to where it was, or remove it."""
    previous = run.step.params["previous"]
    waiting, removed = [], []
    for alias, physical in run.step.params["aliases"].items():
        status = await live_generation(run.tools.applications, run.store_name, physical)
        if status is None:
            continue
        generation = await run.tools.ledger.load(Generation, status.generation)
        if generation is not None and alias in generation.aliases:
            await update(
                run.tools.ledger,
                Generation,
                status.generation,
                run.key(alias),
                run.context,
                partial(Generation.remove_alias, alias=alias, restore=previous.get(alias)),
            )
            removed.append(alias)
        waiting.append(status.generation)
    await run.applied(waiting, skip=True)
    return {"removed": removed}
