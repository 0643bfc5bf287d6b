"""Create the collections that points will go to."""

from typing import Any
from uuid import UUID

from domain.model.errors import Conflict
from domain.model.schema import CollectionSchema
from domain.use_cases.concurrently import concurrently
from domain.use_cases.steps.step_run import StepBlocked, StepRun
from domain.use_cases.tools import live_generation


async def do(run: StepRun) -> dict[str, Any]:
    """Record a generation for each target; appliers create those that do not exist."""
    schemas = {
        name: CollectionSchema.from_json(schema)
        for name, schema in run.step.params["schemas"].items()
    }

    async def create(target: dict[str, Any]) -> dict[str, Any]:
        schema = schemas[target["schema"]]
        if await run.declared(target["physical"]) is None:
            await _refuse_changed(run, target, schema)
        origin = "existing" if target["existing"] else "created"
        status = await run.declare(
            target["physical"], target["collection"], schema, origin, held=True
        )
        return {**target, "generation": status.generation}

    targets = await concurrently(create(t) for t in run.step.params["collections"])
    await run.applied(target["generation"] for target in targets)
    return {
        "created": [t["physical"] for t in targets if not t["existing"]],
        "existing": [t["physical"] for t in targets if t["existing"]],
    }


async def _refuse_changed(run: StepRun, target: dict[str, Any], schema: CollectionSchema) -> None:
    """Refuse what somebody else made since the plan: it is not ours to fill, nor to drop."""
    physical = target["physical"]
    description = await run.store.describe(physical)
    if not target["existing"]:
        if description is not None:
            raise Conflict(
                f"collection {physical!r} did not exist when this was planned; make a new plan"
            )
        return
    if description is None:
        raise Conflict(f"collection {physical!r} existed when this was planned; make a new plan")
    differences = description.schema.differences(schema)
    if differences or description.points:
        found = "; ".join(differences) or f"it holds {description.points} points"
        raise Conflict(f"collection {physical!r} has changed since the plan was made: {found}")


async def undo(run: StepRun) -> dict[str, Any]:
    """Drop what this step created; let go of what existed before or holds points of others."""
    dropped: list[str] = []
    released: list[str] = []
    waiting: list[UUID] = []
    there = set(await run.store.collections())
    for target in run.step.params["collections"]:
        physical = target["physical"]
        status = await run.declared(physical)
        if status is None:
            continue
        waiting.append(status.generation)
        if status.gone:
            continue
        if target["existing"] or (physical in there and await _unrecorded(run, physical)):
            await run.release(status.generation, physical)
            released.append(physical)
        else:
            await run.drop(status.generation, physical)
            dropped.append(physical)
    await run.applied(waiting, skip=True)
    return {"dropped": dropped, "released": released}


async def _unrecorded(run: StepRun, physical: str) -> bool:
    """Whether a collection holds what only the store has: then it is not ours to drop."""
    found = await run.verify(physical)
    return bool(found.extra or found.changed)


async def refuse_unrecorded(run: StepRun) -> None:
    """Before a rollback of what was verified: nothing may be lost that only the stores hold.

    Raises:
        StepBlocked: somebody wrote to the targets behind the ledger's back.
    """
    there = set(await run.store.collections())
    targets = {t["physical"]: t["existing"] for t in run.step.params["collections"]}
    found = []
    for physical, existing in targets.items():
        if (
            physical not in there
            or await live_generation(run.tools.applications, run.store_name, physical) is None
        ):
            continue
        verification = await run.verify(physical)
        if verification.changed or (verification.extra and not existing):
            found.append(str(verification))
    if found:
        raise StepBlocked(
            "points were written after the migration, and a rollback would lose them: "
            + "; ".join(found)
            + ". Let the ledger know them (`collection adopt`), or copy them elsewhere and delete "
            "them here; then roll back again. "
            "Nothing was undone so far."
        )
