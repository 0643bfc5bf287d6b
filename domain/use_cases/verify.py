"""Compare a generation in its store with what the ledger says it is, point by point."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from domain.model.errors import NotFound
from domain.model.points import Digest, id_of
from domain.ports import Applications, GenerationStatus, Ledger, Stores, VectorStore
from domain.use_cases.concurrently import side_by_side
from domain.use_cases.tools import live_generation

EXAMPLES = 20
PAGE = 2000

Page = tuple[list[bytes], list[bytes]]
"""Keys in ascending order, and the hash of each point."""

Difference = tuple[str, bytes]
"""Missing, extra or changed, and the key of the point."""


@dataclass
class Verification:
    """What a comparison found.

    Attributes:
        physical: name of the collection in the store.
        points: that the store has.
        recorded: that the ledger says it has.
        digest: of the store, hexadecimal SHA-256 over sorted (id, hash).
        recorded_digest: of the ledger.
        missing: points that the ledger has and the store has not.
        extra: points that the store has and the ledger has not.
        changed: points that both have, with other content.
        examples: ids by kind of difference, the first twenty of each.
    """

    physical: str
    points: int = 0
    recorded: int = 0
    digest: str = ""
    recorded_digest: str = ""
    missing: int = 0
    extra: int = 0
    changed: int = 0
    examples: dict[str, list[int | str]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether every bit is as recorded."""
        return not (self.missing or self.extra or self.changed)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for events and answers."""
        return {**vars(self), "equal": self.equal}

    def note(self, kind: str, key: bytes) -> None:
        """Count a difference, and keep the first of each kind as examples."""
        setattr(self, kind, getattr(self, kind) + 1)
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(id_of(key))

    def __str__(self) -> str:
        if self.equal:
            return f"{self.physical}: {self.points} points, digest {self.digest}"
        found = ", ".join(
            f"{count} {kind} (such as {self.examples[kind][0]})"
            for kind in ("missing", "extra", "changed")
            if (count := getattr(self, kind))
        )
        return f"{self.physical}: {found}"


async def verify(
    ledger: Ledger, applications: Applications, stores: Stores, store: str, physical: str
) -> Verification:
    """Compare a collection with the generation that looks after it.

    Raises:
        NotFound: the ledger does not look after this collection, or the store lacks it.
    """
    status = await live_generation(applications, store, physical)
    if status is None:
        raise NotFound(
            f"the ledger does not look after collection {physical!r} in store {store!r}; "
            "see `collection list`"
        )
    return await compare(ledger, stores, status)


async def compare(
    ledger: Ledger, stores: Stores, status: GenerationStatus, at: int | None = None
) -> Verification:
    """Merge-join a scan of the store with the heads; memory stays at one page of each.

    Args:
        ledger: that has the heads.
        stores: that have the collection.
        status: of the generation that the collection should be.
        at: version of the generation's stream that it should be; None for what it is now.

    Raises:
        NotFound: the store lacks the collection.
    """
    found = Verification(status.physical)
    store = stores.store(status.store)
    async for kind, key in differences(ledger, store, status.generation, found, at):
        found.note(kind, key)
    return found


async def differences(
    ledger: Ledger,
    store: VectorStore,
    generation: UUID,
    found: Verification,
    at: int | None = None,
) -> AsyncGenerator[Difference, None]:
    """What is missing, extra or changed in a store: kind and key, each kind in key order.

    The caller may write to points that came; they do not come again.

    Args:
        ledger: that has the heads.
        store: that has the collection.
        generation: that the collection should be.
        found: names the collection, and gets the counts and digests of both sides at the end.
        at: version of the generation's stream; None for what it is now.
    """
    stored = _Side(_stored(store, found.physical))
    recorded = _Side(recorded_points(ledger, generation, at))
    async for difference in _merge(stored, recorded):
        yield difference
    found.points, found.digest = stored.digest.points, stored.digest.hexdigest()
    found.recorded, found.recorded_digest = recorded.digest.points, recorded.digest.hexdigest()


class _Side:
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


async def _merge(stored: _Side, recorded: _Side) -> AsyncGenerator[Difference, None]:
    """Compare both sides in key order; what is equal is compared a page at a time."""
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


def _compare(stored: _Side, recorded: _Side) -> list[Difference]:
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


async def _stored(store: VectorStore, physical: str) -> AsyncIterator[Page]:
    async for page in store.scan(physical, page=PAGE):
        yield page.keys, page.hashes()


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
