"""Apply recorded changes to stores: one lane for each generation, side by side."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Generic, Protocol
from uuid import UUID

from domain.model.application import Application
from domain.model.errors import Halted, LedgerError
from domain.use_cases import lanes
from domain.use_cases.bodies import BodyCache
from domain.use_cases.change_effects import Effects
from domain.use_cases.dead_letters import follow_decisions
from domain.use_cases.lanes import D, Lane
from domain.use_cases.tools import Tools

logger = logging.getLogger("migration_ledger.applier")

POLL_SECONDS = 2.0


class Deliveries(Protocol[D]):
    """The consumer of changes that an applier reads."""

    async def fetch(self) -> Sequence[D]:
        """The next changes, maybe none."""

    def complete(self, change: D) -> None:
        """Say that a change needs no redelivery."""

    def owns(self, generation: UUID) -> bool:
        """Whether this consumer's partitions have the generation."""


class Applier(Generic[D]):
    """Applies changes until told to stop."""

    def __init__(self, tools: Tools, deliveries: Deliveries[D], holder: str) -> None:
        self._tools = tools
        self._deliveries = deliveries
        self._holder = holder
        self._effects = Effects(tools, BodyCache(tools.objects))
        self._lanes: dict[UUID, Lane[D]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Fetch, apply and acknowledge; a clean stop gives all leases back."""
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(self._renew())
            polling = group.create_task(self._poll(group))
            deciding = group.create_task(follow_decisions(self._tools.ledger, self._decided))
            witnessing = group.create_task(self._effects.witnesses.run())
            while not stop.is_set():
                for change in await self._deliveries.fetch():
                    self._lane(change.stream, group).deliver(change)
            polling.cancel()
            deciding.cancel()
            witnessing.cancel()
            # A call that is cancelled may reach the store late, and a lease that is given back has
            # no grace: so what is under way is finished.
            for lane in self._lanes.values():
                lane.close()
            for lane in self._lanes.values():
                await lane.task
            told = await self._effects.witnesses.finish()
            renewing.cancel()
        if told and not any(lane.suspect for lane in self._lanes.values()):
            await self._tools.applications.release(self._holder)

    def _lane(self, generation: UUID, group: asyncio.TaskGroup) -> Lane[D]:
        lane = self._lanes.get(generation)
        if lane is None or lane.task.done():
            lane = Lane(
                self._tools, self._effects, self._deliveries.complete, self._holder, generation
            )
            lane.task = group.create_task(lane.run())
            self._lanes[generation] = lane
        return lane

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(lanes.LEASE_SECONDS / 4)
            self._let_go()
            kept = [g for g, lane in self._lanes.items() if not lane.task.done()]
            until = lanes.lease_end()
            try:
                held = await self._tools.applications.renew(self._holder, lanes.LEASE_SECONDS, kept)
            except Halted:
                held = set()
            except LedgerError as error:
                logger.warning("lease_renewal_failed", extra={"error": str(error)})
                held = set()
            for lane in self._lanes.values():
                lane.confirm(held, until)

    def _let_go(self) -> None:
        """End lanes whose partitions went to another applier; their leases then run out."""
        for generation, lane in self._lanes.items():
            if not self._deliveries.owns(generation):
                lane.close()

    async def _poll(self, group: asyncio.TaskGroup) -> None:
        """The ledger, not the broker, decides what there is to apply."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                lagging = await self._tools.applications.lagging()
            except LedgerError as error:
                logger.warning("poll_failed", extra={"error": str(error)})
                continue
            for status in lagging:
                if self._deliveries.owns(status.generation):
                    self._lane(status.generation, group).wake()

    def _decided(self, streams: set[UUID]) -> None:
        """A lane goes on as soon as somebody has decided on its dead letter."""
        for generation, lane in self._lanes.items():
            if Application.create_id(str(generation)) in streams:
                lane.wake()
