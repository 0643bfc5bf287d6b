"""The changes of one generation, in the order of the ledger.

A lane holds a lease, applies what comes right behind the applied position, drops what lies at or
below it, and fills gaps from the ledger. A receipt is recorded after the effect, and only then is
the broker told.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from domain.model.aggregate import Actor, Context
from domain.model.errors import (
    Conflict,
    Corrupt,
    Halted,
    LedgerError,
    Rejected,
    Throttled,
    Unavailable,
)
from domain.model.recorded import Recorded
from domain.ports import LEASE_ENDS, GenerationStatus, Lease
from domain.use_cases.change_effects import WINDOW, Effects
from domain.use_cases.histories import refuse_newer_collection
from domain.use_cases.resumed_writes import Begun
from domain.use_cases.tools import Tools

logger = logging.getLogger("migration_ledger.applier")

APPLIER = Actor("applier", "service")
LEASE_SECONDS = 6.0
CALL_DEADLINE = 5.0
ACQUIRE_SECONDS = 0.2
LONGEST_PAUSE = 5.0
LONGEST_THROTTLE = 60.0
SETTLE_SECONDS = 20.0
"""After a takeover, until points are looked at again. What the former applier had sent can be held
up: TCP gives up after 10 s (see `adapters.qdrant.endpoint`), and a call lives 5 s after it came."""

POISON = (Rejected, Corrupt)
"""What makes a change a dead letter: the store refuses it, or its body is missing or altered."""


class Delivered(Protocol):
    """A change as the broker delivers it."""

    @property
    def stream(self) -> UUID:
        """The generation."""

    @property
    def version(self) -> int:
        """Its number in the generation's stream."""


D = TypeVar("D", bound=Delivered)


