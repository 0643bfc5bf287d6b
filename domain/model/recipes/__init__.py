"""Recipes: one file for each kind of migration, and this registry of them.

A recipe is a pure planner. `RECIPES` maps the name that a spec gives to it.
"""

from collections.abc import Mapping
from typing import Any

from domain.model.errors import InvalidSpec
from domain.model.recipes.adopt_collections import AdoptCollections
from domain.model.recipes.new_generation import NewGeneration
from domain.model.recipes.per_domain_collections import PerDomainCollections
from domain.model.recipes.rebuild_version import RebuildVersion
from domain.model.recipes.recipe import Recipe
from domain.model.recipes.restore_version import RestoreVersion
from domain.model.spec import Spec, nearest, parse, refuse_credentials

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        AdoptCollections(),
        NewGeneration(),
        PerDomainCollections(),
        RebuildVersion(),
        RestoreVersion(),
    )
}


def recipe_for(document: Mapping[str, Any]) -> tuple[Recipe, Spec]:
    """The recipe that a spec document names, and the checked spec.

    Raises:
        InvalidSpec: with a sentence for each problem.
    """
    if not isinstance(document, Mapping):
        raise InvalidSpec(
            ("a spec is a mapping of keys, such as `recipe: per-domain-collections`",)
        )
    refuse_credentials(document)
    if "recipe" not in document:
        raise InvalidSpec((f"missing key 'recipe'{nearest('', list(RECIPES))}",))
    name = str(document["recipe"])
    if name not in RECIPES:
        raise InvalidSpec((f"unknown recipe {name!r}{nearest(name, list(RECIPES))}",))
    recipe = RECIPES[name]
    return recipe, parse(recipe.spec, document)
