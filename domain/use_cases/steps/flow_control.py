"""Start flows, wait for their workers, and end them."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.model.errors import NotFound, VersionConflict
from domain.model.flow import Flow, FlowRange
from domain.ports import GenerationStatus
from domain.use_cases.steps.step_run import POLL_SECONDS, StepBlocked, StepRun
from domain.use_cases.tools import save

ATTEMPTS = 5
"""How often a range may fail before the step that waits for it stops."""


async def start_flow(
    run: StepRun,
    name: str,
    kind: str,
    source: UUID,
    routes: Mapping[str, UUID],
    *,
    field: str = "",
    through: int | None = None,
) -> UUID:
    """Record a flow and put its first range into the queue; again goes on with it.

    Ranges that failed before are tried at once, as often as new ones. The flow reads its source
    at version `through`, or as it is recorded now.
    """
    step = f"{run.step.id}/{run.direction}/{name}"
    flow = Flow.create_id(str(run.migration), step)
    planned = await run.tools.ledger.load(Flow, flow)
    if planned is None:
        planned = Flow(
            migration=str(run.migration),
            step=step,
            kind=kind,
            source=str(source),
            through=await _recorded(run, source) if through is None else through,
            batch=run.step.params["batch"],
            field=field,
            routes={
                value: _route(target, await _recorded(run, target))
                for value, target in routes.items()
            },
        )
        await save(run.tools.ledger, planned, run.key("flow", name), run.context)
    await run.tools.ranges.plan(flow, [planned.first_request], source=source)
    await run.tools.ranges.wake(flow)
    return flow


def return_id(migration: UUID, step: str, origin: GenerationStatus, copy: GenerationStatus) -> UUID:
    """The stream of the flow that gives back what is written to a copy.

    Args:
        migration: its id.
        step: id of the step that handed over.
        origin: the collection that the points came from.
        copy: the collection that is written to.
    """
    return Flow.create_id(str(migration), _return_step(step, origin, copy))


def _return_step(step: str, origin: GenerationStatus, copy: GenerationStatus) -> str:
    return f"{step}/return/{copy.physical}/{origin.generation}"


async def start_return(
    run: StepRun,
    forward: Flow,
    origin: GenerationStatus,
    copy: GenerationStatus,
    *,
    handed_over: int,
    since: int,
    until: datetime | None = None,
) -> UUID:
    """Give what is written to a copy back to where its points came from; again goes on with it.

    Args:
        run: of the step that handed over.
        forward: the flow that made the copy.
        origin: the collection that the points came from.
        copy: the collection that is written to.
        handed_over: version of the origin when the copies began to serve.
        since: version of the copy then.
        until: when it rests, before a rollback wakes it.
    """
    flow = return_id(run.migration, run.step.id, origin, copy)
    planned = await run.tools.ledger.load(Flow, flow)
    if planned is None:
        step = _return_step(run.step.id, origin, copy)
        planned = Flow(
            migration=str(run.migration),
            step=step,
            kind="return",
            source=str(copy.generation),
            through=since,
            batch=forward.batch,
            field="",
            routes={"*": _route(origin.generation, handed_over)},
        )
        planned.give_back(forward.id, until)
        await save(run.tools.ledger, planned, f"migration/{run.migration}/{step}", run.context)
    await run.tools.ranges.plan(
        flow, [planned.first_request], source=planned.source, until=planned.until
    )
    return flow


def _route(target: UUID, captured_at: int) -> dict[str, Any]:
    return {"generation": str(target), "captured_at": captured_at}


async def _recorded(run: StepRun, generation: UUID) -> int:
    status = await run.tools.applications.status(generation)
    if status is None:
        raise NotFound(f"there is no generation {generation}")
    return status.recorded


async def flowed(run: StepRun, flow: UUID) -> list[FlowRange]:
    """Wait until a flow is through with the points of its source; returns their ranges.

    Raises:
        StepBlocked: a range failed again and again.
    """
    while (queued := await run.tools.ranges.next(flow)) is not None and "since" not in queued[1]:
        await _refuse_failing(run, flow, ATTEMPTS)
        await asyncio.sleep(POLL_SECONDS)
    ranges = await recorded_ranges(run, flow)
    if not ranges or "after" in (ranges[-1].following or {}):
        raise StepBlocked(f"flow {flow} was taken out of the queue before its end")
    return ranges


async def caught_up(
    run: StepRun, flow: UUID, *, through: int | None = None, attempts: int = ATTEMPTS
) -> bool:
    """Wait until a flow is through with changes of its source; False if it was ended before.

    Args:
        run: of the step that waits.
        flow: its stream.
        through: version of the source; None for all that is recorded in the end.
        attempts: how often a range may fail.

    Raises:
        StepBlocked: a range failed so often.
    """
    await run.tools.ranges.wake(flow)
    source = (await loaded(run, flow)).source
    while (queued := await run.tools.ranges.next(flow)) is not None:
        wanted = await _recorded(run, source) if through is None else through
        if queued[1].get("since", -1) >= wanted:
            return True
        await _refuse_failing(run, flow, attempts)
        await asyncio.sleep(POLL_SECONDS)
    return False


async def followed_to(run: StepRun, flow: UUID) -> int:
    """The version of its source up to which a flow is through, also after its end."""
    number = await run.tools.ranges.last(flow)
    while number >= 0:
        found = await run.tools.ledger.load(FlowRange, FlowRange.create_id(str(flow), number))
        if found is not None and "since" in (found.following or {}):
            since: int = (found.following or {})["since"]
            return since
        number -= 1
    return (await loaded(run, flow)).through


async def read_by_others(run: StepRun, generation: UUID) -> list[str]:
    """Other migrations whose flows have still to read points or changes of a generation."""
    flows = [await loaded(run, flow) for flow in await run.tools.ranges.readers(generation)]
    return sorted({flow.migration for flow in flows} - {str(run.migration)})


async def loaded(run: StepRun, flow: UUID) -> Flow:
    """A flow that was planned."""
    found = await run.tools.ledger.load(Flow, flow)
    if found is None:
        raise NotFound(f"there is no flow {flow}")
    return found


async def _refuse_failing(run: StepRun, flow: UUID, attempts: int) -> None:
    error = await run.tools.ranges.failing(flow, attempts)
    if error is not None:
        raise StepBlocked(error)


async def recorded_ranges(run: StepRun, flow: UUID) -> list[FlowRange]:
    """What workers have recorded of the points of a flow's source, in order."""
    ranges: list[FlowRange] = []
    while not ranges or "after" in (ranges[-1].following or {}):
        found = await run.tools.ledger.load(FlowRange, FlowRange.create_id(str(flow), len(ranges)))
        if found is None:
            break
        ranges.append(found)
    return ranges


async def stop_flow(run: StepRun, flow: UUID) -> None:
    """End a flow where it is; again changes nothing.

    The range under way is recorded as empty and last. The first recorded result of a range wins, so
    a worker that is still busy with it records nothing any more.
    """
    queued = await run.tools.ranges.next(flow)
    number = max(0, await run.tools.ranges.last(flow)) if queued is None else queued[0]
    while True:
        stream = FlowRange.create_id(str(flow), number)
        known = await run.tools.ledger.load(FlowRange, stream)
        if known is None:
            end = FlowRange(
                flow=str(flow),
                kind="stopped",
                number=number,
                read=0,
                placed={},
                unplaced={},
                examples={},
                following=None,
            )
            try:
                await save(run.tools.ledger, end, run.key("stop", str(stream)), run.context)
            except VersionConflict:
                continue
            break
        if known.following is None:
            break
        number += 1
    await run.tools.ranges.cancel(flow)
