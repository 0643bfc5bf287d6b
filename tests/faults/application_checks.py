"""What the application must find: its points, where its own table says that they are."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qdrant_client import AsyncQdrantClient

from tests.e2e.application import Application

PAGE = 1000
EXAMPLES = 3

Points = dict[int | str, tuple[str, bytes]]
"""Id to payload as canonical JSON and vector as float32."""


async def points_of(qdrant: AsyncQdrantClient, collection: str) -> Points:
    """Every point of a collection, as the store has it."""
    found: Points = {}
    offset: Any = None
    while True:
        records, offset = await qdrant.scroll(
            collection, limit=PAGE, offset=offset, with_payload=True, with_vectors=True
        )
        for record in records:
            vector: Any = record.vector
            bits = struct.pack(f"<{len(vector)}f", *vector)
            found[record.id] = json.dumps(record.payload, sort_keys=True), bits
        if offset is None:
            return found


def difference(expected: Points, found: Points) -> str | None:
    """How two collections differ, or None."""
    missing = [point for point in expected if point not in found]
    extra = [point for point in found if point not in expected]
    changed = [p for p in expected if p in found and expected[p] != found[p]]
    said = [
        f"{len(points)} {what}, such as {', '.join(map(str, points[:EXAMPLES]))}"
        for what, points in (("missing", missing), ("extra", extra), ("changed", changed))
        if points
    ]
    return "; ".join(said) or None


@dataclass
class Picture:
    """Everything that the application sees.

    Attributes:
        shared: points of its shared collections.
        names: raw `collection_names` of its sources.
    """

    shared: dict[str, Points] = field(default_factory=dict)
    names: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    async def taken(cls, application: Application) -> "Picture":
        """The application as it is now."""
        return cls(
            {
                name: await points_of(application.qdrant, name)
                for name in application.shared.values()
            },
            await application.names(),
        )


async def check_migrated(application: Application, before: Picture, *, drop: bool) -> list[str]:
    """Each source's points are in the collections that its row names, and nothing else is."""
    findings = []
    expected_names = set()
    for title, names in (await application.names()).items():
        source = next(i for t, i in application.ids.items() if application.title(t) == title)
        for kind, name in json.loads(names or "{}").items():
            expected_names.add(name)
            shared = before.shared[application.shared[kind]]
            expected = {p: v for p, v in shared.items() if json.loads(v[0])["source_id"] == source}
            found = difference(expected, await points_of(application.qdrant, name))
            if found:
                findings.append(f"{name}: {found}")
    wanted = len(application.ids) * len(application.shared)
    if len(expected_names) != wanted:
        findings.append(f"the table names {len(expected_names)} collections instead of {wanted}")
    findings += await _check_shared(application, before, gone=drop)
    generations = {f"{name}__g" for name in expected_names}
    others = await application.collections() - set(application.shared.values())
    targets = {name.rpartition("__g")[0] + "__g" for name in others}
    if targets != generations or len(others) != wanted:
        findings.append(f"collections are {sorted(others)}")
    return findings


async def check_unmigrated(application: Application, before: Picture) -> list[str]:
    """Everything is as it was."""
    findings = await _check_shared(application, before, gone=False)
    others = await application.collections() - set(application.shared.values())
    if others:
        findings.append(f"collections are left: {sorted(others)}")
    aliases = await application.qdrant.get_aliases()
    left = [alias.alias_name for alias in aliases.aliases]
    if left:
        findings.append(f"aliases are left: {left}")
    names = await application.names()
    if names != before.names:
        findings.append(f"the table names {names} instead of {before.names}")
    return findings


async def _check_shared(application: Application, before: Picture, *, gone: bool) -> list[str]:
    there = await application.collections()
    findings = []
    for name, points in before.shared.items():
        if (name not in there) != gone:
            findings.append(f"{name} is {'there' if gone else 'gone'}")
        elif not gone:
            found = difference(points, await points_of(application.qdrant, name))
            if found:
                findings.append(f"{name}: {found}")
    return findings


async def check_points(qdrant: AsyncQdrantClient, expected: Mapping[str, Points]) -> list[str]:
    """Collections hold exactly these points."""
    findings = []
    for name, points in expected.items():
        found = difference(points, await points_of(qdrant, name))
        if found:
            findings.append(f"{name}: {found}")
    return findings
