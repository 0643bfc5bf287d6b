"""Which versions can be rebuilt: those of whose points every body is there."""

from dataclasses import dataclass, field
from uuid import UUID

from domain.model.errors import NotFound
from domain.ports import GenerationStatus
from domain.use_cases.retention import ARCHIVED
from domain.use_cases.tools import Tools


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
        """Why a version cannot be rebuilt exactly, in a sentence; None if it can.

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
