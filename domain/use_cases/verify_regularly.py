"""Verify every collection that the ledger looks after again and again."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from domain.model.aggregate import Actor, Context
from domain.model.errors import Halted, LedgerError
from domain.model.verification import VerificationLog
from domain.ports import GenerationStatus, Leaders
from domain.use_cases.regularly import regularly
from domain.use_cases.tools import Tools
from domain.use_cases.verify import refuse_unready, verify_and_record

logger = logging.getLogger("migration_ledger.verifier")

VERIFIER = Actor("verifier", "service")
LONGEST_WAIT = 60.0


async def verify_regularly(
    tools: Tools, leaders: Leaders, holder: str, every: timedelta, stop: asyncio.Event
) -> None:
    """Verify what was not verified for so long, one collection after the other, until told to stop.

    One process does it at a time. What cannot be verified now (a store is away) is tried again.
    Only the end of a verification is recorded.
    """
    await regularly(leaders, "verifier", holder, stop, lambda: _round(tools, every))


async def _round(tools: Tools, every: timedelta) -> float:
    """Verify what is due; returns in how many seconds the next one may be."""
    wait = min(LONGEST_WAIT, every.total_seconds())
    for status in await tools.applications.generations():
        if status.gone or not status.applied:
            continue
        due = await _due(tools, status, every)
        if due > 0:
            wait = min(wait, due)
            continue
        try:
            await refuse_unready(tools, status)
            found = await verify_and_record(tools, status, Context(VERIFIER))
        except Halted:
            raise
        except LedgerError as error:  # the others can be verified nevertheless
            place = {"collection": status.physical, "store": status.store}
            logger.info("not_verified", extra={**place, "error": str(error)})
            continue
        if not found.equal:
            logger.warning("drift_found", extra={"collection": status.physical, "what": str(found)})
    return wait


async def _due(tools: Tools, status: GenerationStatus, every: timedelta) -> float:
    """In how many seconds a generation is due; it is if this is not positive."""
    stream = VerificationLog.create_id(str(status.generation))
    head = await tools.ledger.head()
    last = await tools.ledger.event_at(stream, head.position)
    if last is None:
        return 0.0
    return (last.recorded_at + every - datetime.now(UTC)).total_seconds()
