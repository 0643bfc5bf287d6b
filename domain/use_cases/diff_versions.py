"""What differs between two versions of a collection, by the ledger alone."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from domain.model.points import PointBatch, decode_payload, id_of
from domain.model.schema import CollectionSchema
from domain.use_cases.archived import refuse_archived
from domain.use_cases.bodies import BodyCache
from domain.use_cases.concurrently import in_pages
from domain.use_cases.merge import PAGE, Side, merge, recorded_points
from domain.use_cases.tools import Tools, recorded_schema
from domain.use_cases.versions import Place

KINDS = {"missing": "removed", "extra": "added", "changed": "changed"}
"""What the merge calls a difference of the second version, and what people call it."""

Changed = tuple[str, bytes]
"""Added, removed or changed, and the key of the point."""


@dataclass
class VersionDiff:
    """What became of the points from one version to another.

    Attributes:
        points: that each version has.
        digests: of each version, hexadecimal.
        added: points that only the second one has.
        removed: points that only the first one has.
        changed: points that both have, with other content.
        schema: a sentence for each difference of vectors and indexes.
        erased: points that each version had and that were erased; they are in no count.
    """

    points: tuple[int, int] = (0, 0)
    digests: tuple[str, str] = ("", "")
    added: int = 0
    removed: int = 0
    changed: int = 0
    schema: list[str] = field(default_factory=list)
    erased: tuple[int, int] = (0, 0)

    @property
    def equal(self) -> bool:
        """Whether what is left of the versions is the same, bit for bit."""
        return not (self.added or self.removed or self.changed or self.schema)


async def diff_versions(
    tools: Tools, one: Place, other: Place, diff: VersionDiff
) -> AsyncGenerator[Changed, None]:
    """The points that differ, in key order; memory stays at a page of each version.

    Args:
        tools: the ports.
        one: the version to begin with.
        other: the version that it became.
        diff: gets the counts, and at the end the digests.
    """
    diff.schema = _schema_differences(
        await recorded_schema(tools.ledger, one.status.generation),
        await recorded_schema(tools.ledger, other.status.generation),
    )
    before = Side(recorded_points(tools.ledger, one.status.generation, one.through))
    after = Side(recorded_points(tools.ledger, other.status.generation, other.through))
    different = merge(after, before)
    async with aclosing(different):
        async for found, key in different:
            kind = KINDS[found]
            setattr(diff, kind, getattr(diff, kind) + 1)
            yield kind, key
    diff.erased = (
        await tools.ledger.count_erased(one.status.generation, one.through),
        await tools.ledger.count_erased(other.status.generation, other.through),
    )
    diff.points = before.digest.points, after.digest.points
    diff.digests = before.digest.hexdigest(), after.digest.hexdigest()


def _schema_differences(one: CollectionSchema, other: CollectionSchema) -> list[str]:
    added, removed = other.missing_indexes(one.indexes), one.missing_indexes(other.indexes)
    return [
        *one.differences(other),
        *(f"the index of {name!r} was added" for name in sorted(added.keys() - removed.keys())),
        *(f"the index of {name!r} was removed" for name in sorted(removed.keys() - added.keys())),
        *(f"the index of {name!r} was changed" for name in sorted(added.keys() & removed.keys())),
    ]


class Contents:
    """Reads what points were in a version, from their bodies."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._bodies = BodyCache(tools.objects)

    async def read(self, place: Place, keys: Iterable[bytes]) -> dict[bytes, PointBatch]:
        """The points that the version has of these, each alone.

        Raises:
            Corrupt: a body is missing or altered.
            Rejected: the version was archived.
        """
        refuse_archived(place.status, place.through)
        wanted = sorted(keys)
        heads = await self._tools.ledger.heads_of(place.status.generation, wanted, at=place.through)
        rows: dict[str, list[tuple[bytes, int]]] = defaultdict(list)
        for key, address, row in zip(heads.keys, heads.objects, heads.rows, strict=True):
            rows[address].append((key, row))
        found: dict[bytes, PointBatch] = {}
        for address, wanted_rows in rows.items():
            body = await self._bodies.get(address)
            points = ((key, body.take([row]).there()) for key, row in wanted_rows)
            found |= {key: point for key, point in points if len(point)}
        return found


@dataclass(frozen=True)
class Shown:
    """A point that differs, with what it was and became.

    Attributes:
        kind: added, removed or changed.
        key: of the point.
        before: its payload, or None.
        after: its payload, or None.
        vectors: names of the vectors that differ; the unnamed one is ``""``.
    """

    kind: str
    key: bytes
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    vectors: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "kind": self.kind,
            "id": id_of(self.key),
            "before": self.before,
            "after": self.after,
            "vectors": self.vectors,
        }


async def with_contents(
    contents: Contents, one: Place, other: Place, differences: AsyncGenerator[Changed, None]
) -> AsyncGenerator[Shown, None]:
    """The points that differ, with their bodies, a page at a time."""
    async with aclosing(in_pages(differences, PAGE)) as pages:
        async for page in pages:
            for shown in await _show_page(contents, one, other, page):
                yield shown


async def _show_page(
    contents: Contents, one: Place, other: Place, page: list[Changed]
) -> list[Shown]:
    before = await contents.read(one, [key for kind, key in page if kind != "added"])
    after = await contents.read(other, [key for kind, key in page if kind != "removed"])
    return [
        Shown(kind, key, _payload(before, key), _payload(after, key), _vectors(before, after, key))
        for kind, key in page
    ]


def _payload(points: Mapping[bytes, PointBatch], key: bytes) -> dict[str, Any] | None:
    return decode_payload(points[key].payloads[0]) if key in points else None


def _vectors(
    before: Mapping[bytes, PointBatch], after: Mapping[bytes, PointBatch], key: bytes
) -> list[str]:
    ours = _contents(before, key)
    theirs = _contents(after, key)
    return sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))


def _contents(points: Mapping[bytes, PointBatch], key: bytes) -> dict[str, bytes | None]:
    if key not in points:
        return {}
    return {name: column[0] for name, column in points[key].vectors.items()}
