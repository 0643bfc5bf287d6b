"""The `Points` service."""

from collections.abc import Callable, Sequence
from typing import Any

import qdrant_edge as edge

from adapters.embedded.node import changes, indexes
from adapters.embedded.node.catalogue import Entry
from adapters.embedded.node.changes import refuse_shard_keys
from adapters.embedded.node.errors import wrong_input
from adapters.embedded.node.filters import optional_filter
from adapters.embedded.node.ids import id_from_proto, id_to_proto, ids_from_proto
from adapters.embedded.node.payload import payload_to_proto
from adapters.embedded.node.queries import (
    QueryReader,
    from_search,
    order_by,
    with_payload,
    with_vectors,
)
from adapters.embedded.node.rpc import Call, Handler
from adapters.embedded.node.shard import Change, Shard
from adapters.embedded.node.store import Store
from adapters.embedded.node.vectors import Layout, vectors_to_proto
from adapters.qdrant_grpc import qdrant

DEFAULT_LIMIT = 10
COMPLETED = qdrant.UpdateResult(status=qdrant.UpdateStatus.Completed)


class Points:
    """Handlers of the `Points` service over a store.

    Writes answer when they are visible, whatever `wait` says.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def handlers(self) -> dict[str, Handler]:
        """Handlers by method name."""
        return {
            "Upsert": self._write(changes.upsert),
            "Delete": self._write(lambda request, _: changes.delete(request.points)),
            "UpdateVectors": self._write(changes.update_vectors),
            "DeleteVectors": self._write(
                lambda request, layout: changes.delete_vectors(
                    request.points_selector, request.vectors, layout
                )
            ),
            "SetPayload": self._write(lambda request, _: changes.set_payload(request)),
            "OverwritePayload": self._write(lambda request, _: changes.overwrite_payload(request)),
            "DeletePayload": self._write(lambda request, _: changes.delete_payload(request)),
            "ClearPayload": self._write(lambda request, _: changes.clear_payload(request.points)),
            "UpdateBatch": self.update_batch,
            "CreateFieldIndex": self.create_field_index,
            "DeleteFieldIndex": self.delete_field_index,
            "Get": self.get,
            "Scroll": self.scroll,
            "Count": self.count,
            "Facet": self.facet,
            "Query": self.query,
            "QueryBatch": self.query_batch,
            "Search": self.search,
            "SearchBatch": self.search_batch,
        }

    def _write(self, change: Callable[[Any, Layout], Change]) -> Handler:
        def write(request: Any, call: Call) -> qdrant.PointsOperationResponse:
            refuse_shard_keys(request)
            shard = self._store.shard(request.collection_name)
            shard.write([change(request, shard.layout)], request.ByteSize(), call)
            return qdrant.PointsOperationResponse(result=COMPLETED)

        return write

    def update_batch(
        self, request: qdrant.UpdateBatchPoints, call: Call
    ) -> qdrant.UpdateBatchResponse:
        """Operations in order. All are checked before the first is applied."""
        shard = self._store.shard(request.collection_name)
        checked = [changes.from_batch(each, shard.layout) for each in request.operations]
        shard.write(checked, request.ByteSize(), call)
        return qdrant.UpdateBatchResponse(result=[COMPLETED] * len(checked))

    def create_field_index(
        self, request: qdrant.CreateFieldIndexCollection, call: Call
    ) -> qdrant.PointsOperationResponse:
        """Index a payload field; the catalogue keeps the parameters as they were asked."""
        shard = self._store.shard(request.collection_name)
        schema = indexes.schema_from_create(request)
        operation = edge.UpdateOperation.create_field_index(
            request.field_name, indexes.engine_schema(schema)
        )
        shard.write([Change([operation])], request.ByteSize(), call)

        def indexed(entry: Entry) -> Entry:
            return Entry(entry.folder, entry.config, {**entry.indexes, request.field_name: schema})

        self._store.change_entry(request.collection_name, indexed)
        return qdrant.PointsOperationResponse(result=COMPLETED)

    def delete_field_index(
        self, request: qdrant.DeleteFieldIndexCollection, call: Call
    ) -> qdrant.PointsOperationResponse:
        """Drop the index of a payload field; that there is none is no error."""
        shard = self._store.shard(request.collection_name)
        operation = edge.UpdateOperation.delete_field_index(request.field_name)
        shard.write([Change([operation])], request.ByteSize(), call)

        def unindexed(entry: Entry) -> Entry:
            left = {name: i for name, i in entry.indexes.items() if name != request.field_name}
            return Entry(entry.folder, entry.config, left)

        self._store.change_entry(request.collection_name, unindexed)
        return qdrant.PointsOperationResponse(result=COMPLETED)

    def get(self, request: qdrant.GetPoints, _call: Call) -> qdrant.GetResponse:
        """Points by id, in the order asked; those that are not there are left out."""
        ids = ids_from_proto(request.ids)
        records = self._reading(request).read(
            lambda engine: engine.retrieve(
                list(ids), with_payload(request, default=True), with_vectors(request)
            )
        )
        found = {record.id: record for record in records}
        return qdrant.GetResponse(result=[_record(found[i]) for i in ids if i in found])

    def scroll(self, request: qdrant.ScrollPoints, _call: Call) -> qdrant.ScrollResponse:
        """Points in the order of ids, or of a payload field, which has no next page."""
        limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
        if limit < 1:
            raise wrong_input("limit must be 1 or larger")
        ordered = request.HasField("order_by")
        if ordered and request.HasField("offset"):
            raise wrong_input("Cannot use an `offset` when using `order_by`")
        asked = edge.ScrollRequest(
            offset=id_from_proto(request.offset) if request.HasField("offset") else None,
            limit=limit,
            filter=optional_filter(request),
            with_payload=with_payload(request, default=True),
            with_vector=with_vectors(request),
            order_by=order_by(request.order_by) if ordered else None,
        )
        records, following = self._reading(request).read(lambda engine: engine.scroll(asked))
        return qdrant.ScrollResponse(
            result=[_record(record) for record in records],
            next_page_offset=None if following is None else id_to_proto(following),
        )

    def count(self, request: qdrant.CountPoints, _call: Call) -> qdrant.CountResponse:
        """How many points match; always exact."""
        asked = edge.CountRequest(exact=True, filter=optional_filter(request))
        count = self._reading(request).read(lambda engine: engine.count(asked))
        return qdrant.CountResponse(result=qdrant.CountResult(count=count))

    def facet(self, request: qdrant.FacetCounts, _call: Call) -> qdrant.FacetResponse:
        """Counts by value of an indexed payload field."""
        shard = self._reading(request)
        hits = shard.read(
            lambda engine: (
                engine.facet(
                    edge.FacetRequest(
                        request.key,
                        request.limit if request.HasField("limit") else DEFAULT_LIMIT,
                        exact=True,
                        filter=optional_filter(request),
                    )
                ).hits
            )
        )
        return qdrant.FacetResponse(
            hits=[qdrant.FacetHit(value=_facet_value(hit.value), count=hit.count) for hit in hits]
        )

    def query(self, request: qdrant.QueryPoints, _call: Call) -> qdrant.QueryResponse:
        """Points by likeness, fusion, order or chance."""
        return qdrant.QueryResponse(result=self._scored(request))

    def query_batch(
        self, request: qdrant.QueryBatchPoints, _call: Call
    ) -> qdrant.QueryBatchResponse:
        """Several queries of one collection."""
        results = self._batch(request.collection_name, request.query_points)
        return qdrant.QueryBatchResponse(result=results)

    def search(self, request: qdrant.SearchPoints, _call: Call) -> qdrant.SearchResponse:
        """The older form of a query for the nearest points."""
        return qdrant.SearchResponse(result=self._scored(from_search(request)))

    def search_batch(
        self, request: qdrant.SearchBatchPoints, _call: Call
    ) -> qdrant.SearchBatchResponse:
        """Several searches of one collection."""
        queries = [from_search(search) for search in request.search_points]
        return qdrant.SearchBatchResponse(result=self._batch(request.collection_name, queries))

    def _reading(self, request: Any) -> Shard:
        refuse_shard_keys(request)
        return self._store.shard(request.collection_name)

    def _batch(
        self, collection: str, queries: Sequence[qdrant.QueryPoints]
    ) -> list[qdrant.BatchResult]:
        for query in queries:
            query.collection_name = collection
        return [qdrant.BatchResult(result=self._scored(query)) for query in queries]

    def _scored(self, request: qdrant.QueryPoints) -> list[qdrant.ScoredPoint]:
        shard = self._reading(request)
        asked = QueryReader(shard, self._store.shard).read(request)
        return [_scored_point(point) for point in shard.read(lambda engine: engine.query(asked))]


def _record(record: edge.Record) -> qdrant.RetrievedPoint:
    return qdrant.RetrievedPoint(**_common(record))


def _scored_point(point: edge.ScoredPoint) -> qdrant.ScoredPoint:
    return qdrant.ScoredPoint(score=point.score, version=point.version, **_common(point))


def _common(point: Any) -> dict[str, Any]:
    vector, order = point.vector, point.order_value
    return {
        "id": id_to_proto(point.id),
        "payload": payload_to_proto(point.payload or {}),
        "vectors": None if vector is None else vectors_to_proto(vector),
        "order_value": None if order is None else _order_value(order),
    }


def _order_value(value: float) -> qdrant.OrderValue:
    if isinstance(value, int):
        return qdrant.OrderValue(int=value)
    return qdrant.OrderValue(float=value)


def _facet_value(value: object) -> qdrant.FacetValue:
    if isinstance(value, bool):
        return qdrant.FacetValue(bool_value=value)
    if isinstance(value, int):
        return qdrant.FacetValue(integer_value=value)
    return qdrant.FacetValue(string_value=str(value))
