"""Give up bodies that only archived versions had, and delete their objects."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from domain.model.aggregate import Actor, Context
from domain.ports import Garbage, Leaders
from domain.use_cases.regularly import regularly
from domain.use_cases.retain import archive_versions
from domain.use_cases.tools import Tools

KEEPER = Actor("retention", "service")

GRACE = timedelta(hours=1)
"""From when nothing refers to a body until it is given up: longer than any write takes from the
object to the change that refers to it."""


@dataclass(frozen=True)
class Swept:
    """What became of bodies.

    Attributes:
        condemned: to which nothing refers any more, since now.
        given_up: that were condemned for the grace, and may not be referred to from now on.
        deleted: whose objects were deleted now.
    """

    condemned: int
    given_up: int
    deleted: int


async def sweep(tools: Tools, garbage: Garbage, grace: timedelta, context: Context) -> Swept:
    """Take bodies to which nothing refers the next steps to their end; see `Garbage`.

    It may be stopped anywhere; again goes on with what is left.

    Raises:
        Halted: work is halted.
    """
    await tools.ledger.working()
    return Swept(
        condemned=await garbage.condemn(),
        given_up=await garbage.give_up(grace, context),
        deleted=await garbage.dispose(tools.objects.delete),
    )


async def retain_regularly(
    tools: Tools,
    garbage: Garbage,
    leaders: Leaders,
    holder: str,
    every: timedelta,
    stop: asyncio.Event,
) -> None:
    """Archive what retention does not keep, and sweep, again and again until told to stop."""

    async def once() -> float:
        await archive_versions(tools, Context(KEEPER))
        await sweep(tools, garbage, GRACE, Context(KEEPER))
        return every.total_seconds()

    await regularly(leaders, "retention", holder, stop, once)
