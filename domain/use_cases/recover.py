"""Begin a new timeline after the ledger lost events, and make everything derived equal to it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from domain.model.aggregate import Context
from domain.model.errors import LedgerError, Rejected
from domain.model.recorded import Cursor
from domain.model.timeline import Finding, Timeline, Witness
from domain.ports import (
    Cursors,
    EventPublisher,
    GenerationStatus,
    Leaders,
    Lease,
    Recovered,
    Timelines,
    Views,
)
from domain.use_cases.bodies import BodyCache
from domain.use_cases.histories import contradictions, where
from domain.use_cases.lanes import ACQUIRE_SECONDS, CALL_DEADLINE, LEASE_SECONDS
from domain.use_cases.look_around import Situation, look_around
from domain.use_cases.project import witness_of
from domain.use_cases.put_right import put_right
from domain.use_cases.relay import CURSOR
from domain.use_cases.tools import Tools
from domain.use_cases.verify import Verification, verify

logger = logging.getLogger("migration_ledger.recover")

ROLE = "recover"


@dataclass(frozen=True)
class Outcome:
    """What became of one collection.

    Attributes:
        status: the generation, as it was before.
        recovered: what was done; None if the collection was only compared.
        verification: the comparison after it; None where bodies are gone.
    """

    status: GenerationStatus
    recovered: Recovered | None
    verification: Verification | None

    @property
    def equal(self) -> bool:
        """Whether the collection is what the ledger says."""
        return self.verification is not None and self.verification.equal


@dataclass
class Recovery:
    """How a recovery ended.

    Attributes:
        situation: what was found.
        timeline: the number of the timeline that was begun or finished; None if none had to be.
        outcomes: of the collections that the ledger looks after.
        refused: aliases that a store would not point, in a sentence each.
    """

    situation: Situation
    timeline: int | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every collection and alias that had to be put right is what the ledger says.

        One that nobody else's history has touched may differ: others write to it.
        """
        return not self.refused and all(o.equal or self.may_differ(o) for o in self.outcomes)

    @staticmethod
    def may_differ(outcome: Outcome) -> bool:
        """Whether differences are points that were left because they belong to others."""
        done = outcome.recovered
        return done is None or (not done.lacking and done.left > 0)


@dataclass(frozen=True)
class Ports:
    """What a recovery works with."""

    tools: Tools
    cursors: Cursors
    views: Views
    leaders: Leaders
    timelines: Timelines
    publisher: EventPublisher

    async def look_around(self) -> Situation:
        """See `domain.use_cases.look_around`."""
        return await look_around(self.tools, self.cursors, self.views, self.publisher)


async def recover(
    ports: Ports,
    holder: str,
    context: Context,
    told: Callable[[Outcome], None],
    *,
    keep_extra: bool = False,
) -> Recovery:
    """Put everything right that is derived from the ledger, as the only one who does.

    All work is halted meanwhile. After a crash at any moment it can be run again, goes on, and ends
    the same.

    Args:
        ports: of connections that work goes on with while it is halted.
        holder: name of this process.
        context: who, and why.
        told: is called with every collection that is done.
        keep_extra: leave points in collections that the ledger does not have.

    Raises:
        Unavailable: a server is away; what was done stays done.
    """
    async with ports.leaders.lead(ROLE, holder):
        situation = await ports.look_around()
        recovery = Recovery(situation)
        if situation.nothing_to_do:
            return recovery
        await ports.tools.ledger.halt(_reasons(situation))
        timeline = await _timeline(ports, situation, context)
        if timeline is not None:
            recovery.timeline = timeline.number
            await _begin_readers_anew(ports)
        work = _Work(ports.tools, holder, context, recovery, await _witness(ports, timeline))
        for status in situation.wrong:
            await _free_name(ports.tools, status)
            told(await work.put_right(status, keep_extra=keep_extra))
        recovery.refused += await _point_aliases(ports.tools, situation)
        for status in situation.others:
            if status.applied == status.recorded:
                told(await work.compare(status))
        if timeline is not None:
            timeline.finish(_statistics(recovery))
        await ports.timelines.finish(timeline, context)
        return recovery


def _reasons(situation: Situation) -> list[Finding]:
    """The findings; without any, what is to be put right is the reason."""
    if situation.findings:
        return list(situation.findings)
    timeline = situation.standing.timeline
    aliases = [f"alias {alias} of store {store}" for store, alias in situation.aliases]
    return [
        *(Finding(name, 0, "", timeline, f"{name} is not where it belongs") for name in aliases),
        *(
            Finding(name, 0, "", timeline, f"{name} was not filled to its end", place)
            for status in situation.wrong
            for place in ((status.store, status.physical),)
            for name in (where(*place),)
        ),
    ]


