"""Erase points for good: from collections, from every version, and from the objects.

It begins in one transaction, from which on no version has the points and nothing new can refer to
them. Everything after that can be done again, so whoever comes next finishes what was begun.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from domain.model.aggregate import Context, pending_events
from domain.model.bodies import address_of, without_rows
from domain.model.erasure import Erasure, Subject, together
from domain.model.errors import Corrupt, NotFound, Rejected
from domain.model.recorded import ChangeSetDraft
from domain.model.retention import Retention
from domain.ports import SMALL_OBJECT, Garbage, Leaders, Traces
from domain.use_cases.concurrently import concurrently
from domain.use_cases.find_subjects import ids_of
from domain.use_cases.retention import HOLDING
from domain.use_cases.tools import Tools, topic_events, unless_changed
from domain.use_cases.wait_applied import wait_applied

ROLE = "erase"
BODIES_AT_ONCE = 16
"""Bodies that are rewritten at a time."""

WAITS_AT_ONCE = 16

Silence = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Finished:
    """An erasure at its end.

    Attributes:
        erasure: as it is then.
        by_hand: what somebody has still to do, in a sentence each.
    """

    erasure: Erasure
    by_hand: tuple[str, ...] = ()


@dataclass(frozen=True)
class Erasing:
    """What an erasure works with.

    Attributes:
        tools: the ports.
        leaders: so that one process erases at a time.
        garbage: bodies that were given up, and may have the points.
        traces: what servers keep of deleted points.
        context: who asks for it, and why.
        silence: is called when appliers do nothing for a while, see `wait_applied`.
    """

    tools: Tools
    leaders: Leaders
    garbage: Garbage
    traces: Traces
    context: Context
    silence: Silence | None = None

    @asynccontextmanager
    async def alone(self, holder: str) -> AsyncIterator[None]:
        """Wait until nobody else erases.

        Args:
            holder: name of this process.
        """
        async with self.leaders.lead(ROLE, holder):
            yield

    async def erase(self, parts: Iterable[Collection[Subject]], basis: str) -> list[Finished]:
        """Erase points part by part, each to its end.

        Those that somebody else has erased meanwhile are left out, and so are parts of which
        nothing else is left.

        Raises:
            Rejected: a collection is held; parts before are erased then, and those after are not.
            Conflict: as in `finish`.
            Corrupt: as in `finish`.
        """
        finished = []
        for part in parts:
            try:
                begun = await self.begin(part, basis)
            except NotFound:
                continue
            finished.append(await self.finish(begun.number))
        return finished

    async def begin(self, subjects: Collection[Subject], basis: str) -> Erasure:
        """Record that points are erased, and delete them from collections that are looked after.

        Everything that was begun before has to be finished.

        Raises:
            NotFound: somebody else has erased all of them.
            Rejected: a collection is held.
        """
        async with self.leaders.lead(HOLDING, f"erase-{uuid4()}"):
            return await unless_changed(lambda: self._begin(subjects, basis))

    async def _begin(self, subjects: Collection[Subject], basis: str) -> Erasure:
        tools = self.tools
        known = await all_erasures(tools)  # before the points: who is faster has taken the number
        holdings = await tools.ledger.holdings({key for _, key in subjects})
        of: dict[UUID, list[bytes]] = defaultdict(list)
        for holding in together(holdings, subjects):  # there may be more copies by now
            of[holding.generation].append(holding.key)
        if not of:
            raise NotFound("these points are not there any more; somebody else has erased them")
        await _refuse_held(tools, of.keys())
        erasure = Erasure(
            number=len(known) + 1,
            basis=basis,
            subjects={str(generation): ids_of(keys) for generation, keys in sorted(of.items())},
        )
        drafts = [
            ChangeSetDraft.tombstones(
                status.generation,
                sorted(of[status.generation]),
                source={"erasure": str(erasure.id)},
            )
            for status in await tools.applications.generations()
            if status.generation in of and not status.gone
        ]
        await tools.ledger.record(
            f"erasure/{erasure.id}", self.context, drafts, pending_events(erasure)
        )
        return erasure

    async def finish(self, number: int) -> Finished:
        """Do what is left of an erasure; again changes nothing.

        Raises:
            Corrupt: an object that has the points cannot be read. Everything else is done.
            Conflict: a collection halts at a dead letter before the points are deleted there.
        """
        tools = self.tools
        stream = Erasure.create_id(number)
        erasure = await tools.ledger.load(Erasure, stream)
        if erasure is None:
            raise NotFound(f"there is no erasure {number}")
        if erasure.done:
            return Finished(erasure)
        (begun,) = await tools.ledger.events(stream, through=1)
        applied = (self._applied(one, begun.position) for one in erasure.subjects)
        await concurrently(applied, WAITS_AT_ONCE)
        # Objects that no change refers to, of writers that died, may have the points.
        await self.garbage.give_up(timedelta(0), self.context)
        await self.garbage.dispose(tools.objects.delete)
        await self._rewrite(erasure)
        by_hand = await self.traces.remove(await self._places(erasure))
        erasure.finish()
        await tools.ledger.record(
            f"erasure/{stream}/finished", self.context, [], pending_events(erasure)
        )
        return Finished(erasure, tuple(by_hand))

    async def _applied(self, generation: UUID, position: int) -> None:
        """Wait until a store has what was recorded before the erasure."""
        last = await self.tools.ledger.event_at(generation, position)
        if last is not None:
            await wait_applied(self.tools, generation, last.version, self.silence, gone_too=True)

    async def _places(self, erasure: Erasure) -> list[tuple[str, str]]:
        """Stores and collections that had the points and are still there."""
        known = await self.tools.applications.generations()
        return [
            (status.store, status.physical)
            for status in known
            if status.generation in erasure.subjects and not status.gone
        ]

    async def _rewrite(self, erasure: Erasure) -> None:
        """Put bodies without the points in place of those that have them."""
        tools, unreadable = self.tools, dict[str, str]()
        # What was rewritten last may still be there: whoever did it may have died in between.
        await tools.objects.delete([*erasure.objects])
        while bodies := await tools.ledger.erasing(BODIES_AT_ONCE, [*unreadable]):
            rewritten, small = dict[str, str](), dict[str, bytes]()
            for address, rows in bodies.items():
                try:
                    content = without_rows(await tools.objects.get(address), rows)
                except Corrupt as error:
                    unreadable[address] = str(error)
                    continue
                rewritten[address] = address_of(content)
                if len(content) <= SMALL_OBJECT:
                    small[address_of(content)] = content
                else:
                    await tools.objects.put(content)
            if rewritten:
                erasure.rewrite(rewritten)
                await tools.ledger.record(
                    f"erasure/{erasure.id}/objects/{uuid4()}",
                    self.context,
                    [],
                    pending_events(erasure),
                    bodies=small,
                )
                await tools.objects.delete([*rewritten])
        if unreadable:
            raise Corrupt(
                f"{len(unreadable)} objects with points that are to be erased cannot be read, and "
                f"so not rewritten ({next(iter(unreadable.values()))}); bring them back, then run "
                "`erase` again"
            )


async def _refuse_held(tools: Tools, generations: Collection[UUID]) -> None:
    """What somebody may need as evidence is not erased.

    Raises:
        Rejected: one of the collections has a hold.
    """
    for status in await tools.applications.generations():
        if status.generation not in generations:
            continue
        stream = Retention.create_id(status.store, status.collection)
        retention = await tools.ledger.load(Retention, stream)
        if retention is not None and retention.holds:
            raise Rejected(
                f"{status.collection!r} is held by {', '.join(sorted(retention.holds))}, so "
                "nothing of it is erased; `retention lift` ends a hold"
            )


async def all_erasures(tools: Tools) -> list[Erasure]:
    """Every erasure that was begun, in order."""
    found: dict[UUID, Erasure] = {}
    async for recorded in topic_events(tools.ledger, "erasure."):
        grown = recorded.event.mutate(found.get(recorded.stream))
        if isinstance(grown, Erasure):
            found[recorded.stream] = grown
    return [*found.values()]


async def unfinished(tools: Tools) -> list[Erasure]:
    """Erasures that were begun and are not at their end."""
    return [erasure for erasure in await all_erasures(tools) if not erasure.done]
