"""Events are for ever: their topics and fields are pinned, and the stored ones always load."""

import dataclasses
import json
import pkgutil
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.domain import AggregateEvent
from eventsourcing.utils import get_topic

import domain.model
from adapters.postgres.mapper import to_event, to_stored
from domain.model.aggregate import NOT_RECORDED, LedgerAggregate
from domain.model.application import Application
from domain.model.erasure import Erasure
from domain.model.flow import Flow, FlowRange
from domain.model.generation import Generation
from domain.model.migration import Migration
from domain.model.retention import Retention, Sweep
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.model.timeline import Finding, Timeline
from domain.model.verification import VerificationLog
from domain.model.version import Version
from tests.builders import plan_of

GOLDEN = Path(__file__).parents[2] / "golden"
STREAM = UUID("00112233-4455-6677-8899-aabbccddeeff")
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PLACE = {"originator_id", "originator_version", "timestamp"}

FIELDS = {
    "added": "a count",
    "alias": "a name of a collection",
    "attempt": "a number",
    "basis": "on which ground a person asks for an erasure, in their words",
    "batch": "a count",
    "before": "a version",
    "bodies": "addresses of objects",
    "cancelled": "yes or no",
    "captured": "yes or no",
    "category": "the class of an error",
    "cause": "what a store said about a change",
    "change": "a version",
    "changed": "a count",
    "collection": "a name of a collection",
    "deletes": "a count",
    "differences": "sentences on vectors and indexes",
    "digest": "a hash over points",
    "error": "what happened, in a sentence",
    "examples": "ids of points",
    "extra": "a count",
    "field": "a name of a payload field, not its values",
    "flow": "the id of a stream",
    "following": "a key of a point, or none",
    "found": "names of topics, collections and readers, with positions and hashes",
    "generation": "the id of a stream",
    "generations": "a count",
    "hash": "a hash of an event",
    "hold": "what a person calls a hold",
    "ids": "ids of points",
    "kept": "versions",
    "kind": "one of a few words",
    "label": "what a person calls a version",
    "lacking": "a count",
    "last": "a count",
    "left": "a count",
    "made": "yes or no",
    "manifest": "the address of an object",
    "migration": "the id of a stream",
    "missing": "a count",
    "name": "a name of a migration",
    "number": "a number",
    "objects": "addresses of objects, or a count of them",
    "occasion": "one of a few words",
    "origin": "one of a few words",
    "originator_topic": "a topic",
    "phase": "one of a few words",
    "physical": "a name of a collection",
    "placed": "counts by stream",
    "plan": "steps and facts: names, schemas and counts, rows of the table of sources",
    "plan_hash": "a hash",
    "points": "a count",
    "position": "a position in the ledger",
    "previous": "a name of a collection",
    "read": "a count",
    "recipe": "a name of a recipe",
    "recorded": "a count",
    "restore": "a name of a collection",
    "result": "names and counts of what a step did",
    "reverses": "the id of a stream",
    "routes": "values of one field, which are ids of sources, to streams",
    "schema": "how a collection is set up",
    "seconds": "a duration",
    "source": "the id of a stream or a range",
    "spec": "what a person wrote, without credentials",
    "statistics": "counts",
    "step": "the id of a step",
    "store": "a name of a connection",
    "subjects": "ids of points by stream",
    "through": "a version",
    "timeline": "a number",
    "unplaced": "counts by reason",
    "until": "a time",
    "upserts": "a count",
}
"""Every field that an event may have, and why it holds no payload, no vector and no secret."""


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def aggregates() -> list[type[Any]]:
    for module in pkgutil.walk_packages(domain.model.__path__, "domain.model."):
        import_module(module.name)
    found = [c for c in _subclasses(LedgerAggregate) if c.__module__.startswith("domain.model.")]
    return sorted(found, key=lambda c: c.__name__)


def events() -> list[type[AggregateEvent]]:
    return [
        event
        for aggregate in aggregates()
        for name, event in vars(aggregate).items()
        if isinstance(event, type) and issubclass(event, AggregateEvent) and name != "Event"
    ]


def explicit_topic(cls: type[Any]) -> str | None:
    """The topic that the class itself declares; the library may have derived a class of it."""
    own = [c for c in cls.__mro__ if c.__qualname__ == cls.__qualname__]
    return next((vars(c)["TOPIC"] for c in own if "TOPIC" in vars(c)), None)


def fields_of(event: type[Any]) -> list[str]:
    return sorted(field.name for field in dataclasses.fields(event) if field.name not in PLACE)


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


