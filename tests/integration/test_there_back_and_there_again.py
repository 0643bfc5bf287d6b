"""Every kind of step is applied, undone and applied again, and clients see the same each time."""

import re
from dataclasses import replace
from typing import Any

import pytest

from domain.model.migration import Migration, State
from domain.model.plan import StepKind
from domain.model.recipes import RECIPES
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.steps import EXECUTORS
from domain.use_cases.versions import tag_version
from domain.use_cases.write_points import Delete, Upsert
from tests.integration.builders import CODE, DOCS, code_points, document_points
from tests.integration.worlds import CONNECTION, MARA, STORE, World
from tests.integration.writers import live_write

LABEL = "before the clean-up"
SEVERAL = replace(DOCS, indexes={**DOCS.indexes, "n": {"type": "integer", "range": True}})
"""Documents with more than one index."""

GENERATION = re.compile(r"__g\d+$")

COMPARISONS = {StepKind.CHECK, StepKind.LOOK_AGAIN}
"""Kinds of steps that change nothing, so that there is nothing to undo."""

INTO_EXISTING = "per-domain-into-what-exists"
KINDS: dict[str, dict[str, Any]] = {
    "per-domain-dropped": {
        "recipe": "per-domain-collections",
        "from": {
            "connection": CONNECTION,
            "table": "{schema}.sources",
            "store": STORE,
            "collections": {"documents": "{docs}", "code": "{code}"},
            "observed": True,
        },
        "to": {"store": STORE},
        "after": "drop",
    },
    INTO_EXISTING: {
        "recipe": "per-domain-collections",
        "from": {
            "connection": CONNECTION,
            "table": "{schema}.sources",
            "store": STORE,
            "collections": {"documents": "{docs}", "code": "{code}"},
        },
        "to": {"store": STORE, "naming": "physical"},
        "warm_for": "7d",
    },
    "new-generation-replaces": {
        "recipe": "new-generation",
        "from": {"store": STORE, "collection": "{docs}"},
        "to": {"replace": True},
    },
    "new-generation-of-an-alias": {
        "recipe": "new-generation",
        "from": {"store": STORE, "collection": "{prefix}_alias"},
    },
    "new-generation-with-a-new-name": {
        "recipe": "new-generation",
        "from": {"store": STORE, "collection": "{docs}", "observed": True},
        "to": {"name": "{prefix}_new"},
        "warm_for": "7d",
    },
    "restore-version": {
        "recipe": "restore-version",
        "store": STORE,
        "collection": "{prefix}_direct",
        "to": LABEL,
        "later_writes": "discard",
    },
    "rebuild-version": {
        "recipe": "rebuild-version",
        "from": {"store": STORE, "collection": "{prefix}_direct", "at": LABEL},
        "to": {"store": STORE, "collection": "{prefix}_then"},
    },
    "adopt-collections": {
        "recipe": "adopt-collections",
        "store": STORE,
        "collections": ["{docs}", "{code}"],
    },
}
"""A spec of each kind of migration, and of each way that a recipe has."""


def spec(world: World, kind: str) -> dict[str, Any]:
    """A spec of `KINDS`, with the names of a world."""

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [named(inner) for inner in value]
        if not isinstance(value, str):
            return value
        return value.format(
            schema=world.schema, prefix=world.prefix, docs=world.docs, code=world.code
        )

    return {
        "version": 1,
        "name": kind,
        "reason": MARA.reason,
        "batch": {"size": 5},
        **named(KINDS[kind]),
    }


async def planned(world: World, kind: str, *, record: bool = True) -> Migration:
    found = await plan_migration(world.tools, spec(world, kind), MARA, record=record)
    return found.migration


async def small(world: World) -> None:
    """All that these migrations work on: sources, shared collections, and one with a history."""
    await world.add_source(1, world.named("One"), ["documents", "code"])
    await world.add_source(2, world.named("Two"), ["documents"], {})
    stored = {"documents": world.named("stored.docs")}
    await world.add_source(3, world.named("Three"), ["documents"], stored)
    await world.share(world.docs, SEVERAL, document_points(["1", 2, "3"] * 4))
    await world.share(world.code, CODE, code_points([1] * 7))
    await world.store.point_alias(world.named("alias"), world.docs)

    generation = await world.generation("direct")
    async with world.applier():
        await world.applied(generation)
        name, points = world.named("direct"), document_points(["1"] * 9)
        await live_write(world, name, Upsert(points))
        await tag_version(world.tools, STORE, name, LABEL, None, MARA)
        await live_write(world, name, Upsert(document_points(["2"] * 4, seed=5)))
        await live_write(world, name, Delete(points.keys[5:7]))
        await live_write(world, name, Upsert(document_points(["3"] * 3, first=900)))
        await world.applied(generation)


async def seen(world: World) -> dict[str, Any]:
    """What clients see, by names without the numbers of generations.

    That is every collection with its points, vectors, indexes and settings, every alias, the rows
    of the application, and which collections take live writes.
    """
    picture = await world.picture()
    return {
        "points": {unnumbered(name): digest for name, digest in picture["collections"].items()},
        "schemas": {
            unnumbered(name): replace(found, name=unnumbered(name))
            for name, found in picture["schemas"].items()
        },
        "aliases": {alias: unnumbered(name) for alias, name in picture["aliases"].items()},
        "rows": picture["rows"],
        "looked after": {
            unnumbered(status.physical): (status.points, bool(status.holders))
            for status in await world.tools.applications.generations()
            if not status.gone
        },
    }


def unnumbered(name: str) -> str:
    return GENERATION.sub("__g", name)


@pytest.mark.parametrize("kind", KINDS)
async def test_applied_undone_applied_and_undone(world: World, kind: str) -> None:
    await small(world)
    if kind == INTO_EXISTING:
        await world.store.create(world.named("Two_documents"), SEVERAL)
    before, applied = await seen(world), []
    for attempt in (1, 2):
        migration = await planned(world, kind)
        assert migration.attempt == attempt

        done = await world.run(migration)

        assert done.state is State.COMPLETED, done.error
        assert set(done.results) == {step.id for step in done.plan.steps}
        applied.append(await seen(world))

        back = await world.roll_back(done)

        assert back.state is State.ROLLED_BACK, back.error
        assert set(back.compensated) == set(done.results)
        idle = {step.kind for step in done.plan.steps if not back.compensated[step.id]}
        assert idle <= COMPARISONS
        assert await seen(world) == before
    assert applied[0] != before
    assert applied[0] == applied[1]


async def test_these_migrations_have_every_kind_of_step(world: World) -> None:
    """Whoever adds one adds a migration above that has it."""
    await small(world)
    migrations = [await planned(world, kind, record=False) for kind in KINDS]
    kinds = {step.kind for migration in migrations for step in migration.plan.steps}
    assert kinds == set(StepKind) == set(EXECUTORS)
    assert {migration.recipe for migration in migrations} == set(RECIPES)
