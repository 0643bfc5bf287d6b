"""Route the points of collections to their targets."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from domain.model.errors import Corrupt
from domain.model.flow import Flow, FlowRange
from domain.use_cases.concurrently import concurrently
from domain.use_cases.flows.reading import EXAMPLES, RangeResult
from domain.use_cases.flows.route import without_route
from domain.use_cases.steps.flow_control import flowed, start_flow, stop_flow
from domain.use_cases.steps.step_run import StepBlocked, StepRun


async def do(run: StepRun) -> dict[str, Any]:
    """Start one flow for each source, wait until it is through with the points that are there.

    A flow of a collection, not of a version, goes on with its changes until the hand-over.
    """
    flows: dict[str, UUID] = {}
    targets: dict[str, str] = {}
    for planned in run.step.params["flows"]:
        source, through = await _source(run, planned)
        routes = {
            value: (await run.generation(physical)).generation
            for value, physical in planned["routes"].items()
        }
        targets |= {str(generation): planned["routes"][v] for v, generation in routes.items()}
        flows[planned["source"]] = await start_flow(
            run,
            planned["source"],
            "follow" if through is None else "route",
            source,
            routes,
            field=run.step.params["field"],
            through=through,
        )
    recorded = await concurrently(flowed(run, flow) for flow in flows.values())
    result = _summary([part for parts in recorded for part in parts], targets)
    if result["unplaced"] and run.step.params["unplaced"] == "fail":
        await refuse_unplaced(run, flows, run.step.params["field"])
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
    for part in ranges:
        for generation, count in part.placed.items():
            placed[targets[generation]] += count
    return {
        "read": sum(part.read for part in ranges),
        "placed": dict(placed),
        **_without_a_place(ranges),
    }


def _without_a_place(parts: Iterable[FlowRange | RangeResult]) -> dict[str, Any]:
    unplaced: Counter[str] = Counter()
    examples: dict[str, list[int | str]] = {}
    for part in parts:
        unplaced.update(part.unplaced)
        for reason, ids in part.examples.items():
            kept = examples.setdefault(reason, [])
            kept += ids[: EXAMPLES - len(kept)]
    return {"unplaced": dict(unplaced), "examples": examples}


async def count_unplaced(run: StepRun, flows: Mapping[str, UUID]) -> dict[str, dict[str, Any]]:
    """Points that have no place now, by the source collection of their flow."""
    found = {}
    for physical, stream in flows.items():
        flow = await run.tools.ledger.load(Flow, stream)
        status = await run.tools.applications.status(flow.source) if flow else None
        if flow is None or status is None:
            raise Corrupt(f"flow {stream} is not in the ledger")
        found[physical] = _without_a_place([await without_route(run.tools, flow, status.recorded)])
    return found


async def refuse_unplaced(run: StepRun, flows: Mapping[str, UUID], field: str) -> None:
    """Count the points without a place again: some may have got one meanwhile.

    Raises:
        StepBlocked: there are some.
    """
    for found in (await count_unplaced(run, flows)).values():
        if found["unplaced"]:
            raise StepBlocked(unplaced_message(found, field))


def unplaced_message(found: dict[str, Any], field: str) -> str:
    """What a person reads about points without a place."""
    listed = "; ".join(
        f"{count} with {reason} (such as {', '.join(map(str, found['examples'][reason][:5]))})"
        for reason, count in found["unplaced"].items()
    )
    return (
        f"{sum(found['unplaced'].values())} points have no place by {field!r}: {listed}. "
        "Give them a source (`points set-payload`) and apply again; or set `unplaced: keep`, "
        "which leaves them where they are, and plan again."
    )


async def undo(run: StepRun) -> dict[str, Any]:
    """Stop the flows, and delete copies that are not dropped anyway."""
    for planned in run.step.params["flows"]:
        await stop_flow(run, run.forward_flow(run.step.id, planned["source"]))
    existing = await run.looked_after(run.step.params["existing"])
    deleted = {s.physical: await run.delete_all(s.generation, s.physical) for s in existing}
    await run.applied([status.generation for status in existing], skip=True)
    return {"deleted": deleted}
