"""Compare a generation in its store with what the ledger says it is, point by point."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from domain.model.errors import NotFound
from domain.model.points import Digest, id_of
from domain.ports import Applications, Ledger, Stores
from domain.use_cases.tools import live_generation

EXAMPLES = 20
PAGE = 2000

Pair = tuple[bytes, bytes]
END: Pair = (b"\xff", b"")
"""Comes last from both sides, and after every key: those begin with 0 or 1."""


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
    """Merge-join a scan of the store with the heads; memory stays at one page of each.

    Raises:
        NotFound: the ledger does not look after this collection, or the store lacks it.
    """
    status = await live_generation(applications, store, physical)
    if status is None:
        raise NotFound(
            f"the ledger does not look after collection {physical!r} in store {store!r}; "
            "see `collection list`"
        )
    found = Verification(physical)
    await _merge(
        _stored(stores, store, physical, found), _heads(ledger, status.generation, found), found
    )
    return found


async def _merge(
    stored: AsyncIterator[Pair], recorded: AsyncIterator[Pair], found: Verification
) -> None:
    ours, theirs = await anext(recorded), await anext(stored)
    while ours is not END or theirs is not END:
        if ours[0] < theirs[0]:
            found.note("missing", ours[0])
            ours = await anext(recorded)
        elif theirs[0] < ours[0]:
            found.note("extra", theirs[0])
            theirs = await anext(stored)
        else:
            if ours[1] != theirs[1]:
                found.note("changed", ours[0])
            ours, theirs = await anext(recorded), await anext(stored)


async def _stored(
    stores: Stores, store: str, physical: str, found: Verification
) -> AsyncIterator[Pair]:
    digest = Digest()
    async for page in stores.store(store).scan(physical, page=PAGE):
        for key, point_hash in zip(page.keys, page.hashes(), strict=True):
            digest.add(key, point_hash)
            yield key, point_hash
    found.points, found.digest = digest.points, digest.hexdigest()
    yield END


async def _heads(ledger: Ledger, generation: UUID, found: Verification) -> AsyncIterator[Pair]:
    digest, after = Digest(), b""
    while True:
        heads = await ledger.heads(generation, after=after, limit=PAGE)
        for key, point_hash in zip(heads.keys, heads.hashes, strict=True):
            digest.add(key, point_hash)
            yield key, point_hash
        if len(heads) < PAGE:
            break
        after = heads.keys[-1]
    found.recorded, found.recorded_digest = digest.points, digest.hexdigest()
    yield END