@pytest.mark.parametrize("cls", [*aggregates(), *events()], ids=lambda c: c.__qualname__)
def test_topics_are_explicit(cls: type[Any]) -> None:
    assert explicit_topic(cls)
    assert get_topic(cls) == explicit_topic(cls)


def test_topics_are_unique() -> None:
    topics = [get_topic(cls) for cls in [*aggregates(), *events()]]
    assert len(topics) == len(set(topics)) > 20


def test_topics_and_fields_are_the_pinned_ones() -> None:
    assert {get_topic(event): fields_of(event) for event in events()} == golden("events.json")


def test_every_field_was_argued() -> None:
    assert {field for event in events() for field in fields_of(event)} == set(FIELDS)


PLAN = plan_of(["adopt"], points={"shared": 3})
SCHEMA = CollectionSchema(
    {"": VectorSpec(VectorKind.DENSE, 4, Distance.COSINE)}, {"source_id": {"type": "keyword"}}
)
FOUND = Finding(
    where="topic ledger.events[3]",
    position=812,
    hash="ef" * 32,
    timeline=1,
    says="topic ledger.events[3] is at position 812, and the ledger ends at 640",
)
ROUTES = {"7": {"generation": str(STREAM), "captured_at": 12}}

EXPECTED: list[tuple[type[AggregateEvent], dict[str, Any]]] = [
    (
        Migration.Created,
        {
            "name": "split",
            "recipe": "per-domain-collections",
            "spec": {"version": 1, "name": "split"},
            "attempt": 1,
            "plan": PLAN.to_json(),
            "plan_hash": PLAN.hash,
        },
    ),
    (Migration.Started, {"plan_hash": PLAN.hash}),
    (Migration.StepStarted, {"step": "adopt", "phase": "backup"}),
    (Migration.StepCompleted, {"step": "adopt", "result": {"points": {"shared": 3}}}),
    (Migration.StepFailed, {"step": "adopt", "category": "Rejected", "error": "no é"}),
    (Migration.Completed, {"statistics": {"points_moved": 3, "errors": 0}}),
    (Migration.RollbackRequested, {"cancelled": True}),
    (Migration.StepCompensated, {"step": "adopt", "result": {}}),
    (Migration.RolledBack, {}),
    (Migration.RollbackFailed, {"step": "adopt", "category": "Conflict", "error": "busy"}),
    (
        Generation.Created,
        {
            "collection": "docs",
            "store": "prod",
            "physical": "docs__g1",
            "number": 1,
            "schema": json.loads(json.dumps(SCHEMA.to_json())),
            "origin": "created",
        },
    ),
    (
        Generation.ChangeSetRecorded,
        {
            "manifest": "ab" * 32,
            "upserts": 2,
            "deletes": 1,
            "added": 1,
            "captured": False,
            "source": {"flow": str(STREAM), "range": 0},
        },
    ),
    (
        Generation.RepairRecorded,
        {
            "manifest": "ab" * 32,
            "upserts": 2,
            "deletes": 1,
            "added": 0,
            "captured": False,
            "source": {},
        },
    ),
    (Generation.BodiesPacked, {"manifest": "ab" * 32, "points": 2}),
    (Generation.WritesHeld, {"migration": "8d6f"}),
    (Generation.WritesResumed, {"migration": "8d6f"}),
    (Generation.SchemaRestored, {"schema": json.loads(json.dumps(SCHEMA.to_json()))}),
    (Generation.AliasPointed, {"alias": "docs", "previous": None}),
    (Generation.AliasRemoved, {"alias": "docs", "restore": "docs__g1"}),
    (Generation.Dropped, {}),
    (Generation.Released, {}),
    (Application.Created, {"generation": str(STREAM), "physical": "docs__g1"}),
    (Application.ChangesApplied, {"through": 3, "points": 500}),
    (Application.ChangeDeadLettered, {"change": 4, "category": "Rejected", "cause": "too long"}),
    (Application.ChangeRetried, {"change": 4}),
    (Application.ChangeSkipped, {"change": 4}),
    (
        Application.StoreRecovered,
        {
            "through": 7,
            "timeline": 2,
            "made": False,
            "missing": 1,
            "extra": 2,
            "changed": 3,
            "left": 2,
            "lacking": 0,
        },
    ),
    (
        Flow.Created,
        {
            "migration": str(STREAM),
            "step": "flow/do/shared",
            "kind": "route",
            "source": str(STREAM),
            "through": 4,
            "batch": 500,
            "field": "source_id",
            "routes": ROUTES,
        },
    ),
    (Flow.ReturnPlanned, {"reverses": str(STREAM), "until": "2026-11-29T10:00:00+00:00"}),
    (
        FlowRange.Created,
        {
            "flow": str(STREAM),
            "kind": "route",
            "number": 0,
            "read": 10,
            "placed": {str(STREAM): 9},
            "unplaced": {"missing": 1},
            "examples": {"missing": [18446744073709551615, "id"]},
            "following": {"after": "00ff"},
        },
    ),
    (
        Timeline.Created,
        {"number": 2, "position": 640, "hash": "cd" * 32, "found": [FOUND.to_json()]},
    ),
    (Timeline.Recovered, {"statistics": {"collections": 3, "extra": 2}}),
    (
        VerificationLog.Created,
        {"generation": str(STREAM), "store": "prod", "physical": "docs__g1"},
    ),
    (
        VerificationLog.Held,
        {
            "generation": str(STREAM),
            "through": 4,
            "position": 640,
            "points": 10,
            "digest": "ef" * 32,
        },
    ),
    (
        VerificationLog.DriftFound,
        {
            "generation": str(STREAM),
            "through": 4,
            "position": 640,
            "points": 10,
            "recorded": 11,
            "missing": 1,
            "extra": 0,
            "changed": 2,
            "differences": ["the index of 'source_id' is missing"],
            "examples": {"missing": [7], "changed": ["id", 18446744073709551615]},
        },
    ),
    (
        Version.Created,
        {
            "collection": "docs",
            "store": "prod",
            "physical": "docs__g1",
            "generation": str(STREAM),
            "through": 4,
            "position": 640,
            "occasion": "tagged",
            "label": "before the clean-up",
            "migration": "",
            "points": 10,
            "digest": "ef" * 32,
        },
    ),
    (Retention.Created, {"store": "prod", "collection": "docs"}),
    (Retention.PolicySet, {"last": 3, "seconds": None}),
    (Retention.PolicyRemoved, {}),
    (Retention.HoldPlaced, {"hold": "case 7"}),
    (Retention.HoldLifted, {"hold": "case 7"}),
    (Retention.VersionsArchived, {"generation": str(STREAM), "before": 8, "kept": [4]}),
    (Sweep.Created, {"bodies": ["ab" * 32]}),
    (
        Erasure.Created,
        {
            "number": 1,
            "basis": "GDPR Art. 17",
            "subjects": {str(STREAM): [7, "00000000-0000-0000-0000-000000000007"]},
        },
    ),
    (Erasure.ObjectsRewritten, {"objects": {"ab" * 32: "cd" * 32}}),
    (
        Erasure.SubjectErased,
        {"ids": [7, "00000000-0000-0000-0000-000000000007"], "generations": 1, "objects": 1},
    ),
]


