"""Before a rollback: what was written to the copies since must have a way back.

The copies are held first, so that nothing comes after what is looked at here. If something has no
way back, they are let go again and nothing is undone.
"""

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from uuid import UUID

from domain.model.errors import Corrupt, LedgerError, Unavailable
from domain.model.flow import Flow
from domain.model.migration import Migration
from domain.model.plan import StepKind
from domain.model.points import id_of
from domain.ports import GenerationStatus
from domain.use_cases.carry import changed_by_others, strangers
from domain.use_cases.steps.create import refuse_unrecorded
from domain.use_cases.steps.step_run import StepBlocked, StepRun
from domain.use_cases.tools import live_generation
from domain.use_cases.versions import digest_at

NOTHING = "Nothing was undone so far."


async def secure_way_back(run: StepRun, migration: Migration) -> None:
    """Hold what a migration made, and refuse to undo it where that would lose points.

    Raises:
        StepBlocked: with a point that would be lost, and what to do about it.
    """
    created = [step for step in migration.plan.steps if step.kind is StepKind.CREATE]
    made = [status for step in created for status in await _made(replace(run, step=step))]
    for status in made:
        await run.hold(status.generation)
    try:
        held = await _again(run, made)
        _refuse_moved_on(run, held.values())
        for step in created:
            await refuse_unrecorded(replace(run, step=step))
        await _refuse_lost(run, migration, held)
    except Unavailable:
        raise  # it is tried again, and they stay held until then
    except LedgerError:
        if _cut_over(migration):
            for status in made:
                await run.resume(status.generation)
        raise


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


def _refuse_moved_on(run: StepRun, made: Iterable[GenerationStatus]) -> None:
    for status in made:
        others = [holder for holder in status.holders if holder != str(run.migration)]
        if others:
            raise StepBlocked(
                f"migration {', '.join(others)} works on {status.physical!r}, or has moved its "
                f"points on; roll that back first. {NOTHING}"
            )


async def _refuse_lost(
    run: StepRun, migration: Migration, made: dict[str, GenerationStatus]
) -> None:
    unfilled = dict(made)
    for step in migration.plan.steps:
        for planned in step.params["flows"] if step.kind is StepKind.FLOW else ():
            filled = [
                made[name] for name in sorted(set(planned["routes"].values())) if name in made
            ]
            for status in filled:
                unfilled.pop(status.physical, None)
            at_step = replace(run, step=step)
            if planned.get("version") is not None:
                await _refuse_changed_copies(at_step, planned, filled)
            else:
                await _refuse_without_source(at_step, migration, planned, filled)
                await _refuse_collisions(at_step, planned, filled)
    for status in unfilled.values():
        if status.points:
            raise StepBlocked(
                f"{status.physical!r} was made empty and has {status.points:,} points now, which "
                f"have no collection to go back to. {_way_out(status.physical)}"
            )


async def _refuse_changed_copies(
    run: StepRun, planned: dict[str, Any], filled: Sequence[GenerationStatus]
) -> None:
    """A copy of a version has no collection to carry writes back to."""
    version = planned["version"]
    for target in filled:
        changed = await _first_changed(run, planned, target)
        if changed is None:
            continue
        now = await digest_at(run.tools.ledger, target.generation, target.recorded)
        then = await digest_at(run.tools.ledger, UUID(version["generation"]), version["through"])
        if now.hexdigest() != then.hexdigest():
            raise StepBlocked(
                f"{target.physical!r} was written to since (such as point {id_of(changed)}), and "
                "is a copy of a version, so there is no collection to carry that back to. "
                f"{_way_out(target.physical)}"
            )


async def _refuse_without_source(
    run: StepRun,
    migration: Migration,
    planned: dict[str, Any],
    filled: Sequence[GenerationStatus],
) -> None:
    """The collection that the points came from must be there, or be brought back."""
    source = planned["source"]
    live = await live_generation(run.tools.applications, run.store_name, source)
    if live is not None or await _dropped(run, migration, source):
        return
    for target in filled:
        changed = await _first_changed(run, planned, target)
        if changed is not None:
            raise StepBlocked(
                f"{target.physical!r} was written to since (such as point {id_of(changed)}), and "
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


async def _first_changed(
    run: StepRun, planned: dict[str, Any], target: GenerationStatus
) -> bytes | None:
    flow = run.forward_flow(run.step.id, planned["source"])
    changes = changed_by_others(run.tools.ledger, target.generation, flow)
    async with aclosing(changes) as changed:
        async for _, keys in changed:
            return keys[0]
    return None


async def _refuse_collisions(
    run: StepRun, planned: dict[str, Any], filled: Sequence[GenerationStatus]
) -> None:
    """In the collection that the points came from an id stands for one point."""
    stream = run.forward_flow(run.step.id, planned["source"])
    flow = await run.tools.ledger.load(Flow, stream)
    if flow is None:
        raise Corrupt(f"flow {stream} is not in the ledger")
    for target in filled:
        changes = changed_by_others(run.tools.ledger, target.generation, stream)
        async with aclosing(changes) as changed:
            async for _, keys in changed:
                heads = await run.tools.ledger.heads_of(target.generation, keys)
                await _refuse_twice(run, target, heads.keys, filled)
                found = await strangers(run.tools.ledger, flow, heads.keys, filled)
                if found:
                    raise StepBlocked(_collision(min(found), target.physical, planned["source"]))


async def _refuse_twice(
    run: StepRun,
    target: GenerationStatus,
    keys: list[bytes],
    filled: Sequence[GenerationStatus],
) -> None:
    for other in filled:
        if other.generation != target.generation:
            both = (await run.tools.ledger.heads_of(other.generation, keys)).keys
            if both:
                raise StepBlocked(_collision(both[0], target.physical, other.physical))


def _collision(key: bytes, one: str, other: str) -> str:
    return (
        f"point {id_of(key)} is in {one!r} and in {other!r}, as different points, and a rollback "
        "puts them into one collection. Delete one of them, or write it under another id; then "
        f"roll back again. {NOTHING}"
    )


def _way_out(physical: str) -> str:
    return (
        f"Take what you need out of it (`rebuild {physical} --into FILE.parquet`), delete it "
        "there (`points delete`) or restore it to what it was, and roll back again; or keep it. "
        f"{NOTHING}"
    )
