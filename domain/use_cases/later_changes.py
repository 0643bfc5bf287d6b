"""What became of a collection after one of its versions."""

from typing import Any

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
    now = await serving(tools.ledger, live)
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
    first = [one.generation for one in known].index(status.generation)
    writes = await _writes(tools.ledger, status, version.through)
    for later in known[first + 1 :]:
        writes += await _writes(tools.ledger, later, 0)
    return writes


async def _writes(ledger: Ledger, status: GenerationStatus, after: int) -> int:
    writes = 0
    async for recorded in stream_events(ledger, status.generation, after):
        event = recorded.event
        if isinstance(event, Generation.ChangeSetRecorded) and _of_application(event.source):
            writes += bool(event.upserts or event.deletes)
    return writes


def _of_application(source: dict[str, Any]) -> bool:
    """Whether a change set is a write of an application, or such writes that were carried back."""
    return "write" in source or bool(source.get("carried"))
