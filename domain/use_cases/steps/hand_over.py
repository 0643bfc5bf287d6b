"""Hand over from collections to the copies that were made of their points, and back."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from domain.model.errors import Corrupt, LedgerError, Unavailable
from domain.model.flow import Flow
from domain.model.migration import Migration, State
from domain.model.plan import StepKind
from domain.model.points import id_of
from domain.ports import GenerationStatus
from domain.use_cases.flows.follow import changes_since
from domain.use_cases.steps.flow import count_unplaced, unplaced_message
from domain.use_cases.steps.flow_control import (
    caught_up,
    followed_to,
    loaded,
    return_id,
    start_return,
    stop_flow,
)
from domain.use_cases.steps.step_run import POLL_SECONDS, StepBlocked, StepRun
from domain.use_cases.take_in import take_in
from domain.use_cases.tools import live_generation, migration_named

PASSES = 5
"""How often collections are read again that others write to, before the hand-over."""


async def do(run: StepRun) -> dict[str, Any]:
    """Hold the sources, let the flows catch up with them and end, and keep the sources warm.

    From here on the copies are what counts; the sources are held until a rollback.
    """
    sources = {
        planned["source"]: await run.generation(planned["source"])
        for planned in run.step.params["flows"]
    }
    flows = {physical: _forward(run, physical) for physical in sources}
    copies = await run.looked_after(_copies(run))
    await _refuse_adopted_anew(run, sources, flows)
    if run.step.params["observed"]:
        await _take_in(run, sources.values(), flows)
    for physical, flow in flows.items():
        await caught_up(run, flow, through=sources[physical].recorded)
    await run.applied([status.generation for status in copies])
    known: dict[str, Any] = {}
    if run.step.params["unplaced"] == "keep":  # else there are none, or the barrier finds them
        known = await _unplaced(run, flows, sources.values(), copies, {})
    unplaced = await _barrier(run, sources, flows, copies, known)
    for flow in flows.values():
        await stop_flow(run, flow)
    result: dict[str, Any] = {
        "held": sorted(sources),
        "versions": {
            "sources": {p: await followed_to(run, flow) for p, flow in flows.items()},
            "copies": {s.physical: s.recorded for s in await _now(run, copies)},
        },
        "unplaced": unplaced,
    }
    await refuse_uncopied(run, result["versions"]["sources"])
    if warm := run.step.params["warm_seconds"]:
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=warm)
        await _returns(run, result["versions"], until)
        result["warm_until"] = until.isoformat()
    return result


def _forward(run: StepRun, physical: str) -> UUID:
    return run.forward_flow(run.step.params["flow_step"], physical)


def _copies(run: StepRun) -> list[str]:
    return sorted({copy for planned in run.step.params["flows"] for copy in planned["copies"]})


async def _barrier(
    run: StepRun,
    sources: Mapping[str, GenerationStatus],
    flows: Mapping[str, UUID],
    copies: Sequence[GenerationStatus],
    known: dict[str, Any],
) -> dict[str, Any]:
    """Hold the sources and wait for the last of their changes; returns points without a place.

    Those that are `known` will do where such points may stay: to count them takes a while. If this
    fails the sources take writes again, unless a flow is ended: it would miss them.
    """
    ended = [await run.tools.ranges.next(flow) is None for flow in flows.values()]
    try:
        for status in sources.values():
            await run.hold(status.generation)
        await _restored(run, sources.values())
        for flow in flows.values():
            await caught_up(run, flow)
        unplaced = await _unplaced(run, flows, sources.values(), copies, known)
        await run.applied([status.generation for status in copies])
    except Unavailable:
        raise  # it is tried again, and they stay held until then
    except LedgerError:
        for status in () if any(ended) else sources.values():
            await run.resume(status.generation)
        raise
    return unplaced


async def _restored(run: StepRun, sources: Iterable[GenerationStatus]) -> None:
    """Wait for restores of the sources that are under way; none begins while they are held.

    Raises:
        StepBlocked: one has stopped.
    """
    waiting = list(sources)
    while waiting:
        waiting = [status for status in await _now(run, waiting) if await _restores(run, status)]
        await asyncio.sleep(POLL_SECONDS if waiting else 0)


async def _restores(run: StepRun, status: GenerationStatus) -> bool:
    """Whether another migration makes a collection one of its versions."""
    for holder in set(status.holders) - {str(run.migration)}:
        other = await migration_named(run.tools.ledger, holder)
        if other is None or all(step.kind is not StepKind.RESTORE for step in other.plan.steps):
            continue
        if other.state is State.FAILED:
            raise StepBlocked(
                f"migration {holder} restores {status.physical!r} and has stopped: apply that "
                "again or roll it back, then apply this one again"
            )
        return True
    return False


async def _refuse_adopted_anew(
    run: StepRun, sources: Mapping[str, GenerationStatus], flows: Mapping[str, UUID]
) -> None:
    for physical, status in sources.items():
        if (await loaded(run, flows[physical])).source != status.generation:
            raise StepBlocked(
                f"the ledger let go of {physical!r} since it was copied, and looks after it anew; "
                "roll back and plan again"
            )


async def refuse_uncopied(run: StepRun, versions: Mapping[str, int]) -> None:
    """Nothing may have been recorded of a source that its flow did not copy.

    Args:
        run: of a step.
        versions: of the sources when the copies began to serve, by physical name.

    Raises:
        StepBlocked: something was.
    """
    for status in await run.looked_after(versions):
        _, changed = await changes_since(
            run.tools.ledger, status.generation, versions[status.physical]
        )
        if changed:
            raise StepBlocked(
                f"points of {status.physical!r} were changed after the hand-over, such as "
                f"{id_of(changed[0])}, and are in no copy; roll back and plan again"
            )


async def _take_in(
    run: StepRun, sources: Iterable[GenerationStatus], flows: Mapping[str, UUID]
) -> None:
    """Take in what others wrote to the sources and copy it, until nothing is new.

    Under writers that never pause something always is; what is left after some passes is named
    when the sources are looked at again. A flow that is ended copies nothing any more.
    """
    following = [
        status
        for status in sources
        if await run.tools.ranges.next(flows[status.physical]) is not None
    ]
    for _ in range(PASSES):
        await run.applied([status.generation for status in following])
        taken = sum([await take_in(run.tools, status, run.context) for status in following])
        for status in await _now(run, following):
            await caught_up(run, flows[status.physical], through=status.recorded)
        if not taken:
            break


async def _now(run: StepRun, before: Iterable[GenerationStatus]) -> list[GenerationStatus]:
    found = [await run.tools.applications.status(status.generation) for status in before]
    return [status for status in found if status is not None]


async def _unplaced(
    run: StepRun,
    flows: Mapping[str, UUID],
    sources: Iterable[GenerationStatus],
    copies: Iterable[GenerationStatus],
    known: dict[str, Any],
) -> dict[str, dict[str, Any]]:
    """Points without a place, by source: those that are known, or they are looked for.

    Raises:
        StepBlocked: there are some, and the spec does not leave them where they are.
    """
    if not await _missing(run, sources, copies):
        return {}
    if known:
        return known
    counted = await count_unplaced(run, flows)
    found = {physical: one for physical, one in counted.items() if one["unplaced"]}
    if run.step.params["unplaced"] == "fail":
        for one in found.values():
            raise StepBlocked(unplaced_message(one, run.step.params["field"]))
    return found


async def _missing(
    run: StepRun, sources: Iterable[GenerationStatus], copies: Iterable[GenerationStatus]
) -> int:
    """How many points of the sources are in no copy."""
    there = sum(status.points for status in await _now(run, sources))
    return there - sum(status.points for status in await _now(run, copies))


async def _returns(
    run: StepRun, versions: Mapping[str, Mapping[str, int]], until: datetime | None = None
) -> list[UUID]:
    """Give what is written to the copies back to the collections that are there.

    Args:
        run: of this step.
        versions: of sources and copies when the copies began to serve.
        until: when the flows rest.
    """
    flows = []
    for planned in run.step.params["flows"]:
        forward = await run.tools.ledger.load(Flow, _forward(run, planned["source"]))
        if forward is None:
            raise Corrupt(f"the flow of {planned['source']!r} is not in the ledger")
        origin = await live_generation(run.tools.applications, run.store_name, planned["source"])
        if origin is None:  # looked at before anything was undone: there is nothing to give
            continue
        for copy in await run.looked_after(planned["copies"]):
            same = origin.generation == forward.source
            flows.append(
                await start_return(
                    run,
                    forward,
                    origin,
                    copy,
                    # One that came back since has nothing yet but what it had then.
                    handed_over=versions["sources"][origin.physical] if same else origin.recorded,
                    since=versions["copies"][copy.physical],
                    until=until,
                )
            )
    return flows


async def is_warm(run: StepRun) -> bool:
    """Whether everything that is written to the copies goes back to where it came from."""
    if not run.step.params["warm_seconds"]:
        return False
    for planned in run.step.params["flows"]:
        origin = await live_generation(run.tools.applications, run.store_name, planned["source"])
        if origin is None:
            return False
        for copy in await run.looked_after(planned["copies"]):
            flow = return_id(run.migration, run.step.id, origin, copy)
            if await run.tools.ledger.load(Flow, flow) is None:
                return False
    return True


async def give_back(run: StepRun, migration: Migration) -> None:
    """Wait until everything that was written to the copies, which are held, is back in the store.

    Raises:
        StepBlocked: a point cannot go back.
    """
    handed_over = migration.results.get(run.step.id)
    flows = [] if handed_over is None else await _returns(run, handed_over["versions"])
    try:
        for flow in flows:
            await caught_up(run, flow, attempts=1)
        sources = await run.looked_after(p["source"] for p in run.step.params["flows"])
        await run.applied([status.generation for status in sources], skip=True)
    except LedgerError:
        for flow in flows:
            await _rest(run, flow)
        raise


async def _rest(run: StepRun, flow: UUID) -> None:
    """Let a flow be as it was before it was woken."""
    planned = await run.tools.ledger.load(Flow, flow)
    until = planned.until if planned else None
    await run.tools.ranges.rest(flow, until or datetime.now(UTC))


async def undo(run: StepRun) -> dict[str, Any]:
    """Let the copies give everything back, end that, and let writes to the sources go on."""
    migration = await run.tools.ledger.load(Migration, run.migration)
    if migration is None:
        raise Corrupt(f"migration {run.migration} is not in the ledger")
    for copy in await run.looked_after(_copies(run)):
        await run.hold(copy.generation)
    await give_back(run, migration)
    for flow in await _possible_returns(run):
        if await run.tools.ledger.load(Flow, flow) is not None:
            await stop_flow(run, flow)
    sources = await run.looked_after(p["source"] for p in run.step.params["flows"])
    for status in sources:
        await run.resume(status.generation)
    return {"resumed": [status.physical for status in sources]}


async def _possible_returns(run: StepRun) -> list[UUID]:
    """Flows that may give back, to whatever had the name of a source."""
    generations, store = run.tools.applications.generations, run.store_name
    found = []
    for planned in run.step.params["flows"]:
        origins = await generations(store=store, physical=planned["source"])
        for name in planned["copies"]:
            copies = await generations(store=store, physical=name)
            found += [
                return_id(run.migration, run.step.id, origin, copy)
                for origin in origins
                for copy in copies
            ]
    return list(dict.fromkeys(found))
