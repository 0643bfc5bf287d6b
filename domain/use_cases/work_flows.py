"""Work on flows: claim a range, read it, record what it says."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np

from domain.model.aggregate import Actor, Context, pending_events
from domain.model.bodies import decode_payloads, encode_body
from domain.model.errors import (
    Conflict,
    InvalidPoint,
    KeyReused,
    LedgerError,
    NotFound,
    Unavailable,
)
from domain.model.flow import Flow, FlowRange
from domain.model.generation import Generation
from domain.model.points import FLOAT32, PointBatch, decode_payload, id_of
from domain.model.recorded import ChangeSetDraft, Heads
from domain.model.schema import VectorKind
from domain.ports import RangeClaim
from domain.use_cases.concurrently import concurrently
from domain.use_cases.tools import Tools

logger = logging.getLogger("migration_ledger.flow")

FLOW_WORKER = Actor("flow worker", "service")
CHANGE_SETS_A_RANGE = 10
RANGE_BYTES = 64 * 2**20
LEASE_SECONDS = 10.0
IDLE_SECONDS = 0.2
EXAMPLES = 20


async def work_flows(tools: Tools, holder: str, stop: asyncio.Event) -> None:
    """Claim ranges and work on them until told to stop; the range under way is finished."""
    pause = IDLE_SECONDS
    async with _reading_ahead(tools) as reader:
        while not stop.is_set():
            try:
                claim = await tools.ranges.claim(holder, LEASE_SECONDS)
                if claim is None:
                    await asyncio.sleep(IDLE_SECONDS)
                    continue
                await _work(tools, claim, holder, reader)
                pause = IDLE_SECONDS
            except LedgerError as error:
                logger.warning("flow_waits", extra={"error": str(error)})
                await asyncio.sleep(pause)
                pause = min(2 * pause, 5.0)


async def _work(tools: Tools, claim: RangeClaim, holder: str, reader: "_Reader") -> None:
    result = await _work_kept(tools, claim, holder, reader)
    if isinstance(result, LedgerError):
        logger.warning(
            "range_failed",
            extra={"flow": str(claim.flow), "range": claim.number, "error": str(result)},
        )
        failed = not isinstance(result, Unavailable)  # a server that is away is waited for
        await tools.ranges.put_back(claim, str(result), failed=failed)
    else:
        await tools.ranges.finish(claim, result)


async def _work_kept(
    tools: Tools, claim: RangeClaim, holder: str, reader: "_Reader"
) -> dict[str, Any] | LedgerError | None:
    """Work on a range while its lease is renewed; what follows it, or why it failed.

    Errors are returned, because a task group would wrap them.
    """
    async with asyncio.TaskGroup() as group:
        keeper = group.create_task(_keep(tools, claim, holder))
        try:
            return await work_range(tools, claim, reader)
        except LedgerError as error:
            return error
        except Exception as error:  # a defect of ours; other ranges go on
            logger.exception("range_crashed", extra={"flow": str(claim.flow)})
            return LedgerError(f"defect: {type(error).__name__}; the flow worker's log has more")
        finally:
            keeper.cancel()


async def _keep(tools: Tools, claim: RangeClaim, holder: str) -> None:
    while True:
        await asyncio.sleep(LEASE_SECONDS / 3)
        try:
            await tools.ranges.renew(claim, holder, LEASE_SECONDS)
        except LedgerError as error:
            logger.warning("range_not_renewed", extra={"error": str(error)})


async def work_range(
    tools: Tools, claim: RangeClaim, reader: "_Reader | None" = None
) -> dict[str, Any] | None:
    """Record one range, unless its result is recorded already; returns what follows it.

    Args:
        tools: the ports.
        claim: of the range.
        reader: reads the range that follows meanwhile.
    """
    stream = FlowRange.create_id(str(claim.flow), claim.number)
    known = await tools.ledger.load(FlowRange, stream)
    if known is not None:
        return known.following
    flow = await tools.ledger.load(Flow, claim.flow)
    if flow is None:
        raise NotFound(f"there is no flow {claim.flow}")
    place = _Place(claim.flow, claim.number, bytes.fromhex(claim.request["after"]))
    if reader is None:
        result = await _read(tools, flow, place)
    else:
        result = await reader.read(flow, place)
    recorded = FlowRange(
        flow=str(claim.flow),
        kind=flow.kind,
        number=claim.number,
        read=result.read,
        placed=result.placed,
        unplaced=dict(result.unplaced),
        examples=dict(result.examples),
        following={"after": result.last.hex()} if result.last is not None else None,
    )
    context = Context(
        FLOW_WORKER, correlation_id=flow.migration, causation_id=f"{flow.step}/{claim.number}"
    )
    try:
        await tools.ledger.record(
            f"flow/{claim.flow}/range/{claim.number}",
            context,
            result.drafts,
            pending_events(recorded),
        )
    except (Conflict, KeyReused):
        first = await tools.ledger.load(FlowRange, stream)
        if first is None:
            raise
        return first.following
    return recorded.following


@dataclass
class _Result:
    """What a range holds.

    Attributes:
        drafts: change sets to record.
        read: points read.
        last: key of the last point read, or None at the end of the source.
    """

    drafts: list[ChangeSetDraft] = field(default_factory=list)
    read: int = 0
    last: bytes | None = None
    placed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    unplaced: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    examples: dict[str, list[int | str]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class _Place:
    """A range, as far as reading it goes.

    Attributes:
        flow: stream of the flow.
        number: of the range.
        after: key that its points come after.
    """

    flow: UUID
    number: int
    after: bytes

    def source(self, step: str) -> dict[str, Any]:
        """What change sets say of where they come from."""
        return {"flow": str(self.flow), "range": self.number, "step": step}


class _Reader:
    """Reads ranges, and the one that follows while the caller records what it got.

    What was read ahead is used if this worker gets the next range too. Otherwise, and when reading
    ahead failed, the range is read when it is claimed.
    """

    def __init__(self, tools: Tools, group: asyncio.TaskGroup) -> None:
        self._tools = tools
        self._group = group
        self._ahead: dict[UUID, tuple[_Place, asyncio.Task[_Result | None]]] = {}

    async def read(self, flow: Flow, place: _Place) -> _Result:
        """What a range holds."""
        expected, task = self._ahead.pop(place.flow, (None, None))
        result = None
        if task is not None:
            if expected == place:
                result = await task
            else:
                task.cancel()
        if result is None:
            result = await _read(self._tools, flow, place)
        if result.last is not None:
            following = _Place(place.flow, place.number + 1, result.last)
            reading = self._group.create_task(self._read_ahead(flow, following))
            self._ahead[place.flow] = following, reading
        return result

    async def _read_ahead(self, flow: Flow, place: _Place) -> _Result | None:
        try:
            return await _read(self._tools, flow, place)
        except LedgerError:
            return None  # said and counted when the range is claimed and fails again
        except Exception:  # a defect of ours; other ranges go on
            logger.exception("not_read_ahead", extra={"flow": str(place.flow)})
            return None

    def close(self) -> None:
        """Stop reading ahead."""
        for _, task in self._ahead.values():
            task.cancel()


@asynccontextmanager
async def _reading_ahead(tools: Tools) -> AsyncIterator[_Reader]:
    async with asyncio.TaskGroup() as group:
        reader = _Reader(tools, group)
        try:
            yield reader
        finally:
            reader.close()


async def _read(tools: Tools, flow: Flow, place: _Place) -> _Result:
    return await {"capture": _capture, "route": _route}[flow.kind](tools, flow, place)


async def _capture(tools: Tools, flow: Flow, place: _Place) -> _Result:
    """Read points from the store that a generation was adopted from; bodies become objects."""
    generation = await tools.ledger.load(Generation, flow.source)
    if generation is None:
        raise NotFound(f"there is no generation {flow.source}")
    dense = [n for n, v in generation.schema.vectors.items() if v.kind is not VectorKind.SPARSE]
    store = tools.stores.store(generation.store)
    result, size = _Result(), 0
    limit = flow.batch * CHANGE_SETS_A_RANGE
    async for page in store.scan(
        generation.physical, after=place.after, page=flow.batch, limit=limit
    ):
        content, hashes = await asyncio.to_thread(_body, page, dense)
        address = await tools.objects.put(content)
        result.drafts.append(
            ChangeSetDraft.images(
                flow.source,
                page.keys,
                hashes,
                address,
                captured=True,
                captured_at=flow.through,
                source=place.source(flow.step),
            )
        )
        result.read += len(page)
        size += len(content)
        if result.read == limit or size >= RANGE_BYTES:
            result.last = page.keys[-1]
            break
    result.placed[str(flow.source)] = result.read
    return result


def _body(page: PointBatch, dense: list[str]) -> tuple[bytes, list[bytes]]:
    for name in dense:
        column = page.vectors.get(name, [])
        flat = np.frombuffer(b"".join(v for v in column if v is not None), dtype=FLOAT32)
        if not np.isfinite(flat).all():
            bad = next(
                key
                for key, vector in zip(page.keys, column, strict=True)
                if vector is not None and not np.isfinite(np.frombuffer(vector, FLOAT32)).all()
            )
            raise InvalidPoint(
                f"point {id_of(bad)} has NaN or infinity in vector {name!r}; repair or delete it"
            )
    return encode_body(page), page.hashes()


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


async def _route(tools: Tools, flow: Flow, place: _Place) -> _Result:
    """Read a version of a generation and give each point to its target by a payload field."""
    limit = flow.batch * CHANGE_SETS_A_RANGE
    heads = await tools.ledger.heads(flow.source, after=place.after, limit=limit, at=flow.through)
    result = _Result(read=len(heads), last=heads.keys[-1] if len(heads) == limit else None)
    values = await _field_values(tools, flow, heads)
    filling: dict[str, _Rows] = defaultdict(_Rows)
    for row, value in enumerate(values):
        if value not in flow.routes:
            reason = f"no {flow.field}" if value is None else f"unknown {flow.field}"
            result.unplaced[reason] += 1
            if len(result.examples[reason]) < EXAMPLES:
                result.examples[reason].append(id_of(heads.keys[row]))
            continue
        rows = filling[value]
        rows.add(heads, row)
        if len(rows.keys) == flow.batch:
            _flush(result, flow, place, value, filling.pop(value))
    for value, rows in filling.items():
        _flush(result, flow, place, value, rows)
    return result


def _flush(result: _Result, flow: Flow, place: _Place, value: str, rows: _Rows) -> None:
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


async def _field_values(tools: Tools, flow: Flow, heads: Heads) -> list[str | None]:
    """The value of the flow's field for each head; ``*`` where everything has one target."""
    if not flow.field:
        return ["*"] * len(heads)

    async def payload_values(address: str, rows: dict[int, int]) -> dict[int, str | None]:
        content = await tools.objects.get(address)
        payloads = await asyncio.to_thread(decode_payloads, content)
        return {
            index: _text(decode_payload(payloads[row]).get(flow.field))
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
