"""Two sides of points in key order, merged a page of each at a time."""

from collections.abc import AsyncGenerator, AsyncIterator
from uuid import UUID

from domain.model.points import Digest
from domain.ports import Ledger, VectorStore
from domain.use_cases.concurrently import side_by_side

PAGE = 2000

Page = tuple[list[bytes], list[bytes]]
"""Keys in ascending order, and the hash of each point."""

Difference = tuple[str, bytes]
"""Missing, extra or changed, and the key of the point."""


async def recorded_points(
    ledger: Ledger, generation: UUID, at: int | None = None
) -> AsyncIterator[Page]:
    """What the ledger says the points of a generation are, now or at a version."""
    after = b""
    while True:
        heads = await ledger.heads(generation, after=after, limit=PAGE, at=at)
        yield heads.keys, heads.hashes
        if len(heads) < PAGE:
            return
        after = heads.keys[-1]


async def stored_points(store: VectorStore, physical: str) -> AsyncIterator[Page]:
    """What a store has in a collection; nothing if it has no such collection."""
    if physical in await store.collections():
        async for page in store.scan(physical, page=PAGE):
            yield page.keys, page.hashes()


class Side:
    """One of the two sides: the page at hand, from the first point that is not compared yet.

    Attributes:
        keys: of the points at hand, none at the end.
        hashes: theirs.
        digest: of all points that were at hand.
    """

    def __init__(self, pages: AsyncIterator[Page]) -> None:
        self._pages = pages
        self._ended = False
        self.keys: list[bytes] = []
        self.hashes: list[bytes] = []
        self.digest = Digest()

    async def refill(self) -> None:
        """Have points at hand, unless this is the end."""
        while not self.keys and not self._ended:
            try:
                self.keys, self.hashes = await anext(self._pages)
            except StopAsyncIteration:
                self._ended = True
            else:
                self.digest.extend(self.keys, self.hashes)

    def drop(self, count: int) -> None:
        """Go on behind so many points."""
        self.keys, self.hashes = self.keys[count:], self.hashes[count:]


async def merge(stored: Side, recorded: Side) -> AsyncGenerator[Difference, None]:
    """What differs between two sides, in key order; what is equal is compared a page at a time."""
    while True:
        await side_by_side(stored.refill(), recorded.refill())
        count = min(len(stored.keys), len(recorded.keys))
        if not count:
            break
        if (
            stored.keys[:count] == recorded.keys[:count]
            and stored.hashes[:count] == recorded.hashes[:count]
        ):
            stored.drop(count)
            recorded.drop(count)
        else:
            for difference in _compare(stored, recorded):
                yield difference
    for side, kind in ((stored, "extra"), (recorded, "missing")):
        while side.keys:
            for key in side.keys:
                yield kind, key
            side.drop(len(side.keys))
            await side.refill()


def _compare(stored: Side, recorded: Side) -> list[Difference]:
    """Compare point by point until one side has none at hand."""
    found: list[Difference] = []
    there, ours = 0, 0
    while there < len(stored.keys) and ours < len(recorded.keys):
        key, expected = stored.keys[there], recorded.keys[ours]
        if expected < key:
            found.append(("missing", expected))
            ours += 1
        elif key < expected:
            found.append(("extra", key))
            there += 1
        else:
            if stored.hashes[there] != recorded.hashes[ours]:
                found.append(("changed", key))
            there, ours = there + 1, ours + 1
    stored.drop(there)
    recorded.drop(ours)
    return found
