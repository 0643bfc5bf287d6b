"""The versions of a collection that were noted, and whether each can still be rebuilt."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any
from uuid import UUID

from domain.ports import Views
from domain.use_cases.rebuildable import Rebuildable, rebuildable, remains
from domain.use_cases.tools import Tools, recorded_schema
from domain.use_cases.versions import generations_of

PAGE = 5000

Document = dict[str, Any]


async def list_versions(tools: Tools, views: Views, store: str, name: str) -> list[Document]:
    """The versions of a collection that were noted, oldest position first.

    Each has the key of its document in the read model as `id`.

    Raises:
        NotFound: there is no such collection.
    """
    found: list[Document] = []
    for collection in sorted({s.collection for s in await generations_of(tools, store, name)}):
        after, match = "", {"store": store, "collection": collection}
        while page := await views.find("versions", after=after, limit=PAGE, match=match):
            found += [{"id": key, **document} for key, document in page]
            after = page[-1][0]
    return sorted(found, key=lambda d: (d["position"], d["noted_at"], d["id"]))


async def with_details(tools: Tools, versions: Iterable[Document]) -> list[Document]:
    """Versions with the time of their position, their schema, and what stands against a rebuild.

    `not_rebuildable` is None for a version that can be rebuilt, else a sentence that says why not.
    `remains` is what is left of a version from which points were erased, else None.
    """
    looked_for: dict[UUID, Rebuildable] = {}
    schemas: dict[UUID, Document] = {}
    found = []
    for version in versions:
        generation = UUID(version["generation"])
        if generation not in looked_for:
            looked_for[generation] = await rebuildable(tools, generation)
            schemas[generation] = (await recorded_schema(tools.ledger, generation)).to_json()
        left = await remains(tools, generation, version["through"])
        why_not = await looked_for[generation].why_not(version["through"])
        (recorded,) = await tools.ledger.read(version["position"] - 1, 1)
        found.append(
            {
                **version,
                "at": recorded.recorded_at,
                "schema": schemas[generation],
                "not_rebuildable": why_not or (str(left) if left is not None else None),
                "remains": asdict(left) if left is not None else None,
            }
        )
    return found
