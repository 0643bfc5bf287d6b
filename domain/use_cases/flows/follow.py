"""Follow: what became of a source since goes to the targets of its points."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import aclosing
from uuid import UUID

from domain.model.flow import Flow
from domain.model.generation import REPAIRS, Generation
from domain.model.points import id_of
from domain.model.recorded import Heads
from domain.ports import Ledger
from domain.use_cases.flows import reading
from domain.use_cases.flows.reading import Place, RangeResult
from domain.use_cases.flows.route import field_values, no_route
from domain.use_cases.tools import Tools, stream_events


async def follow(tools: Tools, flow: Flow, place: Place) -> RangeResult:
    """Make the targets what the source says of the points that changed.

    What the targets are follows from the version of the source alone: a point has a place by the
    version that the range reads up to, and had one by the version that it begins at.
    """
    since = place.request["since"]
    limit = flow.batch * reading.CHANGE_SETS_A_RANGE
    through, keys = await changes_since(tools.ledger, flow.source, since, limit)
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
        result.drafts.append(
            now.only(there[target]).draft(
                target, sorted(there[target] | was[target]), source=place.source(flow.step)
            )
        )
    return result


async def changes_since(
    ledger: Ledger, generation: UUID, since: int, limit: int
) -> tuple[int, list[bytes]]:
    """Which points changed after a version, up to the version that is returned, in key order.

    Args:
        ledger: that has them.
        generation: its stream.
        since: version that the reader knows.
        limit: of points; the change set that passes it is still taken whole.
    """
    keys = set[bytes]()
    async with aclosing(stream_events(ledger, generation, since)) as events:
        async for recorded in events:
            since, event = recorded.version, recorded.event
            if isinstance(event, Generation.ChangeSetRecorded) and not isinstance(event, REPAIRS):
                keys.update((await ledger.manifests([event.manifest]))[event.manifest].keys)
                if len(keys) >= limit:
                    break
    return since, sorted(keys)


async def _places(
    tools: Tools, flow: Flow, heads: Heads
) -> tuple[dict[UUID, set[bytes]], dict[bytes, str]]:
    """Which points each target has, and why others have none."""
    places: dict[UUID, set[bytes]] = defaultdict(set)
    unplaced: dict[bytes, str] = {}
    for key, value in _pairs(heads, await field_values(tools, flow, heads)):
        if value in flow.routes:
            places[UUID(flow.routes[value]["generation"])].add(key)
        else:
            unplaced[key] = no_route(flow, value)
    return places, unplaced


def _pairs(heads: Heads, values: Iterable[str | None]) -> Iterable[tuple[bytes, str | None]]:
    return zip(heads.keys, values, strict=True)
