"""The recipe that puts an alias in front: its three ways, their steps, refusals and notes."""

from dataclasses import replace
from typing import Any

import pytest

from domain.model.errors import InvalidSpec, Rejected
from domain.model.plan import Phase, Plan
from domain.model.recipes import RECIPES, recipe_for
from domain.model.recipes.recipe import StoreFacts
from domain.model.spec import Spec
from tests.unit.domain.specs import DOCS, ids, step, store

BEHIND = replace(
    store(
        collections={"documents__g1": (DOCS, 30)},
        aliases={"documents": "documents__g1", "docs": "documents__g1", "else": "shared_code"},
        taken=("documents__g1",),
    ),
    logical={"documents__g1": "documents"},
)
NEW_NAME = {"name": "docs_v2"}
REPLACE = {"replace": True}


def spec(
    collection: str = "shared_docs", *, observed: bool = False, **changes: Any
) -> dict[str, Any]:
    document = {
        "version": 1,
        "name": "an alias in front",
        "recipe": "new-generation",
        "reason": "so that it can change",
        "from": {"store": "prod", "collection": collection, "observed": observed},
        "batch": {"size": 7},
    }
    return {**document, **changes}


def plan(document: dict[str, Any], found: StoreFacts | None = None) -> Plan:
    recipe, checked = recipe_for(document)
    return recipe.plan(checked, [], found or store())


def refused(document: dict[str, Any], found: StoreFacts | None = None) -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as refusal:
        plan(document, found)
    return refusal.value.problems


def pointed(made: Plan, name: str = "aliases") -> tuple[dict[str, str], dict[str, str]]:
    params = step(made, name).params
    return params["aliases"], params["previous"]


def test_what_it_needs_to_see() -> None:
    recipe, checked = recipe_for(spec())
    assert recipe.table(checked) is None
    assert recipe.store(checked) == "prod"
    assert recipe.collections(checked, []) == ["shared_docs"]


def test_the_spec_of_another_recipe_is_refused() -> None:
    other = Spec(version=1, name="n", recipe="r", reason="r")
    with pytest.raises(Rejected, match="another recipe"):
        RECIPES["new-generation"].store(other)


def test_a_generation_belongs_to_the_collection_that_it_is_made_of() -> None:
    """Whatever the alias is called that its clients use."""
    for logical, collection in (({"documents__g1": "d"}, "d"), ({}, "documents__g1")):
        made = plan(spec("documents"), replace(BEHIND, logical=logical))
        [created] = step(made, "create").params["collections"]
        assert (created["collection"], created["physical"]) == (collection, "documents__g2")
        assert pointed(made)[0]["documents"] == "documents__g2"


def test_a_collection_that_is_held_is_not_copied() -> None:
    held = replace(BEHIND, held={"documents__g1": ("m1", "m2")})
    [problem] = refused(spec("documents"), held)
    assert problem.startswith("'documents__g1' takes no writes because of migration m1, m2")


def test_an_alias_is_pointed_to_the_next_generation_and_all_others_follow() -> None:
    made = plan(spec("documents", warm_for="7d"), BEHIND)
    assert ids(made) == ["adopt", "create", "flow", "check", "hand-over", "aliases", "resume"]
    assert step(made, "adopt").params["collections"] == ["documents__g1"]
    assert step(made, "create").params["schemas"] == {"copy": DOCS.to_json()}
    assert step(made, "create").params["collections"] == [
        {
            "collection": "documents",
            "physical": "documents__g2",
            "schema": "copy",
            "existing": False,
        }
    ]
    flow = step(made, "flow").params
    assert flow["flows"] == [{"source": "documents__g1", "routes": {"*": "documents__g2"}}]
    assert (flow["batch"], flow["field"], flow["existing"]) == (7, "", [])
    assert step(made, "check").params["collections"] == ["documents__g1", "documents__g2"]
    assert step(made, "hand-over").params["warm_seconds"] == 7 * 86400
    assert pointed(made) == (
        {"docs": "documents__g2", "documents": "documents__g2"},
        {"docs": "documents__g1", "documents": "documents__g1"},
    )
    assert step(made, "aliases").undo == "point the names back"
    assert step(made, "resume").params["collections"] == ["documents__g2"]
    assert len(made.notes) == 1


def test_clients_of_a_physical_name_go_to_a_new_one() -> None:
    found = store(aliases={"other": "shared_docs"})
    made = plan(spec(to=NEW_NAME), found)
    assert ids(made) == ["adopt", "create", "flow", "check", "hand-over", "aliases", "resume"]
    assert pointed(made) == ({"docs_v2": "docs_v2__g1"}, {})
    assert step(made, "aliases").does == "point docs_v2 to docs_v2__g1"
    assert step(made, "aliases").undo == "remove the names"
    assert made.notes[1:] == (
        "shared_docs goes on answering as it is then, and takes no live writes any more.",
        "Aliases other stay at shared_docs.",
    )
    warm = plan(spec(to=NEW_NAME, warm_for="1h"), found).notes[1]
    assert warm == (
        "shared_docs goes on answering, with what is written to docs_v2, and takes no live writes "
        "any more."
    )


