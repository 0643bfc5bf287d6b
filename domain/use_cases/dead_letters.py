"""Hear what somebody decides on dead letters: to retry one, or to skip it."""

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from domain.model.errors import LedgerError
from domain.ports import Ledger

logger = logging.getLogger("migration_ledger.applier")

WAIT_SECONDS = 2.0
SHORTEST_SECONDS = 0.1
"""Between two looks, however fast the ledger grows."""


async def follow_decisions(ledger: Ledger, decided: Callable[[set[UUID]], None]) -> None:
    """Tell which applications have new decisions, until cancelled.

    What is missed while a server is away is found by whoever looks at the ledger anyway.

    Args:
        ledger: where decisions are recorded.
        decided: is told the streams.
    """
    position: int | None = None
    while True:
        try:
            head = (await ledger.head()).position
            if position is not None and head > position:
                found = await ledger.read(position, 1000, topics="application.change-")
                decided({recorded.stream for recorded in found})
            position = head
            await ledger.wait(position, WAIT_SECONDS)
        except LedgerError as error:
            logger.debug("decisions_not_read", extra={"error": str(error)})
        await asyncio.sleep(SHORTEST_SECONDS)
