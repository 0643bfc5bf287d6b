"""Make a collection exactly what it was at a version, as recorded changes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from domain.model.bodies import Manifest
from domain.model.flow import Flow
from domain.model.generation import REPAIRS, Generation
from domain.model.plan import StepKind
from domain.model.recorded import ChangeSetDraft
from domain.ports import GenerationStatus
from domain.use_cases.concurrently import in_pages
from domain.use_cases.later_changes import later_writes
from domain.use_cases.merge import Side, merge, recorded_points
from domain.use_cases.steps.step_run import BACK, FORWARD, StepBlocked, StepRun
from domain.use_cases.tools import (
    live_generation,
    migration_named,
    stream_events,
    unless_changed,
)
from domain.use_cases.versions import Place

POINTS_AT_ONCE = 100_000
"""Whose later changes are looked for in one reading of the history."""


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
                "when this was planned; if they may, plan again with `--discard-later-writes`, or "
                "`later_writes: discard` in a spec"
            )
    now = Side(recorded_points(run.tools.ledger, status.generation))
    then = Side(recorded_points(run.tools.ledger, version.status.generation, version.through))
    differences = in_pages(merge(now, then), run.step.params["batch"])
    async with aclosing(differences) as pages:
        async for page in pages:
            keys = [key for _, key in page]
            # A coordinator that was paused must not write over what came after its successor.
            make = partial(_as_it_was, run, status, keys, version, captured_at=status.recorded)
            await _record(run, run.key("restore", str(uuid4())), make)
    await run.applied([status.generation])
    return await _counts(run, status)


async def undo(run: StepRun) -> dict[str, Any]:
    """Give the points back what they were before; what others wrote to them since stays."""
    lives = await lives_of(run)
    if not lives:  # what it changed is gone
        return {"changes": 0, "made_anew": [run.step.params["collection"]]}
    restored, status = lives[0].status, lives[-1].status
    own = [(version, event.manifest) async for version, event in _own_changes(run, restored)]
    last = captured_at = own[-1][0] if own else status.recorded
    undone = await _undone_since(run, lives, last)
    brought_back = bool(undone) or status != restored
    if brought_back:
        captured_at = status.recorded
    async for page in _in_pages(run, own):
        among = {key for _, manifest in page for key in manifest.keys} if brought_back else set()
        written = await _written_since(run, lives, last, undone, among) if among else set()
        for (version, address), manifest in page:
            before = Place(restored, own[0][0] - 1, 0)
            keys = [key for key in manifest.keys if key not in written]
            make = partial(_as_it_was, run, status, keys, before, captured_at)
            await _record(run, run.key("give-back", str(version)), make, content=address.encode())
    await run.applied([status.generation], skip=True)
    return {"changes": len(own)}


@dataclass(frozen=True)
class Life:
    """A generation of the collection, which may have been dropped and brought back since.

    Attributes:
        status: of the generation.
        flow: that brought its points back from the generation before; None for the first one.
    """

    status: GenerationStatus
    flow: UUID | None = None


async def lives_of(run: StepRun) -> list[Life]:
    """The generation that the plan is about and those that it was brought back as, up to now.

    None if what is there now did not come from it.
    """
    physical, planned = run.step.params["collection"], UUID(run.step.params["generation"])
    status = await live_generation(run.tools.applications, run.store_name, physical)
    found: list[Life] = []
    while status is not None:
        if status.generation == planned:
            return [Life(status), *found]
        flow = await _bringing_back(run, status)
        if flow is None:
            break
        found.insert(0, Life(status, flow.id))
        status = await run.tools.applications.status(flow.source)
    return []


async def _bringing_back(run: StepRun, status: GenerationStatus) -> Flow | None:
    """The flow that brought a collection back which another migration had dropped, or None."""
    (created,) = await run.tools.ledger.events(status.generation, through=1)
    other = await migration_named(run.tools.ledger, created.context.correlation_id)
    for step in other.plan.steps if other is not None else ():
        if other is not None and step.kind is StepKind.DROP:
            stream = replace(run, migration=other.id, step=step).backward_flow(status.physical)
            flow = await run.tools.ledger.load(Flow, stream)
            if flow is not None and UUID(flow.routes["*"]["generation"]) == status.generation:
                return flow
    return None


async def _changes_since(
    run: StepRun, lives: Sequence[Life], after: int
) -> AsyncIterator[Generation.ChangeSetRecorded]:
    """Changes after a version of the first generation; to be brought back is none."""
    for life in lives:
        async for recorded in stream_events(run.tools.ledger, life.status.generation, after):
            event = recorded.event
            if (
                isinstance(event, Generation.ChangeSetRecorded)
                and not isinstance(event, REPAIRS)
                and (life.flow is None or event.source.get("flow") != str(life.flow))
            ):
                yield event
        after = 0


async def _undone_since(run: StepRun, lives: Sequence[Life], after: int) -> set[str]:
    """Other restores that were undone after a version."""
    return {
        event.source["migration"]
        async for event in _changes_since(run, lives, after)
        if event.source.get("direction") == BACK
    } - {str(run.migration)}


async def _written_since(
    run: StepRun, lives: Sequence[Life], after: int, undone: set[str], among: set[bytes]
) -> set[bytes]:
    """Which points were changed after a version, by others than this migration and those undone.

    What a restore did and undid is no change.
    """
    keys = set[bytes]()
    async for event in _changes_since(run, lives, after):
        if event.source.get("migration") not in {*undone, str(run.migration)}:
            manifest = (await run.tools.ledger.manifests([event.manifest]))[event.manifest]
            keys |= among.intersection(manifest.keys)
    return keys


async def _in_pages(
    run: StepRun, changes: Sequence[tuple[int, str]]
) -> AsyncIterator[list[tuple[tuple[int, str], Manifest]]]:
    """Changes with what each did to which points, of so many points at a time."""
    page, points = list[tuple[tuple[int, str], Manifest]](), 0
    for change in changes:
        manifest = (await run.tools.ledger.manifests([change[1]]))[change[1]]
        page.append((change, manifest))
        points += len(manifest)
        if points >= POINTS_AT_ONCE:
            yield page
            page, points = [], 0
    if page:
        yield page


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


async def _record(
    run: StepRun, key: str, make: Callable[[], Awaitable[ChangeSetDraft]], **more: Any
) -> None:
    """Record a change set; it is made again if bodies of it were erased in between."""

    async def attempt() -> None:
        await run.tools.ledger.record(key, run.context, [await make()], **more)

    await unless_changed(attempt)


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
