"""Which versions can be rebuilt: those of whose points every body is there."""

from dataclasses import dataclass, field
from uuid import UUID

from domain.use_cases.tools import Tools


@dataclass(frozen=True)
class Rebuildable:
    """Whether the versions of a generation can be rebuilt.

    Attributes:
        tools: the ports.
        generation: its stream.
        missing: addresses of bodies that some version refers to and that are not there.
    """

    tools: Tools
    generation: UUID
    missing: list[str] = field(default_factory=list)

    async def why_not(self, through: int) -> str | None:
        """Why a version cannot be rebuilt exactly, in a sentence; None if it can.

        Bodies are looked for, not read: one that is there and was altered is found by the rebuild.
        """
        if not self.missing:
            return None
        lacking = await self.tools.ledger.count_points_in(self.generation, self.missing, through)
        if not lacking:
            return None
        return f"the bodies of {lacking:,} points are missing from the objects"


async def rebuildable(tools: Tools, generation: UUID) -> Rebuildable:
    """Look for every body that a version of a generation refers to; memory stays at a page."""
    missing: list[str] = []
    async for addresses in tools.ledger.bodies(generation):
        missing += sorted(await tools.objects.missing(addresses))
    return Rebuildable(tools, generation, missing)
