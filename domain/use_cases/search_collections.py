"""Search one collection, or several and merge what they answer."""

from collections.abc import Mapping, Sequence

from domain.ports import Hit, VectorStore
from domain.use_cases.concurrently import concurrently


async def search_collections(
    store: VectorStore,
    names: Sequence[str],
    vector: Sequence[float],
    *,
    using: str = "",
    limit: int = 10,
    match: Mapping[str, str] | None = None,
) -> list[Hit]:
    """The nearest points over all these collections, best first.

    Scores are comparable because the collections hold vectors of one model; the caller sees to
    that.

    Args:
        store: where the collections are.
        names: collections or aliases.
        vector: `(dimension,)` query vector.
        using: vector name; the unnamed one by default.
        limit: results in all.
        match: payload field to keyword value that every result must have.
    """
    found = await concurrently(
        store.search(name, vector, using=using, limit=limit, match=match) for name in names
    )
    merged = [hit for hits in found for hit in hits]
    return sorted(merged, key=lambda hit: (-hit.score, hit.key))[:limit]
