"""Tell collections, from time to time, how far the ledger had come when they were written to.

A store that is newer than a ledger that was restored is noticed by this. A change is in the ledger
before it is in a store, so what a collection says is true whoever says it, and however late. One
that says less than was applied to it is an older copy: that stays, for a recovery to find.
"""

import asyncio
import logging
from contextlib import suppress
from typing import TypeGuard
from uuid import UUID

from domain.model.errors import LedgerError, NotFound
from domain.model.recorded import Recorded
from domain.model.timeline import Standing, Witness
from domain.ports import GenerationStatus, Ledger, Stores
from domain.use_cases.concurrently import concurrently
from domain.use_cases.histories import knows, where

logger = logging.getLogger("migration_ledger.applier")

WITNESS_SECONDS = 5.0
LAST_SECONDS = 2.0

Change = tuple[str, str, Recorded, int]
"""A store, a collection, the last change that was let into it, and the timeline at that time."""

_Progress = tuple[int, int]
"""A timeline, and the last change of a generation on it."""


class Witnesses:
    """The collections that have changed and do not say so yet. Nobody waits for them to."""

    def __init__(self, ledger: Ledger, stores: Stores) -> None:
        self._ledger = ledger
        self._stores = stores
        self._due: dict[UUID, Change] = {}
        self._said: dict[UUID, _Progress] = {}
        self._timeline = 0

    def begin(self, status: GenerationStatus, witness: Witness | None) -> None:
        """Note what a collection must say at least, unless that is known.

        Args:
            status: of its generation, whose former applier has told it everything.
            witness: what it says.
        """
        if _is_of(witness, status.generation):
            self._said.setdefault(status.generation, (witness.timeline or 0, status.applied))

    def changed(self, store: str, physical: str, recorded: Recorded) -> None:
        """Note that a collection has a change."""
        self._due[recorded.stream] = store, physical, recorded, self._timeline

    def gone(self, generation: UUID) -> None:
        """Note that a collection is no longer looked after."""
        self._due.pop(generation, None)
        self._said.pop(generation, None)

    async def run(self) -> None:
        """Write what is due, again and again, until cancelled."""
        while True:
            await self._write()
            await asyncio.sleep(WITNESS_SECONDS)

    async def finish(self) -> bool:
        """Write what is due, if that does not take long; whether all collections say it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._write()
                return not self._due
        return False

    async def _write(self) -> None:
        """What fails is tried again the next time, unless it is gone by then.

        Its name may be an alias, and another collection would say what it was.
        """
        due = self._due.copy()
        try:
            standing = await self._ledger.standing()
            self._timeline = standing.timeline
            await concurrently(self._tell(change, standing) for change in due.values())
        except LedgerError as error:
            logger.info("witnesses_not_written", extra={"error": str(error)})
            return
        for generation, change in due.items():
            if self._due.get(generation) is change:
                del self._due[generation]

    async def _tell(self, change: Change, standing: Standing) -> None:
        store, physical, recorded, timeline = change
        witness = Witness(
            where=where(store, physical),
            position=recorded.position,
            hash=recorded.hash.hex(),
            timeline=standing.timeline,
            ledger=standing.ledger,
            generation=str(recorded.stream),
            version=recorded.version,
        )
        if timeline < standing.timeline and not await knows(self._ledger, witness):
            return  # of a history that a recovery has ended
        with suppress(NotFound):  # somebody has dropped it
            before = await self._stores.store(store).read_witness(physical)
            said = self._said.get(recorded.stream, (0, 0))
            if _is_of(before, recorded.stream) and _progress(before) < said:
                logger.warning(
                    "collection_is_older", extra={"store": store, "collection": physical}
                )
                return
            await self._stores.store(store).write_witness(physical, witness)
            self._said[recorded.stream] = _progress(witness)


def _is_of(witness: Witness | None, generation: UUID) -> TypeGuard[Witness]:
    return witness is not None and witness.generation == str(generation)


def _progress(witness: Witness) -> _Progress:
    return witness.timeline or 0, witness.version