class Lane(Generic[D]):
    """The queue of one generation.

    Attributes:
        task: that runs it.
        unverified: a former holder's lease ran out, and its last writes are still to be verified.
    """

    task: asyncio.Task[None]

    def __init__(
        self,
        tools: Tools,
        effects: Effects,
        complete: Callable[[D], None],
        holder: str,
        generation: UUID,
    ) -> None:
        self._tools = tools
        self._effects = effects
        self._complete = complete
        self._holder = holder
        self._generation = generation
        self._delivered: list[D] = []
        self._something = asyncio.Event()
        self._closed = asyncio.Event()
        self._lease: Lease | None = None
        self._until = 0.0
        self._effect: asyncio.Timeout | None = None
        self._begun: Begun | None = None
        self._doubts: dict[int, float] = {}
        self.unverified = False

    @property
    def suspect(self) -> bool:
        """Whether a former holder's writes, or our own, may still have to be put right."""
        return self.unverified or bool(self._doubts)

    def deliver(self, change: D) -> None:
        """Take a change from the broker."""
        self._delivered.append(change)
        self._something.set()

    def wake(self) -> None:
        """Look into the ledger."""
        self._something.set()

    def close(self) -> None:
        """End after what is under way."""
        self._closed.set()
        self._something.set()

    def confirm(self, held: set[UUID], until: float) -> None:
        """Drop the lease if it was not renewed; else what is under way has until then."""
        if self._generation not in held:
            self._lease = None
            return
        self._until = until
        if self._effect is not None and not self._effect.expired():
            self._effect.reschedule(until)

    async def run(self) -> None:
        """Apply whatever comes, and try again later when a server does not answer."""
        LEASE_ENDS.set(lambda: self._until)
        pause = 0.1
        while not self._closed.is_set():
            await self._something.wait()
            self._something.clear()
            try:
                await self._catch_up()
                pause = 0.1
            except Conflict as error:
                logger.info(
                    "lease_lost", extra={"generation": str(self._generation), "error": str(error)}
                )
                self._lease = None
                self._something.set()
            except Throttled as error:
                logger.warning(
                    "lane_throttled",
                    extra={"generation": str(self._generation), "error": str(error)},
                )
                await self._pause(min(error.wait, LONGEST_THROTTLE))
                self._something.set()
            except LedgerError as error:
                logger.warning(
                    "lane_waits", extra={"generation": str(self._generation), "error": str(error)}
                )
                if isinstance(error, Halted):
                    self._lease = None  # nothing is written before it can be taken again
                await self._pause(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                self._something.set()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def _catch_up(self) -> None:
        while not self._closed.is_set():
            status = await self._tools.applications.status(self._generation)
            if status is None:  # of another ledger, or of a history that is over
                self._acknowledge_all()
                return
            self._acknowledge(status)
            await self._settle(status)
            if status.halted_at is not None or status.applied >= status.recorded:
                return
            lease = self._lease
            if lease is None:
                await self._take_lease(status)
                continue  # the former holder may have applied more meanwhile
            if self.unverified:
                await self._verify_last(lease, status)
            else:
                await self._apply_window(lease, status)

    async def _verify_last(self, lease: Lease, status: GenerationStatus) -> None:
        """Verify what the former holder wrote last; a dead letter if that cannot ever succeed."""
        try:
            async with self._leased():
                await self._effects.verify_last_window(self._generation, status.applied)
        except POISON as error:
            await self._tools.applications.dead_letter(
                lease, status.applied + 1, type(error).__name__, str(error), Context(APPLIER)
            )
            return
        self.unverified = False
        self._doubt(status.applied)

    def _doubt(self, at: int) -> None:
        """Let the changes around an applied position be looked at again later.

        A write whose caller was not answered may be carried out after those that followed it.
        """
        loop = asyncio.get_running_loop()
        self._doubts[at] = loop.time() + SETTLE_SECONDS
        loop.call_later(SETTLE_SECONDS, self.wake)

    async def _settle(self, status: GenerationStatus) -> None:
        """Look at points again when nothing that was written to them can be on its way."""
        now = asyncio.get_running_loop().time()
        for at in [at for at, due in self._doubts.items() if now >= due]:
            if self._lease is None:
                return
            with suppress(*POISON):  # what is wrong with a body was said when it was applied
                async with self._leased():
                    await self._effects.verify_last_window(self._generation, status.applied, at)
            del self._doubts[at]

    @asynccontextmanager
    async def _leased(self) -> AsyncIterator[None]:
        """What is under way inside ends with the lease."""
        try:
            async with asyncio.timeout_at(self._until) as self._effect:
                yield
        except TimeoutError as error:
            # A process that was paused wakes up here, and must not go on writing.
            raise Conflict("the lease ran out during a write") from error
        finally:
            self._effect = None

    def _acknowledge_all(self) -> None:
        for change in self._delivered:
            self._complete(change)
        self._delivered = []

    def _acknowledge(self, status: GenerationStatus) -> None:
        """Tell the broker about changes that the store has, or that halt in the ledger.

        The ledger has every change before the broker: what it lacks is of a history that is over.
        """
        limit = status.recorded if status.halted_at is not None else status.applied
        waiting = []
        for change in self._delivered:
            if change.version <= limit or change.version > status.recorded:
                self._complete(change)
            else:
                waiting.append(change)
        self._delivered = waiting

    async def _take_lease(self, status: GenerationStatus) -> None:
        """Wait for the lease, or until the lane is closed; then see whose history is there."""
        while self._lease is None and not self._closed.is_set():
            self._until = lease_end()
            lease = await self._tools.applications.acquire(
                self._generation, self._holder, LEASE_SECONDS, CALL_DEADLINE
            )
            if lease is None:
                await self._pause(ACQUIRE_SECONDS)
            else:
                self.unverified = self.unverified or lease.taken_over
                witness = await refuse_newer_collection(
                    self._tools.ledger, self._tools.stores, status
                )
                if not lease.taken_over:
                    self._effects.witnesses.begin(status, witness)
                self._lease = lease

    async def _apply_window(self, lease: Lease, status: GenerationStatus) -> None:
        """Apply the next events, until the lease is lost or one became a dead letter."""
        events = await self._tools.ledger.events(
            self._generation, after=status.applied, through=status.applied + WINDOW
        )
        if not events or events[0].version != status.applied + 1:
            raise Corrupt(
                f"the ledger lacks version {status.applied + 1} of generation {self._generation}"
            )
        if self._begun is not None:
            events = self._begun.within(lease, events)
        for batch in self._effects.batches(events):
            if self._closed.is_set() or self._lease is not lease:
                return
            try:
                await self._apply(lease, status, batch)
            except POISON:
                for recorded in batch:
                    if not await self._apply_alone(lease, status, recorded):
                        return

    async def _apply(
        self, lease: Lease, status: GenerationStatus, batch: Sequence[Recorded]
    ) -> None:
        done = self._begun.done_of(lease, batch) if self._begun is not None else 0
        points = 0
        try:
            async with self._leased():
                if not await self._effects.needless(status, batch):
                    points = await self._effects.apply(status.store, status.physical, batch, done)
        except Throttled as error:
            self._begun = Begun(lease, batch[0].version, batch[-1].version, error.done)
            raise
        except (Unavailable, Conflict):
            self._doubt(status.applied)
            raise
        self._begun = None
        await self._tools.applications.receipt(
            lease, batch[-1].version, points, _because(batch[-1])
        )

    async def _apply_alone(
        self, lease: Lease, status: GenerationStatus, recorded: Recorded
    ) -> bool:
        """Apply one change of a batch that was refused; False if it is the poison."""
        try:
            await self._apply(lease, status, [recorded])
        except POISON as error:
            logger.error(  # noqa: TRY400
                "change_refused", extra={"generation": str(self._generation), "error": str(error)}
            )
            await self._tools.applications.dead_letter(
                lease, recorded.version, type(error).__name__, str(error), _because(recorded)
            )
            return False
        return True


def lease_end() -> float:
    """When a lease that is taken or renewed now runs out, by the loop's clock."""
    return asyncio.get_running_loop().time() + LEASE_SECONDS


def _because(recorded: Recorded) -> Context:
    return Context(
        APPLIER,
        correlation_id=recorded.context.correlation_id,
        causation_id=str(recorded.position),
    )
