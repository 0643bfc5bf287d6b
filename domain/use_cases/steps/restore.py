"""Make a collection exactly what it was at a version, as recorded changes."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid4

from domain.model.generation import REPAIRS, Generation
from domain.model.recorded import ChangeSetDraft
from domain.ports import GenerationStatus
from domain.use_cases.concurrently import in_pages
from domain.use_cases.later_changes import later_writes
from domain.use_cases.merge import Side, merge, recorded_points
from domain.use_cases.steps.step_run import BACK, FORWARD, StepBlocked, StepRun
from domain.use_cases.tools import live_generation, stream_events
from domain.use_cases.versions import Place


async def do(run: StepRun) -> dict[str, Any]:
    """Record what differs from the version; again records what is left.

    Raises:
        StepBlocked: there are later writes by now, and nobody said that they may go.
    """
    status = await _live(run)
    if status is None:
        raise StepBlocked(
            f"collection {run.step.params['collection']!r} was dropped or made anew since the plan"
        )
    version = await _version(run)
    if run.step.params["later_writes"] == "fail":
        writes = await later_writes(run.tools, version)
        if writes:
            raise StepBlocked(
                f"later writes to {status.physical!r} would go ({writes:,}), which were not there "
                "when this was planned; plan again with `later_writes: discard` if they may"
            )
    now = Side(recorded_points(run.tools.ledger, status.generation))
    then = Side(recorded_points(run.tools.ledger, version.status.generation, version.through))
    differences = in_pages(merge(now, then), run.step.params["batch"])
    async with aclosing(differences) as pages:
        async for page in pages:
            keys = [key for _, key in page]
            # A coordinator that was paused must not write over what came after its successor.
            draft = await _as_it_was(run, status, keys, version, captured_at=status.recorded)
            await run.tools.ledger.record(run.key("restore", str(uuid4())), run.context, [draft])
    await run.applied([status.generation])
    return await _counts(run, status)


async def undo(run: StepRun) -> dict[str, Any]:
    """Give the points back what they were before; what others wrote to them since stays."""
    status = await _live(run)
    if status is None:  # what it changed is gone
        return {"changes": 0, "made_anew": [run.step.params["collection"]]}
    own = [(version, event.manifest) async for version, event in _own_changes(run, status)]
    captured_at, written = own[-1][0] if own else status.recorded, set[bytes]()
    if undone := await _undone_since(run, status, captured_at):
        written = await _written_since(run, status, captured_at, undone)
        captured_at = status.recorded
    for version, address in own:
        manifest = (await run.tools.ledger.manifests([address]))[address]
        before = Place(status, own[0][0] - 1, 0)
        keys = [key for key in manifest.keys if key not in written]
        draft = await _as_it_was(run, status, keys, before, captured_at)
        key = run.key("give-back", str(version))
        await run.tools.ledger.record(key, run.context, [draft], content=address.encode())
    await run.applied([status.generation], skip=True)
    return {"changes": len(own)}


async def _undone_since(run: StepRun, status: GenerationStatus, after: int) -> set[str]:
    """Other restores that were undone after a version."""
    return {
        recorded.event.source["migration"]
        async for recorded in stream_events(run.tools.ledger, status.generation, after)
        if isinstance(recorded.event, Generation.ChangeSetRecorded)
        and recorded.event.source.get("direction") == BACK
    } - {str(run.migration)}


async def _written_since(
    run: StepRun, status: GenerationStatus, after: int, undone: set[str]
) -> set[bytes]:
    """Points that were changed after a version, by others than this migration and those undone.

    What a restore did and undid is no change. This takes memory for every point that was written.
    """
    keys = set[bytes]()
    async for recorded in stream_events(run.tools.ledger, status.generation, after):
        event = recorded.event
        if (
            isinstance(event, Generation.ChangeSetRecorded)
            and not isinstance(event, REPAIRS)
            and event.source.get("migration") not in {*undone, str(run.migration)}
        ):
            keys.update((await run.tools.ledger.manifests([event.manifest]))[event.manifest].keys)
    return keys


async def _live(run: StepRun) -> GenerationStatus | None:
    """The generation that the plan is about, or None if the collection was made anew since."""
    physical = run.step.params["collection"]
    status = await live_generation(run.tools.applications, run.store_name, physical)
    planned = UUID(run.step.params["generation"])
    return status if status is not None and status.generation == planned else None


async def _version(run: StepRun) -> Place:
    version = run.step.params["version"]
    status = await run.tools.applications.status(UUID(version["generation"]))
    if status is None:
        raise StepBlocked(f"there is no generation {version['generation']}")
    return Place(status, version["through"], version["position"])


async def _as_it_was(
    run: StepRun,
    status: GenerationStatus,
    keys: list[bytes],
    version: Place,
    captured_at: int,
) -> ChangeSetDraft:
    """A change set that makes points what they were at a version; they refer to the same bodies."""
    heads = await run.tools.ledger.heads_of(
        version.status.generation, sorted(keys), at=version.through
    )
    source = {"step": run.step.id, "migration": str(run.migration), "direction": run.direction}
    return heads.draft(status.generation, keys, captured_at=captured_at, source=source)


async def _own_changes(
    run: StepRun, status: GenerationStatus
) -> AsyncIterator[tuple[int, Generation.ChangeSetRecorded]]:
    """The change sets that the forward run of this step recorded, with their versions."""
    version = run.step.params["version"]
    after = version["through"] if version["generation"] == str(status.generation) else 0
    async for recorded in stream_events(run.tools.ledger, status.generation, after):
        event = recorded.event
        if (
            isinstance(event, Generation.ChangeSetRecorded)
            and event.source.get("migration") == str(run.migration)
            and event.source["direction"] == FORWARD
        ):
            yield recorded.version, event


async def _counts(run: StepRun, status: GenerationStatus) -> dict[str, Any]:
    written = deleted = 0
    async for _, event in _own_changes(run, status):
        written, deleted = written + event.upserts, deleted + event.deletes
    return {"written": written, "deleted": deleted}
