"""Changes behind the ledger's back."""

from adapters.qdrant_grpc import qdrant
from domain.model.points import PointBatch
from tests.integration.worlds import World


async def flip(world: World, name: str, point: PointBatch, vector: str, bit: int) -> None:
    """Write a point with one bit of one vector turned over."""
    content = point.vectors[vector][0]
    assert content is not None
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    point.vectors[vector][0] = bytes(changed)
    await world.store.upsert(name, point)


async def drop_index(world: World, name: str, field: str) -> None:
    """Drop the index of a payload field."""
    store = world.store
    await store._calls.send(  # type: ignore[attr-defined]
        store._points.DeleteFieldIndex,  # type: ignore[attr-defined]
        qdrant.DeleteFieldIndexCollection(collection_name=name, field_name=field, wait=True),
        what=f"dropping the index of {field!r}",
    )
