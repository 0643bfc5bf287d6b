"""What of a completed migration is not so any more."""

from domain.model.migration import Migration
from domain.model.plan import Step, StepKind
from domain.use_cases.tools import Tools, live_generation
from domain.use_cases.versions import digest_at, digest_by_now


async def no_longer_true(tools: Tools, migration: Migration) -> list[str]:
    """What of a completed migration is not so any more, a sentence each."""
    found = []
    for step in migration.plan.steps:
        if step.kind is StepKind.CREATE:
            there = set(await tools.stores.store(step.params["store"]).collections())
            found += [
                f"collection {target['physical']!r} is gone"
                for target in step.params["collections"]
                if target["physical"] not in there
            ]
        elif step.kind is StepKind.POINT_ALIASES:
            aliases = await tools.stores.store(step.params["store"]).aliases()
            found += [
                f"{alias!r} points to {aliases.get(alias, 'nothing')!r}, not to {physical!r}"
                for alias, physical in step.params["aliases"].items()
                if aliases.get(alias) != physical
            ]
        elif step.kind is StepKind.RESTORE:
            digest = await digest_by_now(tools.ledger, migration.plan.facts["version"])
            found += await _not_restored(tools, step, digest)
    return found


async def _not_restored(tools: Tools, step: Step, digest: str) -> list[str]:
    physical = step.params["collection"]
    status = await live_generation(tools.applications, step.params["store"], physical)
    if status is None:
        return [f"collection {physical!r} is gone"]
    now = await digest_at(tools.ledger, status.generation, status.recorded)
    if now.hexdigest() == digest:
        return []
    return [f"collection {physical!r} was changed after it was restored"]