def test_a_physical_collection_is_dropped_for_an_alias_of_its_name() -> None:
    made = plan(spec(to=REPLACE))
    assert ids(made) == [
        "adopt",
        "create",
        "flow",
        "check",
        "hand-over",
        "drop",
        "aliases",
        "resume",
    ]
    assert step(made, "drop").params["collections"] == ["shared_docs"]
    assert step(made, "drop").params["aliases"] == {}
    assert step(made, "drop").phase is Phase.CUT_OVER
    assert pointed(made) == ({"shared_docs": "shared_docs__g1"}, {})
    assert step(made, "drop").params["settle"] is True
    gap, held, back = made.notes[1:]
    assert gap.startswith("There will be a gap: nothing answers under shared_docs from")
    assert held.startswith("Live writes to shared_docs are refused from the hand-over until")
    assert back == "A rollback writes 1,000 points again; shared_docs is not whole before that."


def test_other_aliases_go_along_before_the_collection_is_dropped() -> None:
    made = plan(spec(to=REPLACE), store(aliases={"b": "shared_docs", "a": "shared_docs"}))
    assert ids(made)[4:] == ["hand-over", "other-aliases", "drop", "aliases", "resume"]
    assert pointed(made, "other-aliases") == (
        {"a": "shared_docs__g1", "b": "shared_docs__g1"},
        {"a": "shared_docs", "b": "shared_docs"},
    )
    assert made.notes[-1] == "Who uses the aliases a, b has no gap."


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (spec("documents", observed=True), BEHIND),
        (spec(observed=True, to=NEW_NAME), store()),
    ],
)
def test_what_others_write_to_is_looked_at_again(
    document: dict[str, Any], found: StoreFacts
) -> None:
    made = plan(document, found)
    assert ids(made)[-1] == "look-again"
    source = step(made, "adopt").params["collections"]
    assert step(made, "look-again").params["collections"] == source
    assert step(made, "adopt").params["observed"]
    assert step(made, "hand-over").params["observed"]
    assert not set(source) & set(step(made, "check").params["collections"])


def test_what_others_write_to_is_compared_before_it_is_dropped() -> None:
    made = plan(spec(observed=True, to=REPLACE))
    assert "look-again" not in ids(made)
    assert "a write after it stops the drop" in made.notes[-1]


def test_a_physical_name_has_to_choose_and_hears_what_each_way_costs() -> None:
    (offer,) = refused(spec())
    assert "choose between to.name and to.replace" in offer
    assert "nothing stops answering" in offer
    assert "nothing answers under it in between, which is measured" in offer
    assert "writes all 1,000 points again" in offer


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (spec("nothing", to=REPLACE), "collection 'nothing' does not exist in store 'prod'"),
        (
            spec(to={**NEW_NAME, **REPLACE}),
            "to.name and to.replace are two ways; leave one of them out",
        ),
        (
            spec(to={"name": "shared_docs"}),
            "'shared_docs' exists in store 'prod'; choose another to.name",
        ),
        (spec(to={"name": "docs"}), "'docs' exists in store 'prod'; choose another to.name"),
        (
            spec(to=REPLACE, warm_for="1h"),
            "to.replace is true, and warm_for keeps what that drops; leave one of them out",
        ),
        (spec(to=NEW_NAME, warm_for="soon"), "warm_for is 'soon', not a duration such as"),
        (spec(to={"name": "a/b"}), "collection name 'a/b' has the forbidden character '/'"),
    ],
)
def test_what_is_refused(document: dict[str, Any], problem: str) -> None:
    assert refused(document, store(aliases={"docs": "shared_code"}))[0].startswith(problem)


@pytest.mark.parametrize("to", [NEW_NAME, REPLACE])
def test_an_alias_has_nothing_to_choose(to: dict[str, Any]) -> None:
    (problem,) = refused(spec("documents", to=to), BEHIND)
    assert "is an alias of 'documents__g1', and is pointed to the new generation" in problem


def test_a_generation_takes_a_name_that_was_never_used() -> None:
    found = store(taken=("shared_docs__g1",), collections={"shared_docs__g2": (DOCS, 0)})
    made = plan(spec(to=REPLACE), found)
    assert pointed(made)[0] == {"shared_docs": "shared_docs__g3"}


def test_an_alias_that_came_since_makes_the_plan_stale() -> None:
    before, after = store(), store(aliases={"late": "shared_docs"})
    drift = plan(spec(to=REPLACE), after).drift_from(plan(spec(to=REPLACE), before))
    assert drift == ("alias late is new",)
    unrelated = store(aliases={"late": "shared_code"})
    assert not plan(spec(to=REPLACE), unrelated).drift_from(plan(spec(to=REPLACE), before))
