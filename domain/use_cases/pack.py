"""Pack the bodies of a collection: what its points are now, together and in the order of ids.

A collection that is changed again and again has its points in many bodies, each with few that
still count. To read it, all these bodies are read. A pack copies what counts into new bodies and
records where it is. It changes no point and makes nothing unreachable: earlier versions are in the
bodies in which they were.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from domain.model.aggregate import Actor, Context
from domain.model.bodies import encode_body
from domain.model.errors import Halted, LedgerError
from domain.ports import GenerationStatus, Leaders
from domain.use_cases.bodies import never_erased
from domain.use_cases.gather import Gathering
from domain.use_cases.regularly import regularly
from domain.use_cases.tools import Tools, unless_changed

logger = logging.getLogger("migration_ledger.packer")

PACKER = Actor("packer", "service")
POINTS_A_BODY = 500
"""Bodies that hold fewer of the points that count, on average, are worth packing."""

ALWAYS = 2
"""Bodies that a few points may always lie in: those at whose ends they are."""


@dataclass
class Packed:
    """What a pack did.

    Attributes:
        points: that it moved.
        together: points that it left, since they lie together.
        bodies: that it wrote.
        size: bytes of these.
    """

    points: int = 0
    together: int = 0
    bodies: int = 0
    size: int = 0


def scattered(points: int, bodies: int) -> bool:
    """Whether points that lie in so many bodies are worth packing."""
    return bodies > ALWAYS + points / POINTS_A_BODY


async def pack(tools: Tools, status: GenerationStatus, context: Context) -> Packed:
    """Pack what a generation is now; where points lie together, they stay.

    It may be stopped anywhere, and again goes on with what is left: each body that was written is
    recorded by itself. Where a point changes meanwhile, its partition is read again.

    Raises:
        ChangedMeanwhile: points of a partition changed many times in a row.
        Corrupt: a body is missing or altered.
        Rejected: the generation was dropped or released.
    """
    done = Packed()
    gathering = Gathering(tools, status.generation)
    await gathering.measure()
    async for heads in gathering.partitions():
        if scattered(len(heads), len(set(heads.objects))):
            attempt = partial(_pack, tools, status, gathering, heads.keys, context)
            points, size = await unless_changed(attempt)
            done.bodies += size > 0
            done.points += points
            done.size += size
        else:
            done.together += len(heads)
    return done


async def _pack(
    tools: Tools,
    status: GenerationStatus,
    gathering: Gathering,
    keys: Sequence[bytes],
    context: Context,
) -> tuple[int, int]:
    """Pack a partition; the number of points that moved, and of bytes that were written."""
    heads = await tools.ledger.heads_of(status.generation, keys)
    heads, points = await gathering.points(heads)
    if not len(heads):
        return 0, 0
    content = await never_erased(tools.ledger, points, await asyncio.to_thread(encode_body, points))
    address = await tools.objects.put(content)
    moved = replace(heads, objects=[address] * len(heads), rows=[*range(len(heads))])
    return await tools.ledger.pack(context, status.generation, moved), len(content)


async def pack_regularly(
    tools: Tools, leaders: Leaders, holder: str, every: timedelta, stop: asyncio.Event
) -> None:
    """Pack every collection that is scattered, one after the other, until told to stop."""

    async def once() -> float:
        for status in await tools.applications.generations():
            if not status.gone:
                await _pack_if_scattered(tools, status)
        return every.total_seconds()

    await regularly(leaders, "packer", holder, stop, once)


async def _pack_if_scattered(tools: Tools, status: GenerationStatus) -> None:
    where = {"collection": status.physical, "store": status.store}
    try:
        bodies = await tools.ledger.count_bodies(status.generation)
        if scattered(status.points, bodies):
            done = await pack(tools, status, Context(PACKER))
            logger.info("packed", extra={**where, "points": done.points, "bodies": done.bodies})
    except Halted:
        raise
    except LedgerError as error:  # the others can be packed nevertheless
        logger.warning("not_packed", extra={**where, "error": str(error)})
