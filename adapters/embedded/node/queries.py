"""Queries: protobuf to the engine's query requests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import qdrant_edge as edge

from adapters.embedded.node.changes import refuse_shard_keys
from adapters.embedded.node.errors import no_point, unsupported, wrong_input
from adapters.embedded.node.filters import filter_from_proto, optional_filter
from adapters.embedded.node.ids import PointId, id_from_proto
from adapters.embedded.node.shard import Shard
from adapters.embedded.node.vectors import VectorReader
from adapters.qdrant_grpc import qdrant

DEFAULT_LIMIT = 10
DEFAULT_RRF_K = 2


@dataclass
class QueryReader:
    """Reads one query of a collection.

    Attributes:
        shard: the collection that is asked.
        shard_by_name: where vectors are looked up.
    """

    shard: Shard
    shard_by_name: Callable[[str], Shard]

    def read(self, request: qdrant.QueryPoints) -> edge.QueryRequest:
        """The whole query.

        Raises:
            RefusalError: something in it is wrong, or not supported.
        """
        query = self._query(request)
        if query is None and request.prefetch:
            raise wrong_input("a query is needed to merge the prefetches")
        return edge.QueryRequest(
            limit=request.limit if request.HasField("limit") else DEFAULT_LIMIT,
            offset=request.offset,
            query=query,
            prefetches=[self._prefetch(prefetch) for prefetch in request.prefetch],
            with_vector=with_vectors(request),
            with_payload=with_payload(request, default=False),
            filter=self._filter(request),
            score_threshold=_threshold(request),
            params=search_params(request),
        )

    def _prefetch(self, proto: qdrant.PrefetchQuery) -> edge.Prefetch:
        return edge.Prefetch(
            limit=proto.limit if proto.HasField("limit") else DEFAULT_LIMIT,
            query=self._query(proto),
            prefetches=[self._prefetch(prefetch) for prefetch in proto.prefetch],
            params=search_params(proto),
            filter=self._filter(proto),
            score_threshold=_threshold(proto),
        )

    def _filter(self, request: Any) -> edge.Filter | None:
        """The request's filter, without the point of this collection that is asked about."""
        asked = optional_filter(request)
        elsewhere = request.HasField("lookup_from")
        if elsewhere or request.query.nearest.WhichOneof("variant") != "id":
            return asked
        others = edge.HasIdCondition({id_from_proto(request.query.nearest.id)})
        return edge.Filter(must=[asked] if asked else None, must_not=[others])

    def _query(self, request: Any) -> Any:
        if not request.HasField("query"):
            return None
        query = request.query
        kind = query.WhichOneof("variant")
        match kind:
            case "nearest":
                return edge.Query.Nearest(self._vector(request), using=request.using)
            case "fusion" | "rrf":
                return _fusion(query)
            case "order_by":
                return order_by(query.order_by)
            case "sample":
                return edge.Sample.Random
        if kind is None:
            raise wrong_input("the query is empty")
        raise unsupported(f"the query `{kind}`")

    def _vector(self, request: Any) -> Any:
        nearest, using = request.query.nearest, request.using
        if nearest.WhichOneof("variant") == "id":
            return self._looked_up(request, id_from_proto(nearest.id))
        reader = VectorReader(self.shard.layout)
        vector = reader.vector(using, nearest)
        reader.finish()
        return vector

    def _looked_up(self, request: Any, point_id: PointId) -> Any:
        shard, using = self.shard, request.using
        if request.HasField("lookup_from"):
            shard = self.shard_by_name(request.lookup_from.collection_name)
            if request.lookup_from.HasField("vector_name"):
                using = request.lookup_from.vector_name
        records = shard.read(
            lambda engine: engine.retrieve([point_id], with_payload=False, with_vector=[using])
        )
        if not records:
            raise no_point(point_id)
        vector = records[0].vector
        found = vector.get(using) if isinstance(vector, dict) else vector
        if not found:
            raise wrong_input(f"point {point_id} has no vector `{using}`")
        return found


def _fusion(query: qdrant.Query) -> Any:
    if query.HasField("rrf"):
        k = query.rrf.k if query.rrf.HasField("k") else DEFAULT_RRF_K
        return edge.Fusion.Rrf(k, list(query.rrf.weights) or None)
    if query.fusion == qdrant.Fusion.DBSF:
        return edge.Fusion.Dbsf()
    return edge.Fusion.Rrf(DEFAULT_RRF_K)


def from_search(request: qdrant.SearchPoints) -> qdrant.QueryPoints:
    """The older search as a query.

    Raises:
        RefusalError: it names shard keys.
    """
    refuse_shard_keys(request)
    query = qdrant.QueryPoints(
        collection_name=request.collection_name, limit=request.limit, using=request.vector_name
    )
    if request.HasField("sparse_indices"):
        query.query.nearest.sparse.indices.extend(request.sparse_indices.data)
        query.query.nearest.sparse.values.extend(request.vector)
    else:
        query.query.nearest.dense.data.extend(request.vector)
    for field, value in request.ListFields():
        if field.name in ("score_threshold", "offset"):
            setattr(query, field.name, value)
        elif field.name in ("filter", "with_payload", "params", "with_vectors"):
            getattr(query, field.name).CopyFrom(value)
    return query


def order_by(proto: qdrant.OrderBy) -> edge.OrderBy:
    """An order by a payload field, which needs a range index."""
    start: Any = None
    match proto.start_from.WhichOneof("value"):
        case "float":
            start = proto.start_from.float
        case "integer":
            start = proto.start_from.integer
        case "timestamp":
            start = proto.start_from.timestamp.ToJsonString()
        case "datetime":
            start = proto.start_from.datetime
    descending = proto.direction == qdrant.Direction.Desc
    return edge.OrderBy(proto.key, edge.Direction.Desc if descending else edge.Direction.Asc, start)


def search_params(request: Any) -> edge.SearchParams | None:
    """How to search, if the request says it."""
    if not request.HasField("params"):
        return None
    params = request.params
    quantization = params.quantization
    return edge.SearchParams(
        hnsw_ef=params.hnsw_ef if params.HasField("hnsw_ef") else None,
        exact=params.exact,
        quantization=edge.QuantizationSearchParams(
            ignore=quantization.ignore,
            rescore=quantization.rescore if quantization.HasField("rescore") else None,
            oversampling=quantization.oversampling
            if quantization.HasField("oversampling")
            else None,
        ),
        indexed_only=params.indexed_only,
        idf=edge.IdfParams(
            filter_from_proto(params.idf.corpus) if params.idf.HasField("corpus") else None
        )
        if params.HasField("idf")
        else None,
    )


def with_payload(request: Any, *, default: bool) -> Any:
    """Which payload fields to answer."""
    selector = request.with_payload
    match selector.WhichOneof("selector_options"):
        case "enable":
            return selector.enable
        case "include":
            return edge.PayloadSelector.Include(list(selector.include.fields))
        case "exclude":
            return edge.PayloadSelector.Exclude(list(selector.exclude.fields))
        case _:
            return default


def with_vectors(request: Any) -> bool | list[str]:
    """Which vectors to answer: none, if the request does not say it."""
    selector = request.with_vectors
    if selector.WhichOneof("selector_options") == "include":
        return list(selector.include.names)
    return bool(selector.enable)


def _threshold(request: Any) -> float | None:
    return request.score_threshold if request.HasField("score_threshold") else None
