"""Which versions can be rebuilt: those of whose points every body is there and none is erased."""

from dataclasses import dataclass, field
from uuid import UUID

from domain.model.errors import NotFound
from domain.ports import GenerationStatus
from domain.use_cases.archived import ARCHIVED
from domain.use_cases.tools import Tools
from domain.use_cases.versions import digest_at


@dataclass(frozen=True)
class Remains:
    """What is left of a version from which points were erased.

    Attributes:
        erased: points that it had and that are erased.
        points: that are left.
        digest: hexadecimal SHA-256 over the sorted (id, hash) of these.
    """

    erased: int
    points: int
    digest: str

    def __str__(self) -> str:
        return (
            f"erased: {self.erased:,} points are gone for good; the {self.points:,} that remain "
            f"have the digest {self.digest}"
        )


@dataclass(frozen=True)
class Rebuildable:
    """Whether the versions of a generation can be rebuilt.

    Attributes:
        tools: the ports.
        status: of the generation.
        missing: addresses of bodies that some version refers to and that are not there.
    """

    tools: Tools
    status: GenerationStatus
    missing: list[str] = field(default_factory=list)

    async def why_not(self, through: int) -> str | None:
        """Why not all that should be there of a version can be read, in a sentence, or None.

        Bodies are looked for, not read: one that is there and was altered is found by the rebuild.
        """
        if self.status.archived(through):
            return ARCHIVED
        if not self.missing:
            return None
        lacking = await self.tools.ledger.count_points_in(
            self.status.generation, self.missing, through
        )
        if not lacking:
            return None
        return f"the bodies of {lacking:,} points are missing from the objects"


async def remains(tools: Tools, generation: UUID, through: int) -> Remains | None:
    """What is left of a version from which points were erased; None if none were."""
    erased = await tools.ledger.count_erased(generation, through)
    if not erased:
        return None
    digest = await digest_at(tools.ledger, generation, through)
    return Remains(erased, digest.points, digest.hexdigest())


async def rebuildable(tools: Tools, generation: UUID) -> Rebuildable:
    """Look for every body that a version of a generation refers to; memory stays at a page.

    Raises:
        NotFound: there is no such generation.
    """
    status = await tools.applications.status(generation)
    if status is None:
        raise NotFound(f"there is no generation {generation}")
    missing: list[str] = []
    async for addresses in tools.ledger.bodies(generation):
        missing += sorted(await tools.objects.missing(addresses))
    return Rebuildable(tools, status, missing)
