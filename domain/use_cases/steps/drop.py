"""Drop collections that the ledger holds completely, and bring them back."""

from functools import partial
from typing import Any
from uuid import UUID

from domain.model.errors import Corrupt
from domain.model.generation import Generation
from domain.model.migration import Migration
from domain.model.plan import StepKind
from domain.ports import GenerationStatus
from domain.use_cases.steps.check import refuse_uncopied, verified
from domain.use_cases.steps.step_run import StepRun
from domain.use_cases.tools import live_generation, update


async def do(run: StepRun) -> dict[str, Any]:
    """Compare the collections with the ledger once more, then drop them.

    One that holds points which a flow of the migration had no place for is kept.
    """
    await refuse_uncopied(run)
    kept = await _unplaced(run)
    there = [
        physical
        for physical in run.step.params["collections"]
        if physical not in kept
        and await live_generation(run.tools.applications, run.store_name, physical)
    ]
    result = await verified(run, there)
    dropped: list[UUID] = []
    for physical in there:
        status = await run.generation(physical)
        await run.drop(status.generation, physical)
        dropped.append(status.generation)
    known = await _dropped(run)
    await run.applied(status.generation for status in known.values())
    return {
        **result,
        "dropped": {p: str(status.generation) for p, status in known.items()},
        "kept": kept,
    }


async def _unplaced(run: StepRun) -> dict[str, int]:
    """How many points have no place, by the collection that still holds them."""
    migration = await run.tools.ledger.load(Migration, run.migration)
    if migration is None:
        raise Corrupt(f"migration {run.migration} is not in the ledger")
    unplaced: dict[str, int] = {}
    for step in migration.plan.steps:
        if step.kind is not StepKind.FLOW:
            continue
        for physical in (flow["source"] for flow in step.params["flows"]):
            ranges = await run.recorded_ranges(run.forward_flow(step.id, physical))
            if count := sum(sum(part.unplaced.values()) for part in ranges):
                unplaced[physical] = count
    return unplaced


async def undo(run: StepRun) -> dict[str, Any]:
    """Make each dropped collection again from the bodies that its heads refer to."""
    dropped = await _dropped(run)
    # The collection of this name must be gone before another one takes its place.
    await run.applied(status.generation for status in dropped.values())
    flows = {}
    for physical, before in dropped.items():
        former = await run.tools.ledger.load(Generation, before.generation)
        if former is None:
            raise Corrupt(f"generation {before.generation} of {physical!r} is not in the ledger")
        status = await run.declare(physical, before.collection, former.schema, "created", held=True)
        flows[physical] = await run.start_flow(
            physical, "route", before.generation, {"*": status.generation}
        )
    for flow in flows.values():
        await run.flowed(flow)
    result = await verified(run, list(dropped))
    for alias, physical in run.step.params["aliases"].items():
        if physical in dropped:
            status = await run.generation(physical)
            await update(
                run.tools.ledger,
                Generation,
                status.generation,
                run.key("alias", alias),
                run.context,
                partial(Generation.point_alias, alias=alias, previous=None),
            )
    await run.applied([(await run.generation(physical)).generation for physical in dropped])
    return result


async def _dropped(run: StepRun) -> dict[str, GenerationStatus]:
    """The generations that this step dropped, by physical name."""
    found = {}
    for physical in run.step.params["collections"]:
        if await run.tools.ledger.answer(run.forward_key("drop", physical)) is None:
            continue
        known = await run.tools.applications.generations(store=run.store_name, physical=physical)
        found[physical] = next(status for status in reversed(known) if status.gone)
    return found
