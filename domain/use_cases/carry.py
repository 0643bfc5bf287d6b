"""Carry later changes of a collection back to the one that its points came from."""

from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

from domain.model.flow import Flow
from domain.model.generation import REPAIRS, Generation
from domain.model.recorded import Command
from domain.ports import GenerationStatus, Ledger
from domain.use_cases.steps.step_run import StepRun
from domain.use_cases.tools import stream_events

POINTS_AT_ONCE = 2000


async def carry_back(
    run: StepRun,
    flow: Flow,
    source: GenerationStatus,
    target: GenerationStatus,
    filled: Sequence[GenerationStatus],
) -> int:
    """Record in the source of a flow what became of a target by others than the flow.

    The targets take no more writes. Points refer to the bodies that are there. What is gone from
    the target is deleted in the source, unless another target has it by now, or it never was what
    the flow read. Once it is done, again changes nothing, whatever becomes of the target.

    Args:
        run: the step that is undone.
        flow: that filled the target.
        source: the collection that its points go back to.
        target: a collection that it filled.
        filled: all collections that it filled.

    Returns:
        How many points were named.
    """
    done = run.key("carried", target.physical)
    if await run.tools.ledger.answer(done) is not None:
        return 0
    carried = 0
    others = [other for other in filled if other.generation != target.generation]
    async for version, keys in changed_by_others(run.tools.ledger, target.generation, flow.id):
        heads = await run.tools.ledger.heads_of(target.generation, keys)
        gone = sorted(set(keys) - set(heads.keys))
        spared = await _there(run.tools.ledger, others, gone)
        spared |= await strangers(run.tools.ledger, flow, gone, filled)
        kept = [key for key in keys if key not in spared]
        origin = {"step": run.step.id, "carried": True}
        draft = heads.draft(source.generation, kept, source=origin)
        key = run.key("carry", target.physical, str(version))
        await run.tools.ledger.record(key, run.context, [draft])
        carried += len(kept)
    await run.tools.ledger.append(Command(done, (), run.context))
    return carried


async def strangers(
    ledger: Ledger, flow: Flow, keys: Sequence[bytes], filled: Sequence[GenerationStatus]
) -> set[bytes]:
    """Which of these ids the source of a flow had for points that no target got."""
    was = await ledger.heads_of(flow.source, keys, at=flow.through)
    hashes = dict(zip(was.keys, was.hashes, strict=True))
    for one in filled if hashes else ():
        had = await ledger.hashes_between(one.generation, sorted(hashes), 1, one.recorded)
        hashes = {key: hash_ for key, hash_ in hashes.items() if hash_ not in had[key]}
    return set(hashes)


async def _there(
    ledger: Ledger, generations: Sequence[GenerationStatus], keys: list[bytes]
) -> set[bytes]:
    """Which of these points one of these generations has."""
    found: set[bytes] = set()
    for status in generations if keys else ():
        found.update((await ledger.heads_of(status.generation, keys)).keys)
    return found


async def changed_by_others(
    ledger: Ledger, generation: UUID, flow: UUID
) -> AsyncGenerator[tuple[int, list[bytes]], None]:
    """Ids that others than a flow changed: in key order, some at a time, with the last version."""
    keys, version = set[bytes](), 0
    async for recorded in stream_events(ledger, generation):
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
