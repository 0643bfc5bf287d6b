"""Tell collections, from time to time, how far the ledger had come when they were written to.

A store that is newer than a ledger that was restored is noticed by this. A change is in the ledger
before it is in a store, so what a collection says is true whoever says it, and however late.
"""

import asyncio
import logging
from contextlib import suppress
from uuid import UUID

from domain.model.errors import LedgerError, NotFound
from domain.model.recorded import Recorded
from domain.model.timeline import Standing, Witness
from domain.ports import Ledger, Stores
from domain.use_cases.concurrently import concurrently
from domain.use_cases.histories import where

logger = logging.getLogger("migration_ledger.applier")

WITNESS_SECONDS = 5.0
LAST_SECONDS = 2.0

Change = tuple[str, str, Recorded]
"""A store, a collection, and the last change that was let into it."""


class Witnesses:
    """The collections that have changed and do not say so yet. Nobody waits for them to."""

    def __init__(self, ledger: Ledger, stores: Stores) -> None:
        self._ledger = ledger
        self._stores = stores
        self._due: dict[UUID, Change] = {}
        self._gone: set[UUID] = set()

    def changed(self, store: str, physical: str, recorded: Recorded) -> None:
        """Note that a collection has a change."""
        self._due[recorded.stream] = store, physical, recorded

    def gone(self, generation: UUID) -> None:
        """Note that a collection is no longer looked after."""
        self._due.pop(generation, None)
        self._gone.add(generation)

    async def run(self) -> None:
        """Write what is due, again and again, until cancelled."""
        while True:
            await asyncio.sleep(WITNESS_SECONDS)
            await self._write()

    async def finish(self) -> None:
        """Write what is due, if that does not take long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._write()

    async def _write(self) -> None:
        """What fails is tried again the next time."""
        due, self._due, self._gone = self._due, {}, set()
        try:
            standing = await self._ledger.standing()
            await concurrently(self._tell(change, standing) for change in due.values())
        except LedgerError as error:
            logger.info("witnesses_not_written", extra={"error": str(error)})
            # Its name may be an alias by now, and another collection would say what it was.
            due = {stream: one for stream, one in due.items() if stream not in self._gone}
            self._due = due | self._due

    async def _tell(self, change: Change, standing: Standing) -> None:
        store, physical, recorded = change
        witness = Witness(
            where=where(store, physical),
            position=recorded.position,
            hash=recorded.hash.hex(),
            timeline=standing.timeline,
            ledger=standing.ledger,
            generation=str(recorded.stream),
            version=recorded.version,
        )
        with suppress(NotFound):  # somebody has dropped it
            await self._stores.store(store).write_witness(physical, witness)
