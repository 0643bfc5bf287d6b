"""The ledger in PostgreSQL: the only truth."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar
from uuid import UUID

from eventsourcing.domain import AggregateEvent

from adapters.postgres import reading, timelines
from adapters.postgres.appender import Appender
from adapters.postgres.appending import (
    EncodedCommand,
    Outcome,
    earlier_outcome,
    encode_command,
)
from adapters.postgres.connection import ConnectionLost, Database
from adapters.postgres.erasures import (
    count_erased,
    erased_among,
    read_erasing,
    read_holdings,
    refuse_erasures,
    unusable,
)
from adapters.postgres.generations import touches_generations
from adapters.postgres.group_commit import GroupCommit
from adapters.postgres.heads import (
    heads_among,
    read_hashes_between,
    read_heads,
    read_heads_of,
)
from adapters.postgres.objects import get_manifests
from adapters.postgres.packing import record_pack
from adapters.postgres.recording import Request, append_to_generations, record
from adapters.postgres.referred import count_bodies, count_points_in, read_bodies
from adapters.postgres.wakeups import Wakeups
from domain.model.aggregate import Context, LedgerAggregate
from domain.model.bodies import Manifest
from domain.model.erasure import Holding
from domain.model.recorded import Answer, ChangeSetDraft, Command, Cursor, Heads, Recorded
from domain.model.timeline import Finding, Standing

A = TypeVar("A", bound=LedgerAggregate)
T = TypeVar("T")


class PostgresLedger:
    """Implements `domain.ports.Ledger`; its tasks live as long as its `async with` block.

    Args:
        database: that holds it.
        poll: seconds after which a waiting reader looks by itself, whatever it heard.

    Attributes:
        wakeups: tells readers that the ledger has grown; for adapters that append by themselves.
    """

    def __init__(self, database: Database, *, poll: float = 0.5) -> None:
        self._database = database
        self._appender = Appender(database)
        self._commits = GroupCommit(self._append_batch)
        self.wakeups = Wakeups(database, poll)
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._running = [
            self._tasks.create_task(self._commits.run()),
            self._tasks.create_task(self.wakeups.announce()),
            self._tasks.create_task(self.wakeups.listen()),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._running:
            task.cancel()
        if not isinstance(error, asyncio.CancelledError):
            # The group would wrap an error of the body; it is raised as it is.
            kind = error = traceback = None
        try:
            await self._tasks.__aexit__(kind, error, traceback)
        finally:
            self._appender.close()

    async def append(self, command: Command) -> Answer:
        """Record a command's events."""
        refuse_erasures(command.events)
        if touches_generations(command.events):
            return self._answered(
                await self._again(lambda: append_to_generations(self._database, command))
            )
        return (await self._commits.submit(encode_command(command))).answer()

    async def record(
        self,
        key: str,
        context: Context,
        drafts: Sequence[ChangeSetDraft],
        events: Sequence[AggregateEvent] = (),
        *,
        bodies: Mapping[str, bytes] = MappingProxyType({}),
        content: bytes | None = None,
    ) -> Answer:
        """Record change sets, their manifests and heads, and further events."""
        request = Request(key, context, drafts, events, bodies, content)
        return self._answered(await self._again(lambda: record(self._database, request)))

    async def pack(self, context: Context, generation: UUID, heads: Heads) -> int:
        """Record that the bodies of points are elsewhere from now on; how many points moved."""
        outcome, moved = await self._again(
            lambda: record_pack(self._database, context, generation, heads)
        )
        self._announce([outcome])
        return moved

    async def answer(self, key: str) -> Answer | None:
        """The answer that a key got, or None."""
        async with self._database.connection() as connection:
            outcome = await earlier_outcome(connection, key)
        return None if outcome is None else outcome.answer()

    async def load(self, aggregate: type[A], stream: UUID) -> A | None:
        """The aggregate as it is now, or None if it has no events."""
        return await reading.load(self._database, aggregate, stream)

    async def events(
        self, stream: UUID, *, after: int = 0, through: int | None = None
    ) -> list[Recorded]:
        """Events of one stream with versions in (after, through]."""
        return await reading.stream_events(self._database, stream, after, through)

    async def read(self, after: int, limit: int, *, topics: str | None = None) -> list[Recorded]:
        """The next events after a position."""
        return await reading.read(self._database, after, limit, topics)

    async def event_at(self, stream: UUID, position: int) -> Recorded | None:
        """The last event of a stream up to a position of the ledger, or None."""
        return await reading.event_at(self._database, stream, position)

    async def position_at(self, time: datetime) -> int:
        """The position of the last event that was recorded until then; 0 if there is none."""
        return await reading.position_at(self._database, time)

    async def head(self) -> Cursor:
        """Position and hash of the last event."""
        return await reading.head(self._database)

    async def verify_cursor(self, cursor: Cursor) -> None:
        """Check that the ledger has this event with this hash."""
        await reading.verify_cursor(self._database, cursor)

    async def standing(self) -> Standing:
        """Which ledger this is, on which timeline, and whether work is halted."""
        return await timelines.standing(self._database)

    async def halt(self, findings: Sequence[Finding]) -> None:
        """Halt all work until `recover`."""
        await timelines.halt(self._database, findings)

    async def working(self) -> None:
        """Check that work may go on."""
        await timelines.working(self._database)

    async def wait(self, after: int, seconds: float) -> None:
        """Return when there is an event after the position, or after so many seconds."""
        await self.wakeups.wait(after, seconds)

    async def manifests(self, addresses: Sequence[str]) -> dict[str, Manifest]:
        """Manifests by address."""
        return await get_manifests(self._database, addresses)

    async def heads(
        self, generation: UUID, *, after: bytes = b"", limit: int = 5000, at: int | None = None
    ) -> Heads:
        """The next heads of a generation in key order, now or at a version."""
        return await read_heads(self._database, generation, after, limit, at)

    async def heads_of(
        self, generation: UUID, keys: Sequence[bytes], *, at: int | None = None
    ) -> Heads:
        """The heads of these points, in key order, now or at a version."""
        return await read_heads_of(self._database, generation, keys, at)

    async def heads_among(
        self, generations: Sequence[UUID], keys: Sequence[bytes]
    ) -> list[tuple[UUID, bytes, bytes]]:
        """Which of these generations have which of these points now: stream, key and hash."""
        async with self._database.connection() as connection:
            return await heads_among(connection, generations, keys)

    async def hashes_between(
        self, generation: UUID, keys: Sequence[bytes], first: int, last: int
    ) -> dict[bytes, set[bytes | None]]:
        """What each of these points was from one version to another, both included."""
        return await read_hashes_between(self._database, generation, keys, first, last)

    async def holdings(self, keys: Collection[bytes]) -> list[Holding]:
        """Everything that any generation has and had of these points."""
        return await read_holdings(self._database, keys)

    async def erased_among(self, keys: Collection[bytes]) -> set[bytes]:
        """Those of these points that were erased from some generation."""
        return await erased_among(self._database, keys)

    async def erasing(self, limit: int, but: Collection[str] = ()) -> dict[str, set[int]]:
        """Some of the bodies that have erased rows and are not rewritten yet: address to rows."""
        return await read_erasing(self._database, limit, but)

    async def unusable(self, addresses: Collection[str]) -> set[str]:
        """Those of these addresses under which nothing new may be kept."""
        return await unusable(self._database, addresses)

    async def count_erased(self, generation: UUID, at: int) -> int:
        """How many points of a version of a generation are erased."""
        return await count_erased(self._database, generation, at)

    def bodies(self, generation: UUID) -> AsyncIterator[list[str]]:
        """Addresses of all bodies that any version of a generation refers to, in pages."""
        return read_bodies(self._database, generation)

    async def count_bodies(self, generation: UUID) -> int:
        """How many bodies the points of a generation lie in now."""
        return await count_bodies(self._database, generation)

    async def count_points_in(self, generation: UUID, addresses: Sequence[str], at: int) -> int:
        """How many points of a version of a generation have one of these bodies."""
        return await count_points_in(self._database, generation, addresses, at)

    async def _append_batch(self, commands: Sequence[EncodedCommand]) -> list[Outcome]:
        outcomes = await self._again(lambda: self._appender.append(commands))
        self._announce(outcomes)
        return outcomes

    async def _again(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try once more when the connection is lost: the keys tell what was committed."""
        try:
            return await attempt()
        except ConnectionLost:
            return await attempt()

    def _answered(self, outcome: Outcome) -> Answer:
        self._announce([outcome])
        return outcome.answer()

    def _announce(self, outcomes: Sequence[Outcome]) -> None:
        """Tell readers of the last event that was appended."""
        last = max(outcome.last for outcome in outcomes)
        if last:
            self.wakeups.grown(last)
