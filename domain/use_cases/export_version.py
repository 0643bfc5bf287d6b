"""Read a version of a collection out of the ledger, and prove that it is the one."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing

from domain.model.errors import Corrupt, Rejected
from domain.model.points import Digest, PointBatch
from domain.ports import Views
from domain.use_cases.read_version import read_version
from domain.use_cases.rebuildable import remains
from domain.use_cases.tools import Tools
from domain.use_cases.versions import Place


async def export_version(
    tools: Tools,
    views: Views,
    place: Place,
    write: Callable[[PointBatch], Awaitable[None]],
    *,
    without_erased: bool = False,
) -> Digest:
    """Give every point of a version to `write`, in the order of ids; returns the digest.

    Args:
        tools: the ports.
        views: of noted versions.
        place: the version.
        write: takes a page.
        without_erased: whether it is enough to have the points that were not erased.

    Raises:
        Rejected: points of the version are erased, and that is not enough.
        Corrupt: a body is missing or altered, or the digest is not the one that was noted.
    """
    left = await remains(tools, place.status.generation, place.through)
    if left is not None and not without_erased:
        raise Rejected(
            f"the version cannot be rebuilt exactly: {left}. Say --without-erased to have these"
        )
    digest = Digest()
    async with aclosing(read_version(tools, place)) as pages:
        async for points in pages:
            digest.extend(points.keys, points.hashes())
            await write(points)
    if left is None:
        await _refuse_another(views, place, digest)
    return digest


async def _refuse_another(views: Views, place: Place, digest: Digest) -> None:
    match = {"generation": str(place.status.generation), "through": place.through}
    for _, version in await views.find("versions", match=match):
        if version["digest"] != digest.hexdigest():
            raise Corrupt(
                f"the digest is {digest.hexdigest()}, and {version['digest']} was noted of this "
                f"version at {version['noted_at']}"
            )
