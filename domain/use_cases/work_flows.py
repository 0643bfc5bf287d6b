"""Work on flows: claim a range, read it, record what it says."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from domain.model.aggregate import Actor, Context, pending_events
from domain.model.errors import (
    BodyErased,
    ChangedMeanwhile,
    Conflict,
    KeyReused,
    LedgerError,
    NotFound,
    Unavailable,
)
from domain.model.flow import Flow, FlowRange
from domain.ports import RangeClaim
from domain.use_cases.flows import read
from domain.use_cases.flows.reading import Place, RangeResult
from domain.use_cases.tools import Tools, unless_changed

logger = logging.getLogger("migration_ledger.flow")

FLOW_WORKER = Actor("flow worker", "service")
LEASE_SECONDS = 10.0
IDLE_SECONDS = 0.2


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
    return await unless_changed(lambda: _record_range(tools, flow, claim, reader))


async def _record_range(
    tools: Tools, flow: Flow, claim: RangeClaim, reader: "_Reader | None"
) -> dict[str, Any] | None:
    place = Place(claim.flow, claim.number, claim.request)
    if reader is None:
        result = await read(tools, flow, place)
    else:
        result = await reader.read(flow, place)
    recorded = FlowRange(
        flow=str(claim.flow),
        kind=result.kind,
        number=claim.number,
        read=result.read,
        placed=result.placed,
        unplaced=dict(result.unplaced),
        examples=dict(result.examples),
        following=result.following,
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
    except ChangedMeanwhile as error:
        if isinstance(error, BodyErased) and error.gone:
            # A capture may have put it again, and nobody else would look for it.
            await tools.objects.delete([error.address])
        raise
    except (Conflict, KeyReused):
        first = await tools.ledger.load(FlowRange, recorded.id)
        if first is None:
            raise
        return first.following
    return recorded.following


class _Reader:
    """Reads ranges, and the one that follows while the caller records what it got.

    What was read ahead is used if this worker gets the next range too. Otherwise, and when reading
    ahead failed, the range is read when it is claimed.
    """

    def __init__(self, tools: Tools, group: asyncio.TaskGroup) -> None:
        self._tools = tools
        self._group = group
        self._ahead: dict[UUID, tuple[Place, asyncio.Task[RangeResult | None]]] = {}

    async def read(self, flow: Flow, place: Place) -> RangeResult:
        """What a range holds."""
        expected, task = self._ahead.pop(place.flow, (None, None))
        result = None
        if task is not None:
            if expected == place:
                result = await task
            else:
                task.cancel()
        if result is None:
            result = await read(self._tools, flow, place)
        if result.following is not None and "after" in result.following:
            following = Place(place.flow, place.number + 1, result.following)
            reading = self._group.create_task(self._read_ahead(flow, following))
            self._ahead[place.flow] = following, reading
        return result

    async def _read_ahead(self, flow: Flow, place: Place) -> RangeResult | None:
        try:
            return await read(self._tools, flow, place)
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
