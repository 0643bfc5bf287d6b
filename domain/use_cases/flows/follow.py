"""Follow: what became of a source since goes to the targets of its points."""

from collections import defaultdict
from uuid import UUID

from domain.model.flow import Flow
from domain.model.generation import REPAIRS, Generation
from domain.model.points import id_of
from domain.model.recorded import Heads
from domain.ports import Ledger
from domain.use_cases.flows import reading
from domain.use_cases.flows.reading import Place, RangeResult, parts_of
from domain.use_cases.flows.route import field_values, no_route
from domain.use_cases.tools import Tools

EVENTS_AT_ONCE = 64


async def follow(tools: Tools, flow: Flow, place: Place) -> RangeResult:
    """Make the targets what the source says of the points that changed.

    What the targets are follows from the version of the source alone: a point has a place by the
    version that the range reads up to, and had one by the version that it begins at.
    """
    since = place.request["since"]
    through, keys = await changes_since(tools.ledger, flow.source, since)
    result = RangeResult("follow", read=len(keys), following={"since": through})
    if not keys:
        return result
    now = await tools.ledger.heads_of(flow.source, keys, at=through)
    before = await tools.ledger.heads_of(flow.source, keys, at=since)
    there, unplaced = await _places(tools, flow, now)
    was, _ = await _places(tools, flow, before)
    for key, reason in unplaced.items():
        result.leave(reason, id_of(key))
    for target in sorted(there.keys() | was.keys()):
        result.placed[str(target)] = len(there[target])
        heads, changed = now.only(there[target]), sorted(there[target] | was[target])
        result.drafts += [
            heads.draft(target, part, source=place.source(flow.step))
            for part in parts_of(changed, flow.batch)
        ]
    return result


async def changes_since(ledger: Ledger, generation: UUID, since: int) -> tuple[int, list[bytes]]:
    """Which points changed after a version, up to the version that is returned, in key order.

    A change set is taken whole, so there may be some more of them than a range should have.
    """
    keys = set[bytes]()
    while events := await ledger.events(generation, after=since, through=since + EVENTS_AT_ONCE):
        changes = {
            recorded.version: recorded.event.manifest
            for recorded in events
            if isinstance(recorded.event, Generation.ChangeSetRecorded)
            and not isinstance(recorded.event, REPAIRS)
        }
        manifests = await ledger.manifests([*changes.values()])
        for recorded in events:
            since = recorded.version
            if since in changes:
                keys.update(manifests[changes[since]].keys)
                if len(keys) >= reading.CHANGED_POINTS_A_RANGE:
                    return since, sorted(keys)
    return since, sorted(keys)


async def _places(
    tools: Tools, flow: Flow, heads: Heads
) -> tuple[dict[UUID, set[bytes]], dict[bytes, str]]:
    """Which points each target has, and why others have none."""
    places: dict[UUID, set[bytes]] = defaultdict(set)
    unplaced: dict[bytes, str] = {}
    for key, value in zip(heads.keys, await field_values(tools, flow, heads), strict=True):
        if value in flow.routes:
            places[UUID(flow.routes[value]["generation"])].add(key)
        else:
            unplaced[key] = no_route(flow, value)
    return places, unplaced
