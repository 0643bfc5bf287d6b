"""What became of a collection after one of its versions."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from domain.model.flow import Flow
from domain.model.generation import Generation
from domain.model.recipes.recipe import LaterFacts
from domain.ports import GenerationStatus, Ledger
from domain.use_cases.diff_versions import VersionDiff, diff_versions
from domain.use_cases.tools import Tools, recorded_schema, stream_events
from domain.use_cases.versions import Place, generations_of, serving


async def later_changes(tools: Tools, version: Place) -> LaterFacts | None:
    """What became of a collection since a version; None if nothing serves it any more.

    Memory stays at a page of each side.
    """
    status = version.status
    known = await generations_of(tools, status.store, status.collection)
    live = [one for one in known if not one.gone]
    if not live:
        return None
    now = await serving(tools, live)
    diff = VersionDiff()
    async for _ in diff_versions(tools, version, Place(now, now.recorded, 0), diff):
        pass
    return LaterFacts(
        generation=str(now.generation),
        physical=now.physical,
        schema=await recorded_schema(tools.ledger, now.generation),
        added=diff.added,
        removed=diff.removed,
        changed=diff.changed,
        writes=await later_writes(tools, version),
    )


async def later_writes(tools: Tools, version: Place) -> int:
    """How many writes of applications came after a version, to whatever served its collection."""
    status = version.status
    known = await generations_of(tools, status.store, status.collection)
    ours = {one.generation for one in known}
    writes = 0
    # An older generation may serve again since, after a rollback.
    for one in known:
        at = await tools.ledger.event_at(one.generation, version.position)
        writes += await _writes(tools.ledger, one, at.version if at is not None else 0, ours)
    return writes


async def _writes(
    ledger: Ledger, status: GenerationStatus, after: int, ours: Collection[UUID]
) -> int:
    writes = 0
    async for recorded in stream_events(ledger, status.generation, after):
        event = recorded.event
        if isinstance(event, Generation.ChangeSetRecorded) and await _counts(
            ledger, event.source, ours
        ):
            writes += bool(event.upserts or event.deletes)
    return writes


async def _counts(ledger: Ledger, source: dict[str, Any], ours: Collection[UUID]) -> bool:
    """Whether a change set is a write of an application, or such writes that were carried back.

    What is carried from one generation of a collection to another counts where it was written.
    """
    if "write" in source:
        return True
    if not source.get("carried"):
        return False
    flow = await ledger.load(Flow, UUID(source["flow"]))
    return flow is None or flow.source not in ours
