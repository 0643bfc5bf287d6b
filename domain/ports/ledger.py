"""The event store and its histories."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Protocol, TypeVar
from uuid import UUID

from eventsourcing.domain import AggregateEvent

from domain.model.aggregate import Context, LedgerAggregate
from domain.model.bodies import Manifest
from domain.model.erasure import Holding
from domain.model.recorded import Answer, ChangeSetDraft, Command, Cursor, Heads, Recorded
from domain.model.timeline import Finding, Standing, Timeline

A = TypeVar("A", bound=LedgerAggregate)


class Ledger(Protocol):
    """The event store: the only truth. While it is halted it records nothing new."""

    async def append(self, command: Command) -> Answer:
        """Record a command's events.

        Raises:
            VersionConflict: a stream is at another version than the events expect.
            KeyReused: the key was used for other content.
            Halted: work is halted, and the command is new.
        """

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
        """Record change sets, their manifests and heads, and further events, in one transaction.

        Events of erasures have their effect on heads and bodies in it, too.

        Args:
            key: idempotency key.
            context: who, why, in answer to what.
            drafts: change sets, in order.
            events: further events, after those of the change sets.
            bodies: small objects that are kept in the same transaction, by address.
            content: what the key stands for, where drafts depend on what is there; by default it
                is what is recorded.

        Raises:
            VersionConflict: as in `append`, for `events`.
            KeyReused: the key was used for other content.
            Halted: work is halted, and the command is new.
            Conflict: a point is not what a draft is based on, or live writes are held.
            BodyErased: a draft refers to points that were erased, or to where they were.
            ChangedMeanwhile: points that an erasure begins with were copied since it was planned.
            Rejected: a generation does not exist, or was dropped or released.
        """

    async def pack(self, context: Context, generation: UUID, heads: Heads) -> int:
        """Record that the bodies of points are elsewhere from now on; how many points moved.

        Args:
            context: who, why, in answer to what.
            generation: its stream.
            heads: what the points were when they were read, and where their bodies are now.

        Raises:
            ChangedMeanwhile: one of the points is something else by now.
            Halted: work is halted.
            Rejected: the generation does not exist, or was dropped or released.
        """

    async def answer(self, key: str) -> Answer | None:
        """The answer that a key got, or None."""

    async def load(self, aggregate: type[A], stream: UUID) -> A | None:
        """The aggregate as it is now, or None if it has no events."""

    async def events(
        self, stream: UUID, *, after: int = 0, through: int | None = None
    ) -> list[Recorded]:
        """Events of one stream with versions in (after, through]."""

    async def read(self, after: int, limit: int, *, topics: str | None = None) -> list[Recorded]:
        """The next events after a position; `topics` is a prefix such as ``migration.``."""

    async def event_at(self, stream: UUID, position: int) -> Recorded | None:
        """The last event of a stream up to a position of the ledger, or None."""

    async def position_at(self, time: datetime) -> int:
        """The position of the last event that was recorded until then; 0 if there is none."""

    async def head(self) -> Cursor:
        """Position and hash of the last event."""

    async def verify_cursor(self, cursor: Cursor) -> None:
        """Check that the ledger has this event with this hash.

        Raises:
            Corrupt: the cursor is ahead of the ledger, or of another history.
        """

    async def standing(self) -> Standing:
        """Which ledger this is, on which timeline, and whether work is halted."""

    async def halt(self, findings: Sequence[Finding]) -> None:
        """Halt all work until `recover`; findings are added to those that were made before."""

    async def working(self) -> None:
        """Check that work may go on.

        Raises:
            Halted: it may not.
        """

    async def wait(self, after: int, seconds: float) -> None:
        """Return when there is an event after the position, or after so many seconds."""

    async def manifests(self, addresses: Sequence[str]) -> dict[str, Manifest]:
        """Manifests by address.

        Raises:
            Corrupt: one is missing, or its content has another address.
        """

    async def heads(
        self, generation: UUID, *, after: bytes = b"", limit: int = 5000, at: int | None = None
    ) -> Heads:
        """The next heads of a generation in key order; fewer than `limit` at the end.

        Args:
            generation: its stream.
            after: key that they come after.
            limit: at most so many.
            at: version of the generation's stream at which they counted; None for now.
        """

    async def heads_of(
        self, generation: UUID, keys: Sequence[bytes], *, at: int | None = None
    ) -> Heads:
        """The heads of these points, in key order; points without a head are left out.

        Args:
            generation: its stream.
            keys: of the points.
            at: version of the generation's stream at which they counted; None for now.
        """

    async def heads_among(
        self, generations: Sequence[UUID], keys: Sequence[bytes]
    ) -> list[tuple[UUID, bytes, bytes]]:
        """Which of these generations have which of these points now: stream, key and hash.

        One that was dropped or released has none.
        """

    async def hashes_between(
        self, generation: UUID, keys: Sequence[bytes], first: int, last: int
    ) -> dict[bytes, set[bytes | None]]:
        """What each of these points was from one version to another, both included.

        The hashes that it had; None among them if it was not there at one of these versions.
        """

    async def holdings(self, keys: Collection[bytes]) -> list[Holding]:
        """Everything that any generation has and had of these points, unless it is erased."""

    async def erased_among(self, keys: Collection[bytes]) -> set[bytes]:
        """Those of these points that were erased from some generation."""

    async def erasing(self, limit: int, but: Collection[str] = ()) -> dict[str, set[int]]:
        """Some of the bodies that have erased rows and are not rewritten yet: address to rows.

        Args:
            limit: at most so many.
            but: addresses that are left out.
        """

    async def unusable(self, addresses: Collection[str]) -> set[str]:
        """Those of these addresses under which nothing new may be kept.

        Their bodies were rewritten by an erasure, or will be, or had been given up before.
        """

    async def count_erased(self, generation: UUID, at: int) -> int:
        """How many points a version of a generation had that are erased."""

    def bodies(self, generation: UUID) -> AsyncIterator[list[str]]:
        """Addresses of all bodies that any version of a generation refers to, in pages."""

    async def count_bodies(self, generation: UUID) -> int:
        """How many bodies the points of a generation lie in now."""

    async def count_points_in(self, generation: UUID, addresses: Sequence[str], at: int) -> int:
        """How many points of a version of a generation have one of these bodies."""


class Timelines(Protocol):
    """The histories of the ledger: only a recovery changes which one is current."""

    async def start(self, timeline: Timeline, context: Context) -> None:
        """Record the start of a timeline and make it the current one; again changes nothing."""

    async def finish(self, timeline: Timeline | None, context: Context) -> None:
        """Let work go on, and record what the timeline decided if there is one."""