async def _timeline(ports: Ports, situation: Situation, context: Context) -> Timeline | None:
    """The timeline that is begun now, or that a former recovery began; None if none is needed."""
    if not situation.begins_timeline:
        return situation.unfinished
    head = await ports.tools.ledger.head()
    timeline = Timeline(
        number=situation.highest + 1,
        position=head.position,
        hash=head.hash.hex(),
        found=[finding.to_json() for finding in situation.findings],
    )
    await ports.timelines.start(timeline, context)
    logger.info("timeline_started", extra={"timeline": timeline.number, "position": head.position})
    return await ports.tools.ledger.load(Timeline, timeline.id)


async def _begin_readers_anew(ports: Ports) -> None:
    """The relay publishes everything again, and read models of another history are built anew."""
    await ports.cursors.reset(CURSOR)
    standing = await ports.tools.ledger.standing()
    for build in await ports.views.builds():
        if await contradictions(ports.tools.ledger, [witness_of(build)], standing):
            await ports.views.retire(build)


async def _witness(ports: Ports, timeline: Timeline | None) -> Witness:
    """What a collection says that is equal to the ledger as it stands."""
    standing = await ports.tools.ledger.standing()
    head = await ports.tools.ledger.head() if timeline is None else _start(timeline)
    return Witness(
        "", head.position, head.hash.hex(), timeline=standing.timeline, ledger=standing.ledger
    )


def _start(timeline: Timeline) -> Cursor:
    return Cursor(timeline.position, bytes.fromhex(timeline.hash))


class _Work:
    """The collections, one after the other."""

    def __init__(
        self, tools: Tools, holder: str, context: Context, recovery: Recovery, witness: Witness
    ) -> None:
        self._tools = tools
        self._bodies = BodyCache(tools.objects)
        self._holder = holder
        self._context = context
        self._recovery = recovery
        self._witness = witness

    async def put_right(self, status: GenerationStatus, *, keep_extra: bool) -> Outcome:
        """Make a collection equal to its heads, with the applier's lease, and record it."""
        async with self._leased(status) as lease:
            recovered = await put_right(
                self._tools, self._bodies, status, self._witness, keep_extra=keep_extra
            )
            await self._tools.applications.recovered(
                lease, self._witness.timeline or 1, recovered, self._context
            )
            verification = None if recovered.lacking else await self._verify(status)
        return self._done(Outcome(status, recovered, verification))

    async def compare(self, status: GenerationStatus) -> Outcome:
        """Compare a collection that no other history has touched; nothing is written to it."""
        return self._done(Outcome(status, None, await self._verify(status)))

    def _done(self, outcome: Outcome) -> Outcome:
        self._recovery.outcomes.append(outcome)
        return outcome

    async def _verify(self, status: GenerationStatus) -> Verification:
        return await verify(self._tools, status.store, status.physical)

    @asynccontextmanager
    async def _leased(self, status: GenerationStatus) -> AsyncIterator[Lease]:
        """The applier's lease, for which a successor waits as any other does."""
        applications = self._tools.applications
        while True:
            lease = await applications.acquire(
                status.generation, self._holder, LEASE_SECONDS, CALL_DEADLINE
            )
            if lease is not None:
                break
            await asyncio.sleep(ACQUIRE_SECONDS)
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self._keep(status))
            try:
                yield lease
            finally:
                keeping.cancel()
        await applications.release(self._holder)

    async def _keep(self, status: GenerationStatus) -> None:
        """Renew the lease. Should it run out, nobody else takes it while work is halted."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            try:
                await self._tools.applications.renew(
                    self._holder, LEASE_SECONDS, [status.generation]
                )
            except LedgerError as error:
                logger.warning("lease_not_renewed", extra={"error": str(error)})


async def _free_name(tools: Tools, status: GenerationStatus) -> None:
    """Remove an alias of ours where the ledger has a collection of that name.

    So it is where a collection became an alias after the ledger's end.
    """
    store = tools.stores.store(status.store)
    pointed = (await store.aliases()).get(status.physical)
    witness = await store.read_witness(pointed) if pointed is not None else None
    if witness is not None and witness.ledger == (await tools.ledger.standing()).ledger:
        await store.remove_alias(status.physical)


async def _point_aliases(tools: Tools, situation: Situation) -> list[str]:
    """Point aliases where they belong; says where a store refuses that."""
    refused = []
    for (store, alias), physical in situation.aliases.items():
        try:
            await tools.stores.store(store).point_alias(alias, physical)
        except Rejected as error:
            refused.append(
                f"alias {alias} of store {store} cannot be pointed to {physical}: {error}. Drop or "
                "rename what has the name, then run `recover` again"
            )
    return refused


def _statistics(recovery: Recovery) -> dict[str, int]:
    """What became of collections and points."""
    done = [outcome.recovered for outcome in recovery.outcomes if outcome.recovered is not None]
    return {
        "collections": len(recovery.outcomes),
        "put_right": len(done),
        "made": sum(recovered.made for recovered in done),
        **{
            name: sum(getattr(recovered, name) for recovered in done)
            for name in ("missing", "extra", "changed", "left", "lacking")
        },
        "aliases": len(recovery.situation.aliases),
        "different": sum(not outcome.equal for outcome in recovery.outcomes),
    }
