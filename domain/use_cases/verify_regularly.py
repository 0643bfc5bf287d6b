"""Verify every collection that the ledger looks after again and again."""

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from domain.model.aggregate import Actor, Context
from domain.model.errors import LedgerError
from domain.model.verification import VerificationLog
from domain.ports import GenerationStatus, Leaders
from domain.use_cases.tools import Tools, given_up
from domain.use_cases.verify import verify_and_record

logger = logging.getLogger("migration_ledger.verifier")

VERIFIER = Actor("verifier", "service")
LONGEST_WAIT = 60.0
RETRY_SECONDS = 5.0


async def verify_regularly(
    tools: Tools, leaders: Leaders, holder: str, every: timedelta, stop: asyncio.Event
) -> None:
    """Verify what was not verified for so long, one collection after the other, until told to stop.

    One process does it at a time. What cannot be verified now (a store is away) is tried again.
    """
    while not stop.is_set():
        try:
            async with leaders.lead("verifier", holder):
                while not stop.is_set():
                    await _until(stop, await _round(tools, every))
        except LedgerError as error:
            logger.warning("verifier_waits", extra={"error": str(error)})
            await _until(stop, RETRY_SECONDS)


async def _round(tools: Tools, every: timedelta) -> float:
    """Verify what is due; returns in how many seconds the next one may be."""
    wait = LONGEST_WAIT
    for status in await tools.applications.generations():
        if status.gone or not status.applied or await given_up(tools.ledger, status.generation):
            continue
        due = await _due(tools, status, every)
        if due > 0:
            wait = min(wait, due)
            continue
        found = await verify_and_record(tools, status, Context(VERIFIER))
        if not found.equal:
            logger.warning("drift_found", extra={"collection": status.physical, "what": str(found)})
        wait = min(wait, every.total_seconds())
    return wait


async def _due(tools: Tools, status: GenerationStatus, every: timedelta) -> float:
    """In how many seconds a generation is due; it is if this is not positive."""
    stream = VerificationLog.create_id(str(status.generation))
    log = await tools.ledger.load(VerificationLog, stream)
    if log is None:
        return 0.0
    return (log.modified_on + every - datetime.now(UTC)).total_seconds()


async def _until(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
