"""Carry later changes of a collection back to the one that its points came from."""

from collections.abc import AsyncGenerator
from uuid import UUID

from domain.model.generation import REPAIRS, Generation
from domain.model.recorded import Command
from domain.ports import GenerationStatus, Ledger
from domain.use_cases.steps.step_run import StepRun

EVENTS_AT_ONCE = 200
POINTS_AT_ONCE = 2000


async def carry_back(
    run: StepRun, target: GenerationStatus, source: GenerationStatus, flow: UUID
) -> int:
    """Record in a source what became of a target by others than the flow that filled it.

    The target takes no more writes. Points refer to the bodies that are there; what is deleted in
    the target is deleted in the source. Once it is done, again changes nothing, whatever becomes
    of the target.

    Args:
        run: the step that is undone.
        target: the collection that the flow filled.
        source: the collection that it came from.
        flow: its stream.

    Returns:
        How many points were named.
    """
    done = run.key("carried", target.physical)
    if await run.tools.ledger.answer(done) is not None:
        return 0
    carried = 0
    async for version, keys in changed_by_others(run.tools.ledger, target.generation, flow):
        heads = await run.tools.ledger.heads_of(target.generation, keys)
        origin = {"step": run.step.id, "carried": True}
        draft = heads.draft(source.generation, keys, source=origin)
        key = run.key("carry", target.physical, str(version))
        await run.tools.ledger.record(key, run.context, [draft])
        carried += len(keys)
    await run.tools.ledger.append(Command(done, (), run.context))
    return carried


async def changed_by_others(
    ledger: Ledger, generation: UUID, flow: UUID
) -> AsyncGenerator[tuple[int, list[bytes]], None]:
    """Ids that others than a flow changed: in key order, some at a time, with the last version."""
    keys, version = set[bytes](), 0
    while events := await ledger.events(
        generation, after=version, through=version + EVENTS_AT_ONCE
    ):
        for recorded in events:
            event, version = recorded.event, recorded.version
            if (
                not isinstance(event, Generation.ChangeSetRecorded)
                or isinstance(event, REPAIRS)
                or event.source.get("flow") == str(flow)
            ):
                continue
            manifest = (await ledger.manifests([event.manifest]))[event.manifest]
            keys.update(manifest.keys)
            if len(keys) >= POINTS_AT_ONCE:
                yield version, sorted(keys)
                keys = set()
    if keys:
        yield version, sorted(keys)
