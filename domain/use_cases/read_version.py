"""Read the points of a version out of the ledger and its objects."""

from collections.abc import AsyncGenerator

from domain.model.errors import Corrupt
from domain.model.points import PointBatch, id_of
from domain.model.recorded import Heads
from domain.use_cases.bodies import BodyCache
from domain.use_cases.tools import Tools
from domain.use_cases.versions import Place

PAGE = 5000


async def read_version(tools: Tools, place: Place) -> AsyncGenerator[PointBatch, None]:
    """Every point of a version in the order of ids, a page at a time.

    Neither the store nor the collection has to be there any more. Memory stays at a page of points
    and the bodies at hand.

    Raises:
        Corrupt: a body is missing, altered, or holds something else than is recorded.
    """
    bodies, after = BodyCache(tools.objects), b""
    while True:
        heads, points = await _page(tools, bodies, place, after)
        if len(heads):
            yield points
        if len(heads) < PAGE:
            return
        after = heads.keys[-1]


async def _page(
    tools: Tools, bodies: BodyCache, place: Place, after: bytes
) -> tuple[Heads, PointBatch]:
    """The next heads and their points; read again where points were erased in between.

    Raises:
        Corrupt: a body is missing, altered, or holds something else.
    """
    heads: Heads | None = None
    while True:
        before, heads = (
            heads,
            await tools.ledger.heads(
                place.status.generation, after=after, limit=PAGE, at=place.through
            ),
        )
        try:
            return heads, await _points(bodies, heads)
        except Corrupt:
            if heads == before:
                raise


async def _points(bodies: BodyCache, heads: Heads) -> PointBatch:
    """The points of heads, in their order.

    Raises:
        Corrupt: a body is missing, altered, or holds something else.
    """
    if not len(heads):
        return PointBatch([], [])
    read = await bodies.points(heads.bodies())
    place = {key: row for row, key in enumerate(read.keys)}
    points = read.take([place[key] for key in heads.keys if key in place])
    found = dict(zip(points.keys, points.hashes(), strict=True))
    for key, hash_ in zip(heads.keys, heads.hashes, strict=True):
        if found.get(key) != hash_:
            raise Corrupt(f"the body of point {id_of(key)} does not hold what is recorded of it")
    return points
