"""Adopt collections: from here on the ledger knows every point that they hold."""

from typing import Any

from domain.model.errors import Conflict, NotFound
from domain.model.schema import CollectionSchema
from domain.ports import GenerationStatus
from domain.use_cases.concurrently import concurrently
from domain.use_cases.steps.flow_control import flowed, read_by_others, start_flow, stop_flow
from domain.use_cases.steps.step_run import StepRun
from domain.use_cases.take_in import take_in
from domain.use_cases.tools import live_generation
from domain.use_cases.verify import is_adopted


async def do(run: StepRun) -> dict[str, Any]:
    """Record a generation for each collection and capture its points.

    One that the ledger looks after already is left as it is, or, where others write to it,
    compared: what they changed is taken in.
    """
    adopted = {}
    flows = {}
    known = {}
    for physical in run.step.params["collections"]:
        status = await live_generation(run.tools.applications, run.store_name, physical)
        if status is None:
            description = await run.store.describe(physical)
            if description is None:
                raise NotFound(f"collection {physical!r} does not exist in {run.store_name!r}")
            status = await _declared(run, physical, description.schema)
        # What is recorded for a collection that is managed already must be in the store before it
        # is read.
        await run.applied([status.generation])
        adopted[physical] = status.generation
        if await run.declared(physical) is None and await is_adopted(run.tools, status):
            known[physical] = 0
            if run.step.params["observed"]:
                known[physical] = await take_in(run.tools, status, run.context)
            continue
        # A live write that is recorded and not applied yet is newer than what is read.
        applied = (await run.generation(physical)).applied
        flows[physical] = await start_flow(
            run, physical, "capture", status.generation, routes={}, through=applied
        )
    captured = await concurrently(flowed(run, flow) for flow in flows.values())
    await run.applied(adopted.values())
    return {
        "captured": {
            **known,
            **{
                physical: sum(part.read for part in ranges)
                for physical, ranges in zip(flows, captured, strict=True)
            },
        }
    }


async def _declared(run: StepRun, physical: str, schema: CollectionSchema) -> GenerationStatus:
    """A new generation, or the one that another migration declared at the same time."""
    try:
        return await run.declare(physical, physical, schema, "adopted")
    except Conflict:
        return await run.generation(physical)


async def undo(run: StepRun) -> dict[str, Any]:
    """Stop capturing, and let go of the collections that this step adopted."""
    released: list[str] = []
    kept: list[str] = []
    for physical in run.step.params["collections"]:
        await stop_flow(run, run.forward_flow(run.step.id, physical))
        if not await run.declared(physical):
            continue
        status = await live_generation(run.tools.applications, run.store_name, physical)
        if status is None:
            continue
        # Another migration that works on it carries points back to it one day.
        others = set(status.holders) - {str(run.migration)}
        if others or await read_by_others(run, status.generation):
            kept.append(physical)
        else:
            await run.release(status.generation, physical)
            released.append(physical)
    return {"released": released, "kept": kept}
