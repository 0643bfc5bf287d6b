"""Drop collections that the ledger holds completely, and bring them back."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from domain.model.errors import Corrupt
from domain.model.generation import Generation
from domain.model.migration import Migration
from domain.model.plan import StepKind
from domain.ports import GenerationStatus
from domain.use_cases.lanes import SETTLE_SECONDS
from domain.use_cases.steps.check import verified
from domain.use_cases.steps.flow_control import flowed, start_flow
from domain.use_cases.steps.hand_over import refuse_uncopied
from domain.use_cases.steps.step_run import StepBlocked, StepRun
from domain.use_cases.tools import live_generation, update

POLL_SECONDS = 0.005
"""Clients may wait until the drop is known to be over."""

WAY_OUT = (
    "What was written there past the ledger after the hand-over is in no copy, and a drop would "
    "lose it. Stop what writes there, then roll back, which keeps it, and plan again."
)


async def do(run: StepRun) -> dict[str, Any]:
    """Compare the collections with the ledger once more, then drop them.

    One that holds points which a flow of the migration had no place for is kept. Nothing that
    takes long comes after the comparison: clients may wait for what comes in place of them.
    """
    handed_over = await _handed_over(run)
    await refuse_uncopied(run, handed_over["versions"]["sources"])
    kept = {
        physical: sum(found["unplaced"].values())
        for physical, found in handed_over["unplaced"].items()
    }
    there = [
        physical
        for physical in run.step.params["collections"]
        if physical not in kept
        and await live_generation(run.tools.applications, run.store_name, physical)
    ]
    await _refuse_unknown_aliases(run, there)
    if run.step.params["settle"] and there:
        # A write that nobody waits for any more goes by the name, whatever has the name by then.
        await asyncio.sleep(SETTLE_SECONDS)
    result = await verified(run, there, WAY_OUT)
    await refuse_uncopied(run, handed_over["versions"]["sources"])
    for status in [await run.generation(physical) for physical in there]:
        await _refuse_grown(run, status)
        await run.drop(status.generation, status.physical)
    known = await dropped_by(run)
    await run.applied([status.generation for status in known.values()], poll=POLL_SECONDS)
    return {
        **result,
        "dropped": {p: str(status.generation) for p, status in known.items()},
        "kept": kept,
    }


async def _refuse_unknown_aliases(run: StepRun, collections: Sequence[str]) -> None:
    """An alias goes with its collection: one that came since the plan would be lost.

    Raises:
        StepBlocked: there is one.
    """
    for alias, physical in sorted((await run.store.aliases()).items()):
        if physical in collections and alias not in run.step.params["aliases"]:
            raise StepBlocked(
                f"alias {alias!r} points to {physical!r}, which the plan does not know; remove "
                "it and apply again, or roll back and plan again"
            )


async def _refuse_grown(run: StepRun, status: GenerationStatus) -> None:
    """What came or went while the comparison went on behind it shows in the number of points.

    Raises:
        StepBlocked: there are more or fewer than the ledger says.
    """
    counted = await run.store.count(status.physical)
    if counted != status.points:
        raise StepBlocked(
            f"{status.physical!r} has {counted:,} points now, and {status.points:,} by the ledger. "
            f"{WAY_OUT}"
        )


async def _handed_over(run: StepRun) -> dict[str, Any]:
    """What the hand-over of the migration noted."""
    migration = await run.tools.ledger.load(Migration, run.migration)
    for step in migration.plan.steps if migration else ():
        if migration and step.kind is StepKind.HAND_OVER and step.id in migration.results:
            return migration.results[step.id]
    raise Corrupt(f"migration {run.migration} drops what it did not hand over")


async def undo(run: StepRun) -> dict[str, Any]:
    """Make each dropped collection again from the bodies that its heads refer to."""
    dropped = await dropped_by(run)
    # The collection of this name must be gone before another one takes its place.
    await run.applied(status.generation for status in dropped.values())
    flows = {}
    for physical, before in dropped.items():
        former = await run.tools.ledger.load(Generation, before.generation)
        if former is None:
            raise Corrupt(f"generation {before.generation} of {physical!r} is not in the ledger")
        status = await run.declare(physical, before.collection, former.schema, "created", held=True)
        flows[physical] = await start_flow(
            run, physical, "route", before.generation, {"*": status.generation}
        )
    for flow in flows.values():
        await flowed(run, flow)
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


async def dropped_by(run: StepRun) -> dict[str, GenerationStatus]:
    """The generations that this step dropped, by physical name."""
    found = {}
    for physical in run.step.params["collections"]:
        answer = await run.tools.ledger.answer(run.forward_key("drop", physical))
        if answer is None:
            continue
        (dropped,) = await run.tools.ledger.read(answer.position - 1, 1)
        status = await run.tools.applications.status(dropped.stream)
        if status is None:
            raise Corrupt(f"event {dropped.position} drops no generation")
        found[physical] = status
    return found
