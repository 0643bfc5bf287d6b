"""Before a rollback: what was written to the copies since must have a way back.

The copies are held first, so that nothing comes after what is looked at here. If something has no
way back, they are let go again and nothing is undone.
"""

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from uuid import UUID

from domain.model.errors import Corrupt, LedgerError, Rejected, Unavailable
from domain.model.flow import Flow
from domain.model.generation import REPAIRS, Generation
from domain.model.migration import Migration
from domain.model.plan import Step, StepKind
from domain.model.points import id_of
from domain.ports import GenerationStatus
from domain.use_cases.flows.follow import changes_since
from domain.use_cases.flows.give_back import WayBack
from domain.use_cases.steps.create import refuse_unrecorded
from domain.use_cases.steps.drop import dropped_by
from domain.use_cases.steps.flow_control import read_by_others
from domain.use_cases.steps.hand_over import give_back, is_warm
from domain.use_cases.steps.restore import lives_of
from domain.use_cases.steps.step_run import StepBlocked, StepRun
from domain.use_cases.tools import live_generation, migration_named, stream_events
from domain.use_cases.versions import digest_at

NOTHING = "Nothing was undone so far."


async def secure_way_back(run: StepRun, migration: Migration) -> None:
    """Hold what a migration made, and refuse to undo it where that would lose points.

    Raises:
        StepBlocked: with a point that would be lost, and what to do about it.
    """

    def runs(kind: StepKind) -> list[StepRun]:
        return [replace(run, step=step) for step in migration.plan.steps if step.kind is kind]

    for at_step in runs(StepKind.RESTORE):
        await _hold_restored(at_step)
    creating, handing = runs(StepKind.CREATE), runs(StepKind.HAND_OVER)
    made = [status for at_step in creating for status in await _made(at_step)]
    try:
        for status in made:
            await run.hold(status.generation)
        held = await _again(run, made)
        await _refuse_moved_on(run, held.values())
        await _refuse_unrecorded(run, [at_step.step for at_step in creating], handing)
        await _refuse_copies_without_source(run, migration, held)
        for at_step in handing:
            await _refuse_stuck(at_step, migration)
        for at_step in runs(StepKind.DROP):
            await _refuse_taken(at_step)
    except Unavailable:
        raise  # it is tried again, and they stay held until then
    except LedgerError:
        if _cut_over(migration):
            for status in made:
                await run.resume(status.generation)
        raise


async def _refuse_taken(run: StepRun) -> None:
    """The name of a collection that was dropped must be free, or it could not come back.

    Raises:
        StepBlocked: the ledger looks after another collection of that name.
    """
    for physical in await dropped_by(run):
        live = await live_generation(run.tools.applications, run.store_name, physical)
        ours = await run.tools.ledger.answer(run.key("declare", physical))
        if live is not None and ours is None:
            raise StepBlocked(
                f"there is another collection {physical!r} by now, which the ledger looks after; "
                f"roll back what made or adopted it, then roll back again. {NOTHING}"
            )


async def _hold_restored(run: StepRun) -> None:
    """What was restored must be what serves, or nobody would see that it was undone.

    Raises:
        StepBlocked: another migration has moved its points elsewhere, or let go of it.
    """
    lives = await lives_of(run)
    if lives:
        try:
            await run.hold_alone(lives[-1].status.generation)
        except StepBlocked as error:
            raise StepBlocked(f"{error}. {NOTHING}") from error
        return
    planned = UUID(run.step.params["generation"])
    status = await run.tools.applications.status(planned)
    last = await run.tools.ledger.events(planned, after=status.recorded - 1 if status else 0)
    for recorded in last:
        other = await migration_named(run.tools.ledger, recorded.context.correlation_id)
        if other is not None:
            raise StepBlocked(
                f"migration {other.id} has dropped {run.step.params['collection']!r} since, or the "
                "ledger let go of it with that: roll that back first if it can be, or restore "
                f"what has the points now. {NOTHING}"
            )


async def _refuse_unrecorded(
    run: StepRun, created: Sequence[Step], handing: Sequence[StepRun]
) -> None:
    """What is only in the store would be lost.

    Where a rollback is to be at once, this comes after it: what differs is not dropped then. Where
    points are deleted from collections that were there before, it comes first.
    """
    existing = any(made["existing"] for step in created for made in step.params["collections"])
    # Who writes past the ledger may have followed an alias to what was made.
    observed = any(at_step.step.params["observed"] for at_step in handing)
    warm = handing and all([await is_warm(at_step) for at_step in handing])
    if warm and not (existing or observed):
        return
    for step in created:
        await refuse_unrecorded(replace(run, step=step))


def _cut_over(migration: Migration) -> bool:
    """Whether the collections that a migration made take live writes."""
    steps = [step for step in migration.plan.steps if step.kind is StepKind.RESUME_WRITES]
    return all(step.id in migration.results for step in steps)


async def _made(run: StepRun) -> list[GenerationStatus]:
    """The collections of a create step.

    Raises:
        StepBlocked: one was dropped meanwhile, by somebody who knows where its points are.
    """
    found = []
    for target in run.step.params["collections"]:
        status = await run.declared(target["physical"])
        if status is not None and status.gone:
            raise StepBlocked(
                f"{status.physical!r} was dropped by another migration since, so what was written "
                f"to it cannot be followed from here; see `collection list --all`. {NOTHING}"
            )
        if status is not None:
            found.append(status)
    return found


async def _again(run: StepRun, made: Sequence[GenerationStatus]) -> dict[str, GenerationStatus]:
    """Where they stand by now, by physical name."""
    found = [await run.tools.applications.status(status.generation) for status in made]
    return {status.physical: status for status in found if status is not None}


