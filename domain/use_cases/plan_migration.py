"""Plan a migration: check the spec, inspect the world, let the recipe decide, record the plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domain.model.aggregate import Context
from domain.model.errors import Corrupt
from domain.model.generation import Generation
from domain.model.migration import Migration, State
from domain.model.plan import Plan
from domain.model.recipes import recipe_for
from domain.model.recipes.recipe import Recipe, Repeats, StoreFacts, VersionFacts
from domain.model.spec import Spec
from domain.use_cases.later_changes import later_changes
from domain.use_cases.no_longer_true import no_longer_true
from domain.use_cases.rebuildable import rebuildable
from domain.use_cases.tools import Tools, save
from domain.use_cases.versions import Place, digest_at, find_version


@dataclass(frozen=True)
class Planned:
    """A plan, and the migration that has it.

    Attributes:
        plan: the steps.
        migration: the migration of this spec: new, or one that was under way or done already.
        recorded: whether the plan is in the ledger.
    """

    plan: Plan
    migration: Migration
    recorded: bool


async def plan_migration(
    tools: Tools, document: Mapping[str, Any], context: Context, *, record: bool = True
) -> Planned:
    """The plan of a spec.

    A spec that is under way or completed keeps its migration and plan. One that was only planned
    is planned anew if the world has changed; one that was undone starts another attempt.

    Raises:
        InvalidSpec: with a sentence for everything that stands in the way.
        NotFound: a connection, table or column does not exist.
    """
    recipe, spec = recipe_for(document)
    canonical = spec.model_dump(mode="json", by_alias=True)
    attempt, latest = await _latest(tools, canonical)
    if latest is not None and await _stands(tools, recipe, latest):
        return Planned(latest.plan, latest, recorded=True)
    plan = await _plan(tools, recipe, spec)
    if latest is not None and latest.state is State.PLANNED and latest.plan_hash == plan.hash:
        return Planned(plan, latest, recorded=True)
    migration = Migration(
        name=spec.name,
        recipe=spec.recipe,
        spec=canonical,
        attempt=attempt + 1,
        plan=plan.to_json(),
        plan_hash=plan.hash,
    )
    if record:
        await save(tools.ledger, migration, f"plan/{migration.id}", context)
    return Planned(plan, migration, recorded=record)


async def _stands(tools: Tools, recipe: Recipe, migration: Migration) -> bool:
    """Whether a spec keeps the migration that it has."""
    if migration.state is State.COMPLETED and recipe.repeats is Repeats.WHEN_UNTRUE:
        return not await no_longer_true(tools, migration)
    if migration.state is State.COMPLETED:
        return recipe.repeats is Repeats.NEVER
    return migration.state in {State.RUNNING, State.ROLLING_BACK, State.FAILED}


async def replan(tools: Tools, migration: Migration) -> Plan:
    """The plan that the spec of a migration would get now."""
    recipe, spec = recipe_for(migration.spec)
    return await _plan(tools, recipe, spec)


async def _latest(tools: Tools, spec: dict[str, Any]) -> tuple[int, Migration | None]:
    attempt, latest = 0, None
    while True:
        found = await tools.ledger.load(Migration, Migration.create_id(spec, attempt + 1))
        if found is None:
            return attempt, latest
        attempt, latest = attempt + 1, found


async def _plan(tools: Tools, recipe: Recipe, spec: Spec) -> Plan:
    table = recipe.table(spec)
    rows = await tools.stores.table(*table).rows() if table else []
    name = recipe.store(spec)
    store = tools.stores.store(name)
    described = {}
    collections = frozenset(await store.collections())
    aliases = await store.aliases()
    for collection in recipe.collections(spec, rows):
        physical = aliases.get(collection, collection)
        if physical in collections:
            description = await store.describe(physical)
            if description is not None:
                described[physical] = description
    known = await tools.applications.generations(store=name)
    place = await _place(tools, recipe, spec)
    facts = StoreFacts(
        collections=collections,
        aliases=aliases,
        described=described,
        taken=frozenset(status.physical for status in known),
        logical={status.physical: status.collection for status in known if not status.gone},
        held={s.physical: s.holders for s in known if s.holders and not s.gone},
        version=await _version(tools, place) if place is not None else None,
        later=await later_changes(tools, place)
        if place is not None and recipe.looks_at_later_changes
        else None,
    )
    return recipe.plan(spec, rows, facts)


async def _place(tools: Tools, recipe: Recipe, spec: Spec) -> Place | None:
    """The version that a recipe asks for, if it does."""
    wanted = recipe.version(spec)
    return await find_version(tools, *wanted) if wanted is not None else None


async def _version(tools: Tools, place: Place) -> VersionFacts:
    generation = await tools.ledger.load(Generation, place.status.generation)
    if generation is None:
        raise Corrupt(f"generation {place.status.generation} has no events")
    digest = await digest_at(tools.ledger, generation.id, place.through)
    return VersionFacts(
        generation=str(generation.id),
        physical=generation.physical,
        schema=generation.schema,
        through=place.through,
        position=place.position,
        points=digest.points,
        digest=digest.hexdigest(),
        not_rebuildable=await (await rebuildable(tools, generation.id)).why_not(place.through),
        erased=await tools.ledger.count_erased(generation.id, place.through),
    )
