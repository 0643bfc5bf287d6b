"""Generations, what appliers report of them, and flows."""

from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.model.application import Application
from domain.model.errors import Rejected
from domain.model.flow import Flow, FlowRange
from domain.model.generation import Generation
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from tests.builders import few_examples
from tests.unit.domain.scenario import Fact, Given, collected, fact, replayed

SCHEMA = CollectionSchema({"": VectorSpec(VectorKind.DENSE, 4, Distance.COSINE)})

created = fact(
    Generation.Created,
    collection="docs",
    store="prod",
    physical="docs__g1",
    number=1,
    schema=SCHEMA.to_json(),
    origin="created",
)
dropped = fact(Generation.Dropped)
released = fact(Generation.Released)
pointed = fact(Generation.AliasPointed, alias="docs", previous=None)


def changed(added: int) -> Fact:
    return fact(
        Generation.ChangeSetRecorded,
        manifest="ab" * 32,
        upserts=max(added, 0),
        deletes=max(-added, 0),
        added=added,
        captured=False,
        source={"flow": "f", "range": 0},
    )


def point(generation: Generation) -> None:
    generation.point_alias("docs", None)


def unpoint(generation: Generation) -> None:
    generation.remove_alias("docs", "old")


def test_a_generation_begins_empty_and_live() -> None:
    found = Given(Generation, created).aggregate
    assert (found.collection, found.store, found.physical) == ("docs", "prod", "docs__g1")
    assert (found.points, found.aliases, found.gone) == (0, set(), False)
    assert found.schema == SCHEMA
    assert found.id == Generation.create_id("prod", "docs__g1", 1)
    assert found.id != Generation.create_id("prod", "docs__g1", 2)


def test_change_sets_count_its_points() -> None:
    assert Given(Generation, created, changed(5), changed(-2), changed(4)).aggregate.points == 7


def test_an_alias_comes_and_goes() -> None:
    removed = fact(Generation.AliasRemoved, alias="docs", restore="old")
    assert Given(Generation, created).when(point).then(pointed).aliases == {"docs"}
    assert Given(Generation, created, pointed).when(unpoint).then(removed).aliases == set()


@pytest.mark.parametrize(
    ("leave", "left"), [(Generation.drop, dropped), (Generation.release, released)]
)
def test_a_generation_is_left_once(leave: Callable[[Generation], None], left: Fact) -> None:
    assert Given(Generation, created).when(leave).then(left).gone
    for command in (Generation.drop, Generation.release, point):
        Given(Generation, created, left).when(command).refused("dropped or released already")


def test_dropping_and_releasing_are_told_apart() -> None:
    assert not Given(Generation, created, dropped).aggregate.released
    assert not Given(Generation, created, released).aggregate.dropped


reported = fact(Application.Created, generation="g", physical="docs__g1")
applied = fact(Application.ChangesApplied, through=3, points=500)
dead = fact(Application.ChangeDeadLettered, change=4, category="Rejected", cause="too long")
retried = fact(Application.ChangeRetried, change=4)
skipped = fact(Application.ChangeSkipped, change=4)


def receive(application: Application) -> None:
    application.receipt(3, 500)


def refuse(application: Application) -> None:
    application.dead_letter(4, "Rejected", "too long")


def test_a_receipt_moves_the_applied_version() -> None:
    found = Given(Application, reported).when(receive).then(applied)
    assert (found.applied, found.halted_at) == (3, None)


def test_a_dead_letter_halts_in_front_of_the_change() -> None:
    found = Given(Application, reported, applied).when(refuse).then(dead)
    assert (found.applied, found.halted_at) == (3, 4)
    assert (found.category, found.cause) == ("Rejected", "too long")


def test_a_retry_goes_on_at_the_change() -> None:
    found = Given(Application, reported, applied, dead).when(Application.retry).then(retried)
    assert (found.applied, found.halted_at) == (3, None)


def test_a_skip_goes_on_behind_the_change() -> None:
    found = Given(Application, reported, applied, dead).when(Application.skip).then(skipped)
    assert (found.applied, found.halted_at) == (4, None)


@pytest.mark.parametrize("ask", [Application.retry, Application.skip])
@pytest.mark.parametrize("history", [(), (applied,), (applied, dead, retried), (dead, skipped)])
def test_nothing_is_retried_or_skipped_where_nothing_halts(
    ask: Callable[[Application], None], history: tuple[Fact, ...]
) -> None:
    Given(Application, reported, *history).when(ask).refused("has no dead letter")


@few_examples
@given(
    st.lists(st.sampled_from([receive, refuse, Application.retry, Application.skip]), max_size=12)
)
def test_reports_replay(commands: list[Callable[[Application], None]]) -> None:
    begun = Given(Application, reported)
    found, events = begun.aggregate, list(begun.events)
    for command in commands:
        with suppress(Rejected):
            command(found)
        events += collected(found)
    assert replayed(events) == found


def test_a_flow_says_what_it_reads_and_where_it_goes() -> None:
    routes = {"1": {"generation": str(UUID(int=2)), "captured_at": 7}}
    found = Given(
        Flow,
        fact(
            Flow.Created,
            migration="m",
            step="flow/do/shared",
            kind="route",
            source=str(UUID(int=1)),
            through=4,
            batch=500,
            field="source_id",
            routes=routes,
        ),
    ).aggregate
    assert found.source == UUID(int=1)
    assert (found.migration, found.step, found.kind) == ("m", "flow/do/shared", "route")
    assert (found.batch, found.field, found.routes) == (500, "source_id", routes)
    assert found.id == Flow.create_id("m", "flow/do/shared")


def test_a_range_says_what_was_found_and_what_follows() -> None:
    found = Given(
        FlowRange,
        fact(
            FlowRange.Created,
            flow="f",
            kind="route",
            number=0,
            read=10,
            placed={"g": 7},
            unplaced={"missing": 3},
            examples={"missing": [1, "x"]},
            following={"after": "00ff"},
        ),
    ).aggregate
    assert (found.flow, found.kind, found.number, found.read) == ("f", "route", 0, 10)
    assert (found.placed, found.unplaced) == ({"g": 7}, {"missing": 3})
    assert (found.examples, found.following) == ({"missing": [1, "x"]}, {"after": "00ff"})
    assert found.id == FlowRange.create_id("f", 0) != FlowRange.create_id("f", 1)


def test_streams_of_the_same_name_are_the_same_and_of_other_kinds_are_not() -> None:
    assert Flow.create_id("a", "b") == Flow.create_id("a", "b")
    ids = {
        Flow.create_id("a", "1"),
        FlowRange.create_id("a", 1),
        Generation.create_id("a", "a", 1),
        Application.create_id("a"),
    }
    assert len(ids) == 4
