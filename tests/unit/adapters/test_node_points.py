"""The handlers of points over the real engine, without a network."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from adapters.embedded.node import shard
from adapters.embedded.node.errors import RefusalError
from adapters.embedded.node.points import Points
from adapters.embedded.node.rpc import Call
from adapters.embedded.node.settings import config_from_create
from adapters.embedded.node.store import Store
from adapters.qdrant_grpc import qdrant


class Caller:
    """A gRPC context of somebody who waits for ever."""

    def is_active(self) -> bool:
        return True

    def time_remaining(self) -> None:
        return None


class Node:
    def __init__(self, store: Store) -> None:
        self.store = store
        self._handlers = Points(store).handlers()

    def __call__(self, method: str, request: Any) -> Any:
        request.collection_name = "a"
        return self._handlers[method](request, Call(Caller()))

    def ids(self, where: qdrant.Filter | None = None) -> list[Any]:
        request = qdrant.ScrollPoints(filter=where, limit=1_000)
        return [point.id.num or UUID(point.id.uuid) for point in self("Scroll", request).result]

    def payload(self, number: int) -> dict[str, Any]:
        found = self("Get", qdrant.GetPoints(ids=[num(number)])).result[0].payload
        return {key: value.integer_value for key, value in found.items()}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    store = Store(tmp_path)
    vectors = {
        "text": qdrant.VectorParams(size=2, distance=qdrant.Distance.Dot),
        "other": qdrant.VectorParams(size=2, distance=qdrant.Distance.Euclid),
    }
    asked = qdrant.CreateCollection(
        vectors_config=qdrant.VectorsConfig(params_map=qdrant.VectorParamsMap(map=vectors))
    )
    store.create("a", config_from_create(asked))
    yield Node(store)
    store.close()


def num(number: int) -> qdrant.PointId:
    return qdrant.PointId(num=number)


def ids(*numbers: int) -> qdrant.PointsSelector:
    return qdrant.PointsSelector(points=qdrant.PointsIdsList(ids=[num(n) for n in numbers]))


def integer(number: int) -> qdrant.Value:
    return qdrant.Value(integer_value=number)


def named(name: str, *values: float) -> qdrant.Vectors:
    vector = qdrant.Vector(dense=qdrant.DenseVector(data=values))
    return qdrant.Vectors(vectors=qdrant.NamedVectors(vectors={name: vector}))


def point(number: int, x: float = 1.0, **payload: int) -> qdrant.PointStruct:
    fields = {key: integer(value) for key, value in payload.items()}
    return qdrant.PointStruct(id=num(number), vectors=named("text", x, 0.0), payload=fields)


def upsert(node: Node, *points: qdrant.PointStruct, **options: Any) -> None:
    answer = node("Upsert", qdrant.UpsertPoints(points=points, **options))
    assert answer.result.status == qdrant.UpdateStatus.Completed


def is_(key: str, value: int) -> qdrant.Filter:
    match = qdrant.Match(integer=value)
    field = qdrant.FieldCondition(key=key, match=match)
    return qdrant.Filter(must=[qdrant.Condition(field=field)])


def nearest(*values: float) -> qdrant.Query:
    return qdrant.Query(nearest=qdrant.VectorInput(dense=qdrant.DenseVector(data=values)))


def test_scroll_gives_integers_before_uuids_and_an_inclusive_next_page(node: Node) -> None:
    key = UUID(int=5)
    upsert(
        node,
        qdrant.PointStruct(id=qdrant.PointId(uuid=str(key)), vectors=named("text", 1.0, 1.0)),
        *(point(number) for number in (2**64 - 1, 3, 7)),
    )
    assert node.ids() == [3, 7, 2**64 - 1, key]
    page = node("Scroll", qdrant.ScrollPoints(limit=2))
    assert page.next_page_offset.num == 2**64 - 1
    rest = node("Scroll", qdrant.ScrollPoints(offset=page.next_page_offset))
    assert [each.id.num or each.id.uuid for each in rest.result] == [2**64 - 1, str(key)]
    assert not rest.HasField("next_page_offset")


def test_get_answers_in_the_order_asked_with_what_is_selected(node: Node) -> None:
    upsert(node, *(point(number, a=number, b=0) for number in range(1, 4)))
    request = qdrant.GetPoints(
        ids=[num(3), num(9), num(1), num(3)],
        with_payload=qdrant.WithPayloadSelector(
            include=qdrant.PayloadIncludeSelector(fields=["a"])
        ),
        with_vectors=qdrant.WithVectorsSelector(include=qdrant.VectorsSelector(names=["text"])),
    )
    found = node("Get", request).result
    assert [each.id.num for each in found] == [3, 1]
    assert dict(found[0].payload) == {"a": integer(3)}
    assert list(found[0].vectors.vectors.vectors["text"].dense.data) == [1.0, 0.0]


def test_an_id_given_twice_is_written_as_given_last(node: Node) -> None:
    upsert(node, point(1, a=1), *(point(number) for number in range(2, 600)), point(1, a=2))
    assert node.payload(1) == {"a": 2}


def test_conditional_upserts(node: Node) -> None:
    upsert(node, point(1, v=1), point(2, v=5))
    upsert(node, point(1, v=9), point(2, v=9), update_filter=is_("v", 1))
    assert (node.payload(1), node.payload(2)) == ({"v": 9}, {"v": 5})
    upsert(node, point(2, v=7), point(3, v=7), update_mode=qdrant.UpdateMode.InsertOnly)
    assert (node.payload(2), node.payload(3)) == ({"v": 5}, {"v": 7})
    upsert(node, point(3, v=8), point(4, v=8), update_mode=qdrant.UpdateMode.UpdateOnly)
    assert (node.payload(3), node.ids()) == ({"v": 8}, [1, 2, 3])


def test_payloads_are_set_overwritten_and_taken_away(node: Node) -> None:
    upsert(node, point(1, a=1), point(2, a=1))
    fields = {"b": integer(2)}
    node("SetPayload", qdrant.SetPayloadPoints(payload=fields, points_selector=ids(1)))
    assert (node.payload(1), node.payload(2)) == ({"a": 1, "b": 2}, {"a": 1})
    where = qdrant.PointsSelector(filter=is_("b", 2))
    node("DeletePayload", qdrant.DeletePayloadPoints(keys=["a"], points_selector=where))
    assert node.payload(1) == {"b": 2}
    node("OverwritePayload", qdrant.SetPayloadPoints(payload=fields, points_selector=ids(2)))
    assert node.payload(2) == {"b": 2}
    node("ClearPayload", qdrant.ClearPayloadPoints(points=ids(1, 2)))
    assert (node.payload(1), node.payload(2)) == ({}, {})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (qdrant.PointStruct(id=num(2)), "Expected some vectors"),
        (qdrant.PointStruct(vectors=named("text", 1.0, 1.0)), "no id"),
        (qdrant.PointStruct(id=num(2), vectors=named("no", 1.0)), "vector name error: no"),
        (qdrant.PointStruct(id=num(2), vectors=named("text", 1.0)), "expected dim: 2, got 1"),
        (
            qdrant.PointStruct(
                id=num(2),
                vectors=named("text", 1.0, 1.0),
                payload={"f": qdrant.Value(double_value=math.inf)},
            ),
            "NaN or infinite",
        ),
        (
            qdrant.PointStruct(id=qdrant.PointId(uuid="x"), vectors=named("text", 1.0, 1.0)),
            "Unable to parse UUID",
        ),
    ],
)
def test_points_that_do_not_fit_are_refused(
    node: Node, wrong: qdrant.PointStruct, says: str
) -> None:
    with pytest.raises(RefusalError, match=says):
        upsert(node, point(1), wrong)
    assert node.ids() == []


def test_a_missing_point_stops_an_update_before_it_changes_others(node: Node) -> None:
    upsert(node, point(1))
    fields = {"b": integer(2)}
    with pytest.raises(RefusalError, match="Not found: No point with id 77 found"):
        node("SetPayload", qdrant.SetPayloadPoints(payload=fields, points_selector=ids(1, 77)))
    assert node.payload(1) == {}
    vectors = [
        qdrant.PointVectors(id=num(number), vectors=named("other", 3.0, 4.0)) for number in (1, 77)
    ]
    with pytest.raises(RefusalError, match="No point with id 77 found"):
        node("UpdateVectors", qdrant.UpdatePointVectors(points=vectors))
    has = qdrant.Condition(has_vector=qdrant.HasVectorCondition(has_vector="other"))
    assert node.ids(qdrant.Filter(must=[has])) == []


def test_vectors_are_updated_and_deleted(node: Node) -> None:
    upsert(node, point(1))
    other = qdrant.PointVectors(id=num(1), vectors=named("other", 3.0, 4.0))
    node("UpdateVectors", qdrant.UpdatePointVectors(points=[other]))
    node(
        "DeleteVectors",
        qdrant.DeletePointVectors(
            points_selector=ids(1), vectors=qdrant.VectorsSelector(names=["text"])
        ),
    )
    request = qdrant.GetPoints(ids=[num(1)], with_vectors=qdrant.WithVectorsSelector(enable=True))
    vectors = node("Get", request).result[0].vectors.vectors.vectors
    assert {name: list(each.dense.data) for name, each in vectors.items()} == {"other": [3.0, 4.0]}


def test_a_batch_is_checked_before_its_first_operation(node: Node) -> None:
    operation = qdrant.PointsUpdateOperation
    good = operation(upsert=operation.PointStructList(points=[point(1)]))
    bad = operation(delete_payload=operation.DeletePayload(keys=["x["], points_selector=ids(1)))
    with pytest.raises(ValueError, match="invalid JSON path"):
        node("UpdateBatch", qdrant.UpdateBatchPoints(operations=[good, bad]))
    assert node.ids() == []
    delete = operation(delete_points=operation.DeletePoints(points=ids(1)))
    answer = node("UpdateBatch", qdrant.UpdateBatchPoints(operations=[good, delete]))
    assert [each.status for each in answer.result] == [qdrant.UpdateStatus.Completed] * 2
    assert node.ids() == []


def test_points_are_deleted_by_id_and_by_filter(node: Node) -> None:
    upsert(node, *(point(number, a=number % 2) for number in range(1, 8)))
    node("Delete", qdrant.DeletePoints(points=ids(1, 99)))
    node("Delete", qdrant.DeletePoints(points=qdrant.PointsSelector(filter=is_("a", 0))))
    assert node.ids() == [3, 5, 7]
    assert node("Count", qdrant.CountPoints(filter=is_("a", 1))).result.count == 3


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (qdrant.Condition(has_id=qdrant.HasIdCondition(has_id=[num(2), num(9)])), [2]),
        (qdrant.Condition(is_empty=qdrant.IsEmptyCondition(key="b")), [1, 2]),
        (qdrant.Condition(has_vector=qdrant.HasVectorCondition(has_vector="text")), [1, 2, 3]),
        (
            qdrant.Condition(field=qdrant.FieldCondition(key="a", range=qdrant.Range(gte=2, lt=3))),
            [2],
        ),
        (
            qdrant.Condition(
                field=qdrant.FieldCondition(
                    key="a", match=qdrant.Match(integers=qdrant.RepeatedIntegers(integers=[1, 3]))
                )
            ),
            [1, 3],
        ),
        (qdrant.Condition(filter=qdrant.Filter(must_not=is_("a", 1).must)), [2, 3]),
    ],
)
def test_filters(node: Node, condition: qdrant.Condition, found: list[int]) -> None:
    upsert(node, point(1, a=1), point(2, a=2), point(3, a=3, b=0))
    assert node.ids(qdrant.Filter(must=[condition])) == found


@pytest.mark.parametrize(
    "condition",
    [
        qdrant.Condition(slice=qdrant.SliceCondition(total=2, index=0)),
        qdrant.Condition(),
        qdrant.Condition(field=qdrant.FieldCondition(key="a")),
    ],
)
def test_filters_that_would_be_misunderstood_are_refused(
    node: Node, condition: qdrant.Condition
) -> None:
    with pytest.raises(RefusalError):
        node.ids(qdrant.Filter(must=[condition]))


def test_queries(node: Node) -> None:
    upsert(node, *(point(number, float(number), a=number % 2) for number in range(1, 6)))

    def found(**asked: Any) -> list[int]:
        answer = node("Query", qdrant.QueryPoints(using="text", **asked))
        return [each.id.num for each in answer.result]

    assert found(query=nearest(1.0, 0.0), limit=2, offset=1) == [4, 3]
    assert found(query=nearest(1.0, 0.0), score_threshold=3.5) == [5, 4]
    assert found(query=nearest(1.0, 0.0), filter=is_("a", 0)) == [4, 2]
    by_id = qdrant.Query(nearest=qdrant.VectorInput(id=num(5)))
    assert found(query=by_id, limit=2) == [4, 3]
    prefetch = [
        qdrant.PrefetchQuery(query=nearest(sign, 0.0), using="text", limit=1)
        for sign in (1.0, -1.0)
    ]
    fused = found(prefetch=prefetch, query=qdrant.Query(fusion=qdrant.Fusion.RRF))
    assert sorted(fused) == [1, 5]
    with pytest.raises(RefusalError, match="recommend"):
        found(query=qdrant.Query(recommend=qdrant.RecommendInput()))
    searched = node("Search", qdrant.SearchPoints(vector=[1.0, 0.0], vector_name="text", limit=1))
    assert [each.id.num for each in searched.result] == [5]


def test_indexed_fields_are_counted_and_ordered_by(node: Node) -> None:
    upsert(node, *(point(number, a=number % 2) for number in range(1, 6)))
    index = qdrant.CreateFieldIndexCollection(
        field_name="a", field_type=qdrant.FieldType.FieldTypeInteger
    )
    node("CreateFieldIndex", index)
    hits = node("Facet", qdrant.FacetCounts(key="a")).hits
    assert {hit.value.integer_value: hit.count for hit in hits} == {1: 3, 0: 2}
    order = qdrant.OrderBy(key="a", direction=qdrant.Direction.Desc)
    page = node("Scroll", qdrant.ScrollPoints(order_by=order, limit=3))
    assert [each.order_value.int for each in page.result] == [1, 1, 1]
    node("DeleteFieldIndex", qdrant.DeleteFieldIndexCollection(field_name="a"))
    assert node.store.catalogue.collections["a"].indexes == {}


def test_the_log_is_flushed_after_enough_bytes(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[None] = []
    monkeypatch.setattr(shard.Shard, "_flush", lambda _: flushed.append(None))
    upsert(node, point(1))
    assert flushed == []
    monkeypatch.setattr(shard, "FLUSH_AFTER_BYTES", 1)
    upsert(node, point(1))
    assert flushed == [None]
