"""Route: the points of a version of a generation go to targets, each by a payload field."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from domain.model.bodies import decode_payloads
from domain.model.flow import Flow
from domain.model.points import decode_payload, id_of
from domain.model.recorded import ChangeSetDraft, Heads
from domain.use_cases.concurrently import concurrently
from domain.use_cases.flows import reading
from domain.use_cases.flows.reading import Place, RangeResult
from domain.use_cases.tools import Tools


@dataclass
class _Rows:
    """Rows on their way to one target, which refer to bodies that are there already."""

    keys: list[bytes] = field(default_factory=list)
    hashes: list[bytes | None] = field(default_factory=list)
    objects: dict[str, int] = field(default_factory=dict)
    object_index: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def add(self, heads: Heads, row: int) -> None:
        """Add the point at a row of `heads`."""
        address = heads.objects[row]
        index = self.objects.setdefault(address, len(self.objects))
        self.keys.append(heads.keys[row])
        self.hashes.append(heads.hashes[row])
        self.object_index.append(index)
        self.rows.append(heads.rows[row])


async def route(tools: Tools, flow: Flow, place: Place) -> RangeResult:
    """Read a version of a generation and give each point to its target.

    At the end of a flow that follows its source, the changes since that version come next.
    """
    limit = flow.batch * reading.CHANGE_SETS_A_RANGE
    heads = await tools.ledger.heads(flow.source, after=place.after, limit=limit, at=flow.through)
    result = RangeResult("route", read=len(heads))
    if len(heads) == limit:
        result.following = {"after": heads.keys[-1].hex()}
    elif flow.follows:
        result.following = {"since": flow.through}
    filling: dict[str, _Rows] = defaultdict(_Rows)
    for row, value in enumerate(await field_values(tools, flow, heads)):
        if value not in flow.routes:
            result.leave(no_route(flow, value), id_of(heads.keys[row]))
            continue
        rows = filling[value]
        rows.add(heads, row)
        if len(rows.keys) == flow.batch:
            _flush(result, flow, place, value, filling.pop(value))
    for value, rows in filling.items():
        _flush(result, flow, place, value, rows)
    return result


def _flush(result: RangeResult, flow: Flow, place: Place, value: str, rows: _Rows) -> None:
    route = flow.routes[value]
    result.placed[route["generation"]] += len(rows.keys)
    result.drafts.append(
        ChangeSetDraft(
            generation=UUID(route["generation"]),
            keys=rows.keys,
            hashes=rows.hashes,
            objects=list(rows.objects),
            object_index=rows.object_index,
            rows=rows.rows,
            captured_at=route["captured_at"],
            source=place.source(flow.step),
        )
    )


async def without_route(tools: Tools, flow: Flow, at: int) -> RangeResult:
    """Count the points of a version of the source that have no route.

    Args:
        tools: the ports.
        flow: whose routes.
        at: version of the source's stream.
    """
    result, after = RangeResult("route"), b""
    limit = flow.batch * reading.CHANGE_SETS_A_RANGE
    while len(heads := await tools.ledger.heads(flow.source, after=after, limit=limit, at=at)):
        after = heads.keys[-1]
        result.read += len(heads)
        for key, value in zip(heads.keys, await field_values(tools, flow, heads), strict=True):
            if value not in flow.routes:
                result.leave(no_route(flow, value), id_of(key))
    return result


def no_route(flow: Flow, value: str | None) -> str:
    """Why a point with this value of the field goes nowhere."""
    return f"no {flow.field}" if value is None else f"unknown {flow.field}"


async def field_values(tools: Tools, flow: Flow, heads: Heads) -> Sequence[str | None]:
    """The value of the flow's field for each head; ``*`` where everything has one target."""
    if not flow.field:
        return ["*"] * len(heads)

    async def payload_values(address: str, rows: dict[int, int]) -> dict[int, str | None]:
        content = await tools.objects.get(address)
        payloads = await asyncio.to_thread(decode_payloads, content)
        return {
            index: _text(decode_payload(payloads[row]).get(flow.field)) if payloads[row] else None
            for index, row in rows.items()
        }

    wanted: dict[str, dict[int, int]] = defaultdict(dict)
    for index, (address, row) in enumerate(zip(heads.objects, heads.rows, strict=True)):
        wanted[address][index] = row
    values: list[str | None] = [None] * len(heads)
    for found in await concurrently(payload_values(a, rows) for a, rows in wanted.items()):
        for index, value in found.items():
            values[index] = value
    return values


def _text(value: Any) -> str | None:
    """A payload value as the text that routes have for it; JSON integers count as their digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None