def expected_event(cls: type[Any], fields: dict[str, Any], at: datetime) -> AggregateEvent:
    first = issubclass(cls, LedgerAggregate.Created)
    if first:
        aggregate = next(a for a in aggregates() if vars(a).get("Created") is cls)
        fields = {**fields, "originator_topic": get_topic(aggregate)}
    event: AggregateEvent = cls(
        originator_id=STREAM, originator_version=1 if first else 2, timestamp=at, **fields
    )
    return event


def test_there_is_a_stored_event_for_each_topic() -> None:
    stored = [row["topic"] for row in golden("stored_events.json")]
    assert stored == [get_topic(cls) for cls, _ in EXPECTED]
    assert sorted(stored) == sorted(get_topic(event) for event in events())


@pytest.mark.parametrize(
    ("index", "cls", "fields"),
    [(index, *pair) for index, pair in enumerate(EXPECTED)],
    ids=[get_topic(cls) for cls, _ in EXPECTED],
)
def test_yesterdays_events_load_and_are_written_the_same(
    index: int, cls: type[AggregateEvent], fields: dict[str, Any]
) -> None:
    row = golden("stored_events.json")[index]
    state = row["state"].encode()
    stored = {"stream": UUID(row["stream"]), "topic": row["topic"], "state": state}
    loaded = to_event({**stored, "version": row["version"], "recorded_at": AT})
    assert loaded == expected_event(cls, fields, AT)
    written = to_stored(expected_event(cls, fields, NOT_RECORDED))
    assert (written.topic, written.state) == (row["topic"], state)
