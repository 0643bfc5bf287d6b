"""A scripted history of one migration, as the ledger would have it."""

from typing import Any
from uuid import UUID

from domain.model.aggregate import Actor, Context
from domain.model.application import Application
from domain.model.flow import Flow, FlowRange
from domain.model.generation import Generation
from domain.model.migration import Migration
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from tests.builders import MARA, History, plan_of

PLAN = plan_of(["adopt", "create", "flow", "aliases"], points={"shared": 60, "code": 40})
SCHEMA = CollectionSchema(
    {"": VectorSpec(VectorKind.DENSE, 4, Distance.COSINE, {"on_disk": True})},
    {"source_id": {"type": "keyword"}, "lang": {"type": "keyword"}},
)
SPEC = {"name": "split", "on_failure": "rollback"}
STREAM = Migration.create_id(SPEC, 1)
ASKED = Context(MARA, "isolation", str(STREAM), "request-1")
ROLLED = Context(Actor("tom", "api-key"), "wrong week", str(STREAM), "request-2")
WORKER = Context(Actor("worker", "service"), "", str(STREAM), "7")
TARGET = Generation.create_id("prod", "docs__g1", 1)


class Story:
    """A migration that can be told as far as somebody wants it."""

    def __init__(self) -> None:
        self.history = History()
        self.migration = Migration(
            name="split",
            recipe="per-domain-collections",
            spec=SPEC,
            attempt=1,
            plan=PLAN.to_json(),
            plan_hash=PLAN.hash,
        )
        self.generation = Generation(
            collection="docs",
            store="prod",
            physical="docs__g1",
            number=1,
            schema=SCHEMA.to_json(),
            origin="created",
        )
        self.application = Application(generation=str(TARGET), physical="docs__g1")

    def planned(self) -> "Story":
        self.history.record(self.migration, ASKED)
        return self

    def started(self) -> "Story":
        self.migration.start(PLAN.hash)
        self.history.record(self.migration, ASKED)
        return self

    def step(self, number: int) -> "Story":
        self.migration.start_step(PLAN.steps[number])
        self.history.record(self.migration, WORKER)
        return self

    def done(self, number: int, **result: Any) -> "Story":
        self.migration.complete_step(PLAN.steps[number], result)
        self.history.record(self.migration, WORKER)
        return self

    def range(self, kind: str, number: int, placed: int, unplaced: int = 0) -> "Story":
        flow = Flow.create_id(str(STREAM), kind)
        found = FlowRange(
            flow=str(flow),
            kind=kind,
            number=number,
            read=placed + unplaced,
            placed={str(TARGET): placed},
            unplaced={"unknown": unplaced} if unplaced else {},
            examples={},
            following=None,
        )
        self.history.record(found, WORKER)
        return self

    def flow(self) -> "Story":
        flow = Flow(
            migration=str(STREAM),
            step="flow",
            kind="route",
            source=str(UUID(int=1)),
            through=4,
            batch=500,
            field="source_id",
            routes={},
        )
        self.history.record(flow, WORKER)
        return self

    def created(self) -> "Story":
        self.history.record(self.generation, WORKER)
        return self

    def changed(self, upserts: int, deletes: int = 0) -> "Story":
        self.generation.trigger_event(
            Generation.ChangeSetRecorded,
            manifest="ab" * 32,
            upserts=upserts,
            deletes=deletes,
            added=upserts - deletes,
            captured=False,
            source={},
        )
        self.history.record(self.generation, WORKER)
        return self

    def applied(self, through: int, points: int) -> "Story":
        self.application.receipt(through, points)
        self.history.record(self.application, WORKER)
        return self

    def pointed(self) -> "Story":
        self.generation.point_alias("docs", None)
        self.history.record(self.generation, WORKER)
        return self

    def completed(self) -> "Story":
        self.migration.complete({"points_moved": 95})
        self.history.record(self.migration, WORKER)
        return self

    def failed(self, number: int, error: str = "no") -> "Story":
        self.migration.fail_step(PLAN.steps[number], "Rejected", error)
        self.history.record(self.migration, WORKER)
        return self

    def rollback_asked(self) -> "Story":
        self.migration.request_rollback()
        self.history.record(self.migration, ROLLED)
        return self

    def undone(self, number: int) -> "Story":
        self.migration.compensate_step(PLAN.steps[number], {})
        self.history.record(self.migration, WORKER)
        return self

    def unpointed(self) -> "Story":
        self.generation.remove_alias("docs", None)
        self.history.record(self.generation, WORKER)
        return self

    def dropped(self) -> "Story":
        self.generation.drop()
        self.history.record(self.generation, WORKER)
        return self

    def rolled_back(self) -> "Story":
        self.migration.finish_rollback()
        self.history.record(self.migration, WORKER)
        return self


def completed() -> Story:
    """A migration that went well."""
    return (
        Story()
        .planned()
        .started()
        .step(0)
        .range("capture", 0, 100)
        .done(0)
        .step(1)
        .created()
        .done(1)
        .step(2)
        .flow()
        .range("route", 0, 50)
        .changed(50)
        .range("route", 1, 45, unplaced=5)
        .changed(46, deletes=1)
        .applied(2, 50)
        .applied(3, 47)
        .done(2)
        .step(3)
        .pointed()
        .done(3, gap_ms={"docs": 85})
        .completed()
    )


def rolled_back() -> Story:
    """The same, and somebody did not want it."""
    return (
        completed()
        .rollback_asked()
        .undone(3)
        .unpointed()
        .undone(2)
        .dropped()
        .undone(1)
        .undone(0)
        .rolled_back()
    )
