"""A shard written anew, because the engine keeps bytes of deleted points in its files.

Deleted points stay in the files of segments until these are optimized, and in the write-ahead log
for as long as it is not full.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import qdrant_edge as edge

from adapters.embedded.node.changes import MAX_POINTS
from adapters.embedded.node.errors import wrong_input
from adapters.embedded.node.indexes import engine_schema
from adapters.qdrant_grpc import qdrant


def copy(
    source: edge.EdgeShard,
    target: edge.EdgeShard,
    indexes: Mapping[str, qdrant.PayloadSchemaInfo],
) -> None:
    """Give an empty shard the points and indexes of another one; durable when it returns.

    Raises:
        RefusalError: a vector is another one in the copy, as with some ways of storing vectors.
    """
    for field, info in indexes.items():
        target.update(edge.UpdateOperation.create_field_index(field, engine_schema(info)))
    for records in _pages(source):
        points = [edge.Point(one.id, one.vector or {}, one.payload) for one in records]
        target.update(edge.UpdateOperation.upsert_points(points))
    target.flush()
    for ours, theirs in zip(_pages(source), _pages(target), strict=True):
        if list(map(_content, ours)) != list(map(_content, theirs)):
            raise wrong_input("vectors of this collection change when they are written again")


def _pages(shard: edge.EdgeShard) -> Iterator[list[edge.Record]]:
    """All points in the order of ids."""
    following = None
    while True:
        asked = edge.ScrollRequest(
            offset=following, limit=MAX_POINTS, with_payload=True, with_vector=True
        )
        records, following = shard.scroll(asked)
        yield records
        if following is None:
            return


def _content(record: edge.Record) -> tuple[Any, ...]:
    vectors = record.vector if isinstance(record.vector, dict) else {"": record.vector}
    return record.id, {name: _plain(vector) for name, vector in vectors.items()}, record.payload


def _plain(vector: Any) -> Any:
    """A vector that can be compared."""
    if isinstance(vector, edge.SparseVector):
        return dict(zip(vector.indices, vector.values, strict=True))
    return vector
