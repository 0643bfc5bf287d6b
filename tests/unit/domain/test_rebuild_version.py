"""The plan of `rebuild-version`."""

from dataclasses import replace
from typing import Any

import pytest

from domain.model.errors import InvalidSpec
from domain.model.plan import Plan, StepKind
from domain.model.recipes import recipe_for
from domain.model.recipes.recipe import StoreFacts, VersionFacts
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec

SCHEMA = CollectionSchema(
    {"": VectorSpec(VectorKind.DENSE, 4, Distance.COSINE)}, {"source_id": {"type": "keyword"}}
)
VERSION = VersionFacts("a-generation", "docs__g1", SCHEMA, 7, 812, 40, "ab" * 32)
FACTS = StoreFacts(frozenset(), {}, {}, frozenset(), VERSION)


def planned(facts: StoreFacts = FACTS, **to: Any) -> Plan:
    recipe, spec = recipe_for(
        {
            "version": 1,
            "name": "rebuild docs",
            "recipe": "rebuild-version",
            "reason": "audit",
            "from": {"store": "prod", "collection": "docs", "at": "as imported"},
            "to": {"store": "other", "collection": "then", **to},
        }
    )
    assert recipe.table(spec) is None
    assert recipe.version(spec) == ("prod", "docs", "as imported")
    assert (recipe.store(spec), recipe.collections(spec, [])) == ("other", [])
    return recipe.plan(spec, [], facts)


def test_it_is_created_filled_checked_and_named() -> None:
    plan = planned()

    assert [step.kind for step in plan.steps] == [
        StepKind.CREATE,
        StepKind.FLOW,
        StepKind.CHECK,
        StepKind.POINT_ALIASES,
        StepKind.RESUME_WRITES,
    ]
    create, flow, check, aliases, resume = (step.params for step in plan.steps)
    assert resume["collections"] == ["then__g1"]
    [target] = create["collections"]
    assert (target["collection"], target["physical"]) == ("then", "then__g1")
    assert create["schemas"][target["schema"]] == SCHEMA.to_json()
    [source] = flow["flows"]
    assert source["version"] == {"generation": "a-generation", "through": 7}
    assert source["routes"] == {"*": "then__g1"}
    assert check["digests"] == {"then__g1": "ab" * 32}
    assert aliases["aliases"] == {"then": "then__g1"}
    assert {step.params["store"] for step in plan.steps} == {"other"}


def test_a_physical_name_needs_no_alias() -> None:
    plan = planned(naming="physical")
    kinds = [step.kind for step in plan.steps]
    assert kinds[2:] == [StepKind.CHECK, StepKind.RESUME_WRITES]
    assert plan.steps[2].params["digests"] == {"then": "ab" * 32}


def test_names_of_generations_are_not_used_again() -> None:
    facts = replace(FACTS, taken=frozenset({"then__g1"}), collections=frozenset({"then__g2"}))
    [target] = planned(facts).steps[0].params["collections"]
    assert target["physical"] == "then__g3"


@pytest.mark.parametrize("naming", ["alias", "physical"])
@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, collections=frozenset({"then"})),
        replace(FACTS, aliases={"then": "something"}),
    ],
    ids=["collection", "alias"],
)
def test_a_name_that_exists_is_refused(facts: StoreFacts, naming: str) -> None:
    with pytest.raises(InvalidSpec, match="'then' exists in store 'other'"):
        planned(facts, naming=naming)


def test_a_name_that_no_store_takes_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="forbidden character"):
        planned(collection="a/b")


def test_another_digest_makes_the_plan_stale() -> None:
    now = planned(replace(FACTS, version=replace(VERSION, digest="cd" * 32)))
    assert now.hash != planned().hash
    assert any("version digest was" in one for one in now.drift_from(planned()))