async def _refuse_moved_on(run: StepRun, made: Iterable[GenerationStatus]) -> None:
    for status in made:
        others = [holder for holder in status.holders if holder != str(run.migration)]
        others = others or await read_by_others(run, status.generation)
        if others:
            raise StepBlocked(
                f"migration {', '.join(others)} works on {status.physical!r}, or has moved its "
                f"points on; roll that back first. {NOTHING}"
            )


async def _refuse_copies_without_source(
    run: StepRun, migration: Migration, made: dict[str, GenerationStatus]
) -> None:
    """What was written to copies of a version, or to what was made empty, cannot go back."""
    unfilled = dict(made)
    for step in migration.plan.steps:
        for planned in step.params["flows"] if step.kind is StepKind.FLOW else ():
            names = sorted(set(planned["routes"].values()))
            filled = [made[name] for name in names if name in made]
            for status in filled:
                unfilled.pop(status.physical, None)
            if planned.get("version") is not None:
                await _refuse_changed_copies(replace(run, step=step), planned, filled)
    for status in unfilled.values():
        if status.points:
            raise StepBlocked(
                f"{status.physical!r} was made empty and has {status.points:,} points now, which "
                f"have no collection to go back to. {await _way_out(run, status.physical)}"
            )


async def _refuse_changed_copies(
    run: StepRun, planned: dict[str, Any], filled: Sequence[GenerationStatus]
) -> None:
    """A copy of a version has no collection to carry writes back to."""
    version = planned["version"]
    for target in filled:
        flow = run.forward_flow(run.step.id, planned["source"])
        changed = await _first_changed(run, target, flow)
        if changed is None:
            continue
        now = await digest_at(run.tools.ledger, target.generation, target.recorded)
        then = await digest_at(run.tools.ledger, UUID(version["generation"]), version["through"])
        if now.hexdigest() != then.hexdigest():
            raise StepBlocked(
                f"{target.physical!r} was written to since (such as point {id_of(changed)}), and "
                "is a copy of a version, so there is no collection to carry that back to. "
                f"{await _way_out(run, target.physical)}"
            )


async def _refuse_stuck(run: StepRun, migration: Migration) -> None:
    """What was written to copies must get back to where their points came from.

    Where that is there, it gets it now; where the migration dropped it, it must be able to.
    """
    for planned in run.step.params["flows"]:
        source = planned["source"]
        if await live_generation(run.tools.applications, run.store_name, source) is not None:
            continue
        flow = await run.tools.ledger.load(
            Flow, run.forward_flow(run.step.params["flow_step"], source)
        )
        if flow is None:  # nothing was copied
            continue
        copies = await run.looked_after(planned["copies"])
        if await _dropped(run, migration, source):
            versions = migration.results[run.step.id]["versions"]
            await _refuse_collisions(run, versions, flow, copies)
        else:
            await _refuse_without_source(run, source, flow, copies)
    try:
        await give_back(run, migration)
    except StepBlocked as error:
        raise StepBlocked(_blocked(error)) from error


async def _refuse_without_source(
    run: StepRun, source: str, flow: Flow, copies: Sequence[GenerationStatus]
) -> None:
    for copy in copies:
        changed = await _first_changed(run, copy, flow.id)
        if changed is not None:
            raise StepBlocked(
                f"{copy.physical!r} was written to since (such as point {id_of(changed)}), and "
                f"the ledger no longer looks after {source!r}, where that would go back to. Adopt "
                f"it again, then roll back. {NOTHING}"
            )


async def _dropped(run: StepRun, migration: Migration, source: str) -> bool:
    """Whether the migration dropped a collection itself, and brings it back."""
    for step in migration.plan.steps:
        if step.kind is StepKind.DROP:
            key = replace(run, step=step).forward_key("drop", source)
            if await run.tools.ledger.answer(key) is not None:
                return True
    return False


async def _first_changed(run: StepRun, copy: GenerationStatus, flow: UUID) -> bytes | None:
    """A point of a copy that others than the flow changed which made it."""
    async with aclosing(stream_events(run.tools.ledger, copy.generation)) as events:
        async for recorded in events:
            event = recorded.event
            if (
                isinstance(event, Generation.ChangeSetRecorded)
                and not isinstance(event, REPAIRS)
                and event.source.get("flow") != str(flow)
            ):
                manifest = (await run.tools.ledger.manifests([event.manifest]))[event.manifest]
                for key in manifest.keys:
                    return key
    return None


async def _refuse_collisions(
    run: StepRun,
    versions: dict[str, dict[str, int]],
    flow: Flow,
    copies: Sequence[GenerationStatus],
) -> None:
    """In the collection that the points came from an id stands for one point."""
    origin = await run.tools.applications.status(flow.source)
    if origin is None:
        raise Corrupt(f"generation {flow.source} is not in the ledger")
    for copy in copies:
        handed_over = versions["sources"][origin.physical]
        way = WayBack(flow, copy.generation, origin.generation, handed_over)
        since, through = -1, versions["copies"][copy.physical]
        while through > since:
            since = through
            through, keys = await changes_since(run.tools.ledger, copy.generation, since)
            try:
                await way.changes(run.tools, keys)
            except Rejected as error:
                raise StepBlocked(_blocked(error)) from error


def _blocked(error: LedgerError) -> str:
    return f"{error}; then roll back again. {NOTHING}"


async def _way_out(run: StepRun, physical: str) -> str:
    now = (await run.tools.ledger.head()).position
    return (
        f"Take what you need out of it (`rebuild {physical} --at {now} --into FILE.parquet`), "
        "delete it there (`points delete`) or restore it to what it was, and roll back again; "
        f"or keep it. {NOTHING}"
    )
