"""Updates: from a request's operations to checked changes for the engine."""

from collections.abc import Callable, Sequence
from typing import Any

import qdrant_edge as edge

from adapters.embedded.node.errors import wrong_input
from adapters.embedded.node.filters import filter_from_proto, optional_filter
from adapters.embedded.node.ids import PointId, id_from_proto, ids_from_proto
from adapters.embedded.node.payload import payload_from_proto
from adapters.embedded.node.shard import Change
from adapters.embedded.node.vectors import Layout, VectorReader
from adapters.qdrant_grpc import qdrant

MAX_POINTS = 500
"""Points in one engine call. A call holds the interpreter: 5,000 points stop it for 91 ms."""

_MODES = {
    qdrant.UpdateMode.Upsert: edge.UpdateMode.Upsert,
    qdrant.UpdateMode.InsertOnly: edge.UpdateMode.InsertOnly,
    qdrant.UpdateMode.UpdateOnly: edge.UpdateMode.UpdateOnly,
}
_Update = edge.UpdateOperation


def upsert(request: Any, layout: Layout) -> Change:
    """Points to insert or replace, from `UpsertPoints` or `PointStructList`.

    Raises:
        RefusalError: a point is not one that this collection can have.
    """
    reader = VectorReader(layout)
    points = [
        edge.Point(
            id_from_proto(point.id), reader.read(point.vectors), payload_from_proto(point.payload)
        )
        for point in request.points
    ]
    reader.finish()
    condition = optional_filter(request, "update_filter")
    mode = _MODES[request.update_mode]
    return Change(
        [_Update.upsert_points(part, condition, mode) for part in _parts(_last_of_each(points))],
        filtered=condition is not None,
    )


def delete(selector: qdrant.PointsSelector) -> Change:
    """Points to delete; those that are not there are no error."""
    if selector.WhichOneof("points_selector_one_of") == "filter":
        return Change(
            [_Update.delete_points_by_filter(filter_from_proto(selector.filter))], filtered=True
        )
    ids = _selected(selector)
    return Change([_Update.delete_points(part) for part in _parts(ids)])


def update_vectors(request: Any, layout: Layout) -> Change:
    """Vectors of existing points, from `UpdatePointVectors` or its batch form."""
    reader = VectorReader(layout)
    points = [
        edge.PointVectors(id_from_proto(point.id), reader.read(point.vectors))
        for point in request.points
    ]
    reader.finish()
    condition = optional_filter(request, "update_filter")
    return Change(
        [_Update.update_vectors(part, condition) for part in _parts(points)],
        must_exist=() if condition else [_id(point) for point in points],
        filtered=condition is not None,
    )


def delete_vectors(
    selector: qdrant.PointsSelector, names: qdrant.VectorsSelector, layout: Layout
) -> Change:
    """Vectors to take from points."""
    wanted = list(names.names)
    for name in wanted:
        if name not in layout.dense and name not in layout.sparse:
            raise wrong_input(f"Not existing vector name error: {name}")
    return _of_selected(
        selector,
        lambda ids: _Update.delete_vectors(ids, wanted),
        lambda where: _Update.delete_vectors_by_filter(where, wanted),
    )


def set_payload(request: Any) -> Change:
    """Payload fields to set, under a key if one is given."""
    payload, key = _payload_and_key(request)
    return _of_selected(
        request.points_selector,
        lambda ids: _Update.set_payload(ids, payload, key),
        lambda where: _Update.set_payload_by_filter(where, payload, key),
    )


def overwrite_payload(request: Any) -> Change:
    """Payload to replace."""
    payload, key = _payload_and_key(request)
    if key is not None:
        # As Qdrant does: under a key, overwriting is setting.
        return set_payload(request)
    return _of_selected(
        request.points_selector,
        lambda ids: _Update.overwrite_payload(ids, payload),
        lambda where: _Update.overwrite_payload_by_filter(where, payload),
    )


def delete_payload(request: Any) -> Change:
    """Payload fields to delete."""
    keys = list(request.keys)
    return _of_selected(
        request.points_selector,
        lambda ids: _Update.delete_payload(ids, keys),
        lambda where: _Update.delete_payload_by_filter(where, keys),
    )


def clear_payload(selector: qdrant.PointsSelector) -> Change:
    """Points whose payload goes."""
    return _of_selected(selector, _Update.clear_payload, _Update.clear_payload_by_filter)


def from_batch(operation: qdrant.PointsUpdateOperation, layout: Layout) -> Change:
    """One operation of an `UpdateBatch`.

    Raises:
        RefusalError: it is empty or wrong.
    """
    kind = operation.WhichOneof("operation")
    if kind is None:
        raise wrong_input("an operation of the batch is empty")
    asked = getattr(operation, kind)
    if not isinstance(asked, qdrant.PointsSelector):
        refuse_shard_keys(asked)
    return _BATCHED[kind](asked, layout)


_BATCHED: dict[str, Callable[[Any, Layout], Change]] = {
    "upsert": upsert,
    "delete_points": lambda asked, _: delete(asked.points),
    "delete_deprecated": lambda asked, _: delete(asked),
    "set_payload": lambda asked, _: set_payload(asked),
    "overwrite_payload": lambda asked, _: overwrite_payload(asked),
    "delete_payload": lambda asked, _: delete_payload(asked),
    "clear_payload": lambda asked, _: clear_payload(asked.points),
    "clear_payload_deprecated": lambda asked, _: clear_payload(asked),
    "update_vectors": update_vectors,
    "delete_vectors": lambda asked, layout: delete_vectors(
        asked.points_selector, asked.vectors, layout
    ),
}


def refuse_shard_keys(request: Any) -> None:
    """A request that names shard keys means a collection with custom sharding.

    Raises:
        RefusalError: it does.
    """
    if request.HasField("shard_key_selector"):
        raise wrong_input("the embedded node has no shard keys")


def _of_selected(selector: qdrant.PointsSelector, by_ids: Any, by_filter: Any) -> Change:
    if selector.WhichOneof("points_selector_one_of") == "filter":
        return Change([by_filter(filter_from_proto(selector.filter))], filtered=True)
    ids = _selected(selector)
    return Change([by_ids(part) for part in _parts(ids)], must_exist=ids)


def _selected(selector: qdrant.PointsSelector) -> list[PointId]:
    if selector.WhichOneof("points_selector_one_of") is None:
        raise wrong_input("PointsSelector is empty")
    return ids_from_proto(selector.points.ids)


def _payload_and_key(request: Any) -> tuple[dict[str, Any], str | None]:
    return payload_from_proto(request.payload), request.key if request.HasField("key") else None


def _last_of_each(points: Sequence[edge.Point]) -> list[edge.Point]:
    """An id given twice in one request is written once, as it was given last."""
    return list({_id(point): point for point in points}.values())


def _id(point: edge.Point | edge.PointVectors) -> Any:
    return point.id


def _parts(items: Sequence[Any]) -> list[list[Any]]:
    return [list(items[at : at + MAX_POINTS]) for at in range(0, len(items), MAX_POINTS)]
