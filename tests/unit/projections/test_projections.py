"""Read models of scripted histories, in one go and in batches."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.model.recorded import Recorded
from domain.model.verification import VerificationLog
from domain.model.version import Occasion, Version
from domain.use_cases.project import Projection
from projections import PROJECTIONS
from projections.collections import Collections
from projections.migrations import Migrations
from projections.operations import Operations
from projections.versions import Versions
from tests.builders import few_examples, recorded_at
from tests.unit.projections.histories import (
    ASKED,
    PLAN,
    STREAM,
    TARGET,
    Story,
    completed,
    rolled_back,
)

Documents = dict[str, dict[str, Any]]


def at(position: int) -> str:
    return recorded_at(position).isoformat()


def apply(projection: Projection, events: Sequence[Recorded], before: bytes = b"{}") -> bytes:
    """The documents after a batch, as a database would keep them."""
    documents: dict[str, Any] = orjson.loads(before)
    for recorded in events:
        key = projection.key(recorded)
        if key is not None:
            document = projection.apply(documents.get(key), recorded)
            if document is None:
                documents.pop(key, None)
            else:
                documents[key] = document
    return orjson.dumps(documents, option=orjson.OPT_SORT_KEYS)


def view(projection: Projection, story: Story) -> Documents:
    found: Documents = orjson.loads(apply(projection, story.history.recorded))
    return found


def migration(story: Story) -> dict[str, Any]:
    return view(Migrations(), story)[str(STREAM)]


def test_read_models_have_their_own_names() -> None:
    assert len({projection.name for projection in PROJECTIONS}) == len(PROJECTIONS)


def test_a_completed_migration() -> None:
    assert view(Migrations(), completed()) == {
        str(STREAM): {
            "id": str(STREAM),
            "name": "split",
            "recipe": "per-domain-collections",
            "attempt": 1,
            "plan_hash": PLAN.hash,
            "steps": ["adopt", "create", "flow", "aliases"],
            "state": "completed",
            "phase": None,
            "step": None,
            "planned_by": "mara",
            "reason": "isolation",
            "planned_at": at(1),
            "started_at": at(2),
            "finished_at": at(22),
            "updated_at": at(22),
            "points": 100,
            "captured": 100,
            "routed": 95,
            "applied": 97,
            "unplaced": 5,
            "gaps": {"docs": 85},
            "done": ["adopt", "create", "flow", "aliases"],
            "undone": [],
            "errors": [],
            "statistics": {"points_moved": 95},
            "asked_by": "mara",
            "asked_reason": "isolation",
        }
    }


def test_a_planned_migration_has_neither_begun_nor_counted() -> None:
    found = migration(Story().planned())
    assert found["state"] == "planned"
    assert (found["phase"], found["step"], found["started_at"]) == (None, None, None)
    assert (found["captured"], found["routed"], found["applied"]) == (0, 0, 0)


def test_a_running_migration_shows_its_step_and_phase() -> None:
    found = migration(Story().planned().started().step(0).done(0).step(1))
    assert (found["state"], found["step"], found["phase"]) == ("running", "create", "creation")
    assert found["done"] == ["adopt"]


def test_a_failure_is_listed_and_stays_when_it_goes_on() -> None:
    story = Story().planned().started().step(0).failed(0, "disk full")
    error = {"at": at(4), "step": "adopt", "category": "Rejected", "error": "disk full"}
    assert (migration(story)["state"], migration(story)["errors"]) == ("failed", [error])
    resumed = migration(story.started())
    assert (resumed["state"], resumed["errors"]) == ("running", [error])
    assert resumed["started_at"] == at(2)


def test_a_rollback_undoes_and_remembers() -> None:
    asked = migration(completed().rollback_asked())
    assert (asked["state"], asked["finished_at"]) == ("rolling back", None)
    found = migration(rolled_back())
    assert (found["state"], found["finished_at"]) == ("rolled back", at(30))
    assert found["undone"] == ["aliases", "flow", "create", "adopt"]
    assert (found["phase"], found["step"], found["cancelled"]) == (None, None, False)
    assert (found["asked_by"], found["asked_reason"]) == ("tom", "wrong week")
    assert (found["planned_by"], found["reason"]) == ("mara", "isolation")


def test_a_rollback_while_it_runs_ends_cancelled() -> None:
    story = Story().planned().started().step(0).rollback_asked().undone(0).rolled_back()
    assert migration(story)["state"] == "cancelled"


def test_a_rollback_that_fails_says_so() -> None:
    found = migration(completed().rollback_asked().failed(3, "busy"))
    assert (found["state"], found["errors"][0]["error"]) == ("failed", "busy")


@pytest.mark.parametrize("told", [completed, rolled_back])
def test_the_view_has_the_state_of_the_aggregate(told: Any) -> None:
    story = told()
    assert migration(story)["state"] == str(story.migration.state)
    assert migration(story)["undone"] == list(story.migration.compensated)


def test_what_belongs_to_no_migration_makes_no_document() -> None:
    assert view(Migrations(), Story().created().range("route", 0, 5).changed(5)) == {}


def test_a_generation_through_its_life() -> None:
    live = view(Collections(), completed())[str(TARGET)]
    assert live == {
        "generation": str(TARGET),
        "collection": "docs",
        "store": "prod",
        "physical": "docs__g1",
        "number": 1,
        "origin": "created",
        "vectors": {"": {"kind": "dense", "dimension": 4, "distance": "cosine"}},
        "indexes": ["lang", "source_id"],
        "aliases": ["docs"],
        "points": 95,
        "state": "live",
        "verified": None,
        "verified_at": None,
        "drift": None,
        "recorded": 4,
        "migration": str(STREAM),
        "created_at": at(7),
        "updated_at": at(20),
    }
    gone = view(Collections(), rolled_back())[str(TARGET)]
    assert (gone["state"], gone["aliases"], gone["recorded"]) == ("dropped", [], 6)
    assert gone["updated_at"] == at(27)


def test_a_generation_that_was_let_go() -> None:
    story = Story().created()
    story.generation.release()
    story.history.record(story.generation)
    assert view(Collections(), story)[str(TARGET)]["state"] == "released"


def test_what_verifications_of_a_generation_found() -> None:
    story = Story().created()
    log = VerificationLog(str(TARGET), "prod", "docs__g1")
    log.held(through=3, position=20, points=95, digest="ab")
    story.history.record(log)
    found = view(Collections(), story)[str(TARGET)]
    held_at = found["verified_at"]
    assert held_at == at(len(story.history.recorded))
    assert (found["verified"], found["drift"]) == (3, None)

    drift = {"missing": 1, "extra": 0, "changed": 2, "differences": ["no index"]}
    log.drift_found(through=4, position=22, points=94, recorded=95, examples={}, **drift)
    story.history.record(log)
    found = view(Collections(), story)[str(TARGET)]
    assert (found["verified"], found["verified_at"]) == (3, held_at)
    assert found["drift"] == {**drift, "found_at": at(len(story.history.recorded))}

    log.held(through=4, position=22, points=95, digest="ab")
    story.history.record(log)
    found = view(Collections(), story)[str(TARGET)]
    assert (found["verified"], found["drift"]) == (4, None)


def test_every_event_is_an_operation_in_the_order_of_the_ledger() -> None:
    story = rolled_back()
    found = view(Operations(), story)
    assert [found[key]["position"] for key in sorted(found)] == list(range(1, 31))
    assert found[f"{13:019d}"] == {
        "position": 13,
        "at": at(13),
        "what": "flow.range-recorded",
        "stream": str(story.history.recorded[12].stream),
        "version": 1,
        "who": "worker",
        "established": "service",
        "why": "",
        "migration": str(STREAM),
        "cause": "7",
        "detail": {"kind": "route", "number": 1, "read": 50},
    }
    asked = found[f"{23:019d}"]
    assert (asked["who"], asked["established"], asked["why"]) == ("tom", "api-key", "wrong week")
    assert (asked["what"], asked["detail"]) == (
        "migration.rollback-requested",
        {"cancelled": False},
    )


def test_operations_leave_plans_and_schemas_out() -> None:
    found = view(Operations(), completed())
    assert found[f"{1:019d}"]["detail"] == {}
    assert found[f"{7:019d}"]["detail"] == {"physical": "docs__g1", "origin": "created"}
    assert found[f"{12:019d}"]["detail"] == {"upserts": 50, "deletes": 0, "captured": False}


EVENTS = rolled_back().history.recorded


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda p: p.name)
@few_examples
@given(cuts=st.lists(st.integers(0, len(EVENTS)), max_size=len(EVENTS)).map(sorted))
def test_any_split_into_batches_gives_the_same(projection: Projection, cuts: list[int]) -> None:
    documents = b"{}"
    for start, end in zip([0, *cuts], [*cuts, len(EVENTS)], strict=True):
        documents = apply(projection, EVENTS[start:end], documents)
    assert documents == apply(projection, EVENTS)


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda p: p.name)
def test_events_are_not_changed_by_applying_them(projection: Projection) -> None:
    assert apply(projection, EVENTS) == apply(projection, EVENTS)
    fresh = rolled_back().history.recorded
    assert [vars(one.event) for one in EVENTS] == [vars(one.event) for one in fresh]


def test_versions_say_what_was_noted_by_whom_and_why() -> None:
    version = Version(
        collection="docs",
        store="prod",
        physical="docs__g1",
        generation=str(TARGET),
        through=7,
        position=3,
        occasion=Occasion.TAGGED,
        label="as imported",
        migration="",
        points=40,
        digest="ab" * 32,
    )
    story = Story().planned()
    story.history.record(version, ASKED)

    [(key, document)] = view(Versions(), story).items()

    assert key == str(version.id)
    assert document == {
        "collection": "docs",
        "store": "prod",
        "physical": "docs__g1",
        "generation": str(TARGET),
        "through": 7,
        "position": 3,
        "occasion": "tagged",
        "label": "as imported",
        "migration": "",
        "points": 40,
        "digest": "ab" * 32,
        "noted_at": at(2),
        "actor": "mara",
        "reason": "isolation",
    }
