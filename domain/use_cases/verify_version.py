"""Compare what serves a name with a version of it."""

from dataclasses import replace

from domain.use_cases.tools import Tools
from domain.use_cases.verify import Verification, compare
from domain.use_cases.versions import find_version


async def verify_version(tools: Tools, store: str, name: str, at: str) -> Verification:
    """Compare every point of a collection with a version; nothing is recorded.

    The version may be of an earlier generation. It is compared with the collection that serves the
    name now; if none does, with the one that it was of.

    Raises:
        NotFound: there is no such collection, or it has no such version.
    """
    version = await find_version(tools, store, name, at)
    now = (await find_version(tools, store, name, None)).status
    served = version.status if now.gone else replace(version.status, physical=now.physical)
    return await compare(tools, served, version.through)
