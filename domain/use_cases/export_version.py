"""Read a version of a collection out of the ledger, and prove that it is the one."""

from collections.abc import Awaitable, Callable

from domain.model.errors import Corrupt
from domain.model.points import Digest, PointBatch, id_of
from domain.model.recorded import Heads
from domain.ports import Views
from domain.use_cases.bodies import BodyCache
from domain.use_cases.tools import Tools
from domain.use_cases.versions import Place

PAGE = 5000


async def export_version(
    tools: Tools, views: Views, place: Place, write: Callable[[PointBatch], Awaitable[None]]
) -> Digest:
    """Give every point of a version to `write`, in the order of ids; returns the digest.

    Neither the store nor the collection has to be there any more. Memory stays at a page of points
    and the bodies at hand.

    Raises:
        Corrupt: a body is missing or altered, or the digest is not the one that was noted.
    """
    bodies, digest, after = BodyCache(tools.objects), Digest(), b""
    while True:
        heads = await tools.ledger.heads(
            place.status.generation, after=after, limit=PAGE, at=place.through
        )
        if len(heads):
            points = await _points(bodies, heads)
            digest.extend(points.keys, points.hashes())
            await write(points)
        if len(heads) < PAGE:
            break
        after = heads.keys[-1]
    await _refuse_another(views, place, digest)
    return digest


async def _points(bodies: BodyCache, heads: Heads) -> PointBatch:
    """The points of heads, in their order.

    Raises:
        Corrupt: a body is missing, altered, or holds something else.
    """
    read = await bodies.points(heads.bodies())
    place = {key: row for row, key in enumerate(read.keys)}
    points = read.take([place[key] for key in heads.keys if key in place])
    found = dict(zip(points.keys, points.hashes(), strict=True))
    for key, hash_ in zip(heads.keys, heads.hashes, strict=True):
        if found.get(key) != hash_:
            raise Corrupt(f"the body of point {id_of(key)} does not hold what is recorded of it")
    return points


async def _refuse_another(views: Views, place: Place, digest: Digest) -> None:
    match = {"generation": str(place.status.generation), "through": place.through}
    for _, version in await views.find("versions", match=match):
        if version["digest"] != digest.hexdigest():
            raise Corrupt(
                f"the digest is {digest.hexdigest()}, and {version['digest']} was noted of this "
                f"version at {version['noted_at']}"
            )
