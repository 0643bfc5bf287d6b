"""Route the points of adopted collections to their targets."""

from collections import Counter
from typing import Any
from uuid import UUID

from domain.model.flow import Flow, FlowRange
from domain.use_cases.carry import carry_back
from domain.use_cases.concurrently import concurrently
from domain.use_cases.steps.step_run import StepBlocked, StepRun
from domain.use_cases.tools import live_generation


async def do(run: StepRun) -> dict[str, Any]:
    """Start one flow for each source collection, wait for workers, and count what has no place."""
    flows: list[UUID] = []
    targets: dict[str, str] = {}
    for planned in run.step.params["flows"]:
        source, through = await _source(run, planned)
        routes = {
            value: (await run.generation(physical)).generation
            for value, physical in planned["routes"].items()
        }
        targets |= {str(generation): planned["routes"][v] for v, generation in routes.items()}
        flows.append(
            await run.start_flow(
                planned["source"],
                "route",
                source,
                routes,
                field=run.step.params["field"],
                through=through,
            )
        )
    recorded = await concurrently(run.flowed(flow) for flow in flows)
    ranges = [part for parts in recorded for part in parts]
    result = _summary(ranges, targets)
    if result["unplaced"] and run.step.params["unplaced"] == "fail":
        raise StepBlocked(_unplaced(result, run.step.params["field"]))
    await run.applied(
        {(await run.generation(physical)).generation for physical in targets.values()}
    )
    return result


async def _source(run: StepRun, planned: dict[str, Any]) -> tuple[UUID, int | None]:
    """The generation that a flow reads, and the version if it is not the last one."""
    version = planned.get("version")
    if version is None:
        return (await run.generation(planned["source"])).generation, None
    return UUID(version["generation"]), version["through"]


def _summary(ranges: list[FlowRange], targets: dict[str, str]) -> dict[str, Any]:
    placed: Counter[str] = Counter()
    unplaced: Counter[str] = Counter()
    examples: dict[str, list[int | str]] = {}
    for part in ranges:
        for generation, count in part.placed.items():
            placed[targets[generation]] += count
        unplaced.update(part.unplaced)
        for reason, ids in part.examples.items():
            kept = examples.setdefault(reason, [])
            kept += ids[: 20 - len(kept)]
    return {
        "read": sum(part.read for part in ranges),
        "placed": dict(placed),
        "unplaced": dict(unplaced),
        "examples": examples,
    }


def _unplaced(result: dict[str, Any], field: str) -> str:
    listed = "; ".join(
        f"{count} with {reason} (such as {', '.join(map(str, result['examples'][reason][:5]))})"
        for reason, count in result["unplaced"].items()
    )
    return (
        f"{sum(result['unplaced'].values())} points have no place by {field!r}: {listed}. "
        "Roll back, give them a source and plan again; or set `unplaced: keep`, which leaves them "
        "where they are."
    )


async def undo(run: StepRun) -> dict[str, Any]:
    """Stop the flows, carry later writes back, and delete copies that are not dropped anyway."""
    carried: Counter[str] = Counter()
    for planned in run.step.params["flows"]:
        await run.stop_flow(planned["source"])
        if planned.get("version") is None:
            carried.update(await _carry_back(run, planned))
    existing = await run.looked_after(run.step.params["existing"])
    deleted = {s.physical: await run.delete_all(s.generation, s.physical) for s in existing}
    await run.applied([status.generation for status in existing], skip=True)
    return {"deleted": deleted, "carried_back": dict(carried)}


async def _carry_back(run: StepRun, planned: dict[str, Any]) -> dict[str, int]:
    """Record what became of the targets of a flow since in its source; points by target."""
    carried = {}
    source = await live_generation(run.tools.applications, run.store_name, planned["source"])
    if source is None:  # looked at before anything was undone: there is nothing to carry
        return {}
    targets = await run.looked_after(sorted(set(planned["routes"].values())))
    for target in targets:
        await run.hold(target.generation)
    flow = await run.tools.ledger.load(Flow, run.forward_flow(run.step.id, planned["source"]))
    if flow is None:  # it was not begun
        return {}
    for target in targets:
        if count := await carry_back(run, flow, source, target, targets):
            carried[target.physical] = count
    await run.applied([source.generation], skip=True)
    return carried
