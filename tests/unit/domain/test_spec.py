"""Specs are checked before anything else looks at them, and every complaint says the way out."""

from typing import Any

import pytest

from domain.model.errors import InvalidSpec
from domain.model.recipes import RECIPES, recipe_for
from domain.model.recipes.per_domain_collections import PerDomainSpec
from domain.model.spec import nearest, refuse_credentials
from tests.unit.domain.specs import BASE, spec

KNOWN = f"; known are {', '.join(sorted(RECIPES))}"


def problems(document: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidSpec) as refused:
        recipe_for(document)
    return refused.value.problems


def test_a_spec_gets_its_defaults() -> None:
    recipe, checked = recipe_for(BASE)
    assert recipe.name == "per-domain-collections"
    assert isinstance(checked, PerDomainSpec)
    assert checked.model_dump(mode="json", by_alias=True) == {
        "version": 1,
        "name": "split",
        "recipe": "per-domain-collections",
        "reason": "isolation",
        "ticket": "",
        "batch": {"size": 500},
        "on_failure": "rollback",
        "from": {
            "connection": "rag",
            "table": "sources",
            "store": "prod",
            "collections": {"documents": "shared_docs", "code": "shared_code"},
            "source_field": "source_id",
            "observed": False,
        },
        "to": {"store": "prod", "naming": "alias", "dimensions": {}},
        "unplaced": "fail",
        "after": "keep",
        "warm_for": "0s",
        "skip_invalid": False,
    }


def test_a_dumped_spec_is_the_same_spec() -> None:
    _, checked = recipe_for(spec(to__dimensions={"media": 512}, after="drop"))
    assert recipe_for(checked.model_dump(mode="json", by_alias=True))[1] == checked


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"unplacd": "keep"}, "unknown key 'unplacd'; did you mean 'unplaced'?"),
        ({"to__namng": "alias"}, "unknown key 'to.namng'; did you mean 'naming'?"),
        ({"from__collection": {}}, "unknown key 'from.collection'; did you mean 'collections'?"),
        ({"batch": {"sise": 1}}, "unknown key 'batch.sise'; did you mean 'size'?"),
        (
            {"to__zzz": 1},
            "unknown key 'to.zzz'; known are dimensions, naming, store",
        ),
        ({"source": {}}, "unknown key 'source'; known are after, batch, from, name"),
        ({"name": None}, "missing key 'name'"),
        ({"reason": None}, "missing key 'reason'"),
        ({"version": None}, "missing key 'version'"),
        ({"from": None}, "missing key 'from'"),
        ({"from__store": None}, "missing key 'from.store'"),
        ({"version": 2}, "version: input should be 1"),
        ({"version": "1"}, "version: input should be 1"),
        ({"name": ""}, "name: string should have at least 1 character"),
        ({"name": 7}, "name: input should be a valid string"),
        ({"reason": ""}, "reason: string should have at least 1 character"),
        ({"batch": {"size": "500"}}, "batch.size: input should be a valid integer"),
        ({"batch": {"size": 0}}, "batch.size: input should be greater than or equal to 1"),
        ({"batch": {"size": 5001}}, "batch.size: input should be less than or equal to 5000"),
        ({"skip_invalid": "yes"}, "skip_invalid: input should be a valid boolean"),
        ({"after": "burn"}, "after: input should be 'keep' or 'drop'"),
        ({"to__naming": "both"}, "to.naming: input should be 'alias' or 'physical'"),
        ({"to": "prod"}, "to: input should be a valid dictionary or instance of To"),
        ({"from__collections": {"documents": 1}}, "from.collections.documents: input should"),
        ({"from__collections": {}}, "from.collections: dictionary should have at least 1 item"),
        ({"to__dimensions": {"media": 0}}, "to.dimensions.media: input should be greater than 0"),
        ({"to__dimensions": {"media": 1.5}}, "to.dimensions.media: input should be a valid int"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], sentence: str) -> None:
    assert problems(spec(**changes))[-1].startswith(sentence)


def test_all_problems_are_told_at_once() -> None:
    assert problems(spec(unplacd="keep", name=None, batch={"size": 0})) == (
        "missing key 'name'",
        "batch.size: input should be greater than or equal to 1",
        "unknown key 'unplacd'; did you mean 'unplaced'?",
    )


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("per-domain-collection", "; did you mean 'per-domain-collections'?"),
        ("zzz", KNOWN),
        ("", KNOWN),
        (["per-domain-collections"], "; did you mean 'per-domain-collections'?"),
    ],
)
def test_an_unknown_recipe_comes_with_the_nearest(recipe: Any, sentence: str) -> None:
    assert problems(spec(recipe=recipe)) == (f"unknown recipe {str(recipe)!r}{sentence}",)


def test_a_missing_recipe_lists_the_known_ones() -> None:
    assert problems({}) == (f"missing key 'recipe'{KNOWN}",)


@pytest.mark.parametrize("document", [[], "text", None, 7])
def test_a_spec_is_a_mapping(document: Any) -> None:
    [problem] = problems(document)
    assert "a spec is a mapping" in problem


SECRET = "hunter2"  # noqa: S105 - what must not come out again
URL = f"postgresql://mara:{SECRET}@db/app"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"name": URL}, "spec.name"),
        ({"reason": f"because of {URL} being slow"}, "spec.reason"),
        ({"from__connection": URL}, "spec.from.connection"),
        ({"from__collections": {"documents": URL}}, "spec.from.collections.documents"),
        ({"from__collections": {URL: "shared_docs"}}, "a key of spec.from.collections"),
        ({URL: "x"}, "a key of spec"),
        ({"extra": [{"deep": ["fine", URL]}]}, "spec.extra[0].deep[1]"),
        ({"from__connection": f"redis://:{SECRET}@cache"}, "spec.from.connection"),
        ({"from__connection": f"https://u:{SECRET}@x@h:6333"}, "spec.from.connection"),
        ({"from__connection": f"postgresql://db/app?user=u&password={SECRET}"}, "spec.from.conn"),
        ({"to__store": f"https://qdrant?API_KEY={SECRET}"}, "spec.to.store"),
    ],
)
def test_a_password_in_a_url_is_refused_wherever_it_is(changes: dict[str, Any], where: str) -> None:
    [problem] = problems(spec(**changes))
    assert problem.startswith(where)
    assert "has a password in a URL, and specs are recorded; name a connection" in problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        *(({key: SECRET}, f"spec.{key}") for key in ("password", "token", "dsn", "Secret")),
        ({"to__api_key": SECRET}, "spec.to.api_key"),
        ({"from__ApiKey": SECRET}, "spec.from.ApiKey"),
        ({"list": [{"passwd": SECRET}]}, "spec.list[0].passwd"),
    ],
)
def test_a_key_that_holds_secrets_is_refused(changes: dict[str, Any], where: str) -> None:
    [problem] = problems(spec(**changes))
    assert problem.startswith(f"{where} looks like a credential")
    assert SECRET not in problem


@pytest.mark.parametrize(
    "harmless",
    ["http://host:6333/x", "mail a@b.c: ok", "postgresql://mara@db/app", "a:b@c", "https://h?a=b"],
)
def test_what_is_no_credential_passes(harmless: str) -> None:
    refuse_credentials({"reason": harmless, "n": [1, None, {"x": harmless}]})


def test_nearest_says_nothing_when_nothing_is_known() -> None:
    assert nearest("x", []) == ""
