"""Which generation is applied by whom, and how far."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from domain.model.aggregate import Context


@dataclass(frozen=True)
class GenerationStatus:
    """Where a generation stands.

    Attributes:
        generation: its stream.
        collection: logical name.
        store: store connection.
        physical: name in the store.
        recorded: last version of its stream.
        applied: version up to which the store has it.
        points: points that the ledger says it has.
        halted_at: version of the change that the store refuses, or None.
        gone: dropped or released.
        holders: migrations that hold the writes of applications.
        archived_before: nobody goes back to versions before this one.
        kept_versions: but to these.
    """

    generation: UUID
    collection: str
    store: str
    physical: str
    number: int
    recorded: int
    applied: int
    points: int
    halted_at: int | None
    gone: bool
    holders: tuple[str, ...]
    archived_before: int
    kept_versions: tuple[int, ...]

    def archived(self, through: int) -> bool:
        """Whether a version was archived, so that nobody goes back to it."""
        return through < self.archived_before and through not in self.kept_versions


@dataclass(frozen=True)
class Lease:
    """The right to apply to one generation.

    Attributes:
        generation: its stream.
        holder: name of the applier.
        epoch: grows with every new holder.
        applied: version up to which the store had it when the lease was taken.
        taken_over: another holder's lease ran out before; its last window must be verified.
    """

    generation: UUID
    holder: str
    epoch: int
    applied: int
    taken_over: bool


@dataclass(frozen=True)
class Recovered:
    """What a recovery found in the collection of a generation, and did about it.

    Attributes:
        through: version up to which the store has every change now.
        made: whether the collection was gone and was made again.
        missing: points that the store lacked.
        extra: points that the ledger does not have.
        changed: points that had other content.
        left: how many of these were left as they were.
        lacking: how many could not be written, because their bodies are gone.
        cause: which bodies; empty if none.
    """

    through: int
    made: bool = False
    missing: int = 0
    extra: int = 0
    changed: int = 0
    left: int = 0
    lacking: int = 0
    cause: str = ""


class Applications(Protocol):
    """Who applies which generation, and how far it is."""

    async def status(self, generation: UUID) -> GenerationStatus | None:
        """Where a generation stands."""

    async def generations(
        self,
        *,
        store: str | None = None,
        physical: str | None = None,
        collection: str | None = None,
    ) -> list[GenerationStatus]:
        """All generations, oldest first, or those with this store, physical or logical name."""

    async def lagging(self) -> list[GenerationStatus]:
        """Generations that are not halted and have changes to apply."""

    async def acquire(
        self, generation: UUID, holder: str, ttl: float, grace: float
    ) -> Lease | None:
        """Take or keep the lease for `ttl` seconds of the database's clock.

        None while another holder's lease runs, and for `grace` seconds (the deadline of a call to
        the store) after it ran out.

        Raises:
            Halted: work is halted.
        """

    async def renew(self, holder: str, ttl: float, generations: Sequence[UUID]) -> set[UUID]:
        """Extend a holder's leases of these generations; returns those that it still holds.

        Raises:
            Halted: work is halted.
        """

    async def release(self, holder: str) -> None:
        """Give all leases of a holder back, without a grace for the next one."""

    async def receipt(self, lease: Lease, through: int, points: int, context: Context) -> None:
        """Record that the store has everything up to a version.

        Raises:
            Conflict: the lease was lost.
        """

    async def dead_letter(
        self, lease: Lease, change: int, category: str, cause: str, context: Context
    ) -> None:
        """Record a change that the store refuses; halts the generation.

        Raises:
            Conflict: the lease was lost.
        """

    async def recovered(
        self, lease: Lease, timeline: int, recovered: Recovered, context: Context
    ) -> None:
        """Record what a recovery did to a generation; one that lacks points halts.

        Raises:
            Conflict: the lease was lost.
        """

    async def retry(self, generation: UUID, context: Context) -> None:
        """Try the dead letter of a generation again.

        Raises:
            Rejected: it has none.
        """

    async def skip(self, generation: UUID, context: Context) -> None:
        """Give the dead letter of a generation up.

        Raises:
            Rejected: it has none.
        """
