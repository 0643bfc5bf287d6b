"""Read the points of a version out of the ledger and its objects."""

from collections.abc import AsyncGenerator

from domain.model.points import PointBatch
from domain.use_cases.archived import refuse_archived
from domain.use_cases.gather import Gathering
from domain.use_cases.tools import Tools
from domain.use_cases.versions import Place


async def read_version(tools: Tools, place: Place) -> AsyncGenerator[PointBatch, None]:
    """Every point of a version in the order of ids, a partition at a time.

    Neither the store nor the collection has to be there any more.

    Raises:
        Corrupt: a body is missing, altered, or holds something else than is recorded.
        Rejected: the version was archived.
    """
    refuse_archived(place.status, place.through)
    gathering = Gathering(tools, place.status.generation, place.through)
    async for partition in gathering.partitions():
        heads, points = await gathering.points(partition)
        if len(heads):
            yield points
