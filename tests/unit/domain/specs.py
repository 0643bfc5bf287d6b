"""Specs, rows and stores that recipes are tested with."""

from copy import deepcopy
from typing import Any

from domain.model.plan import Plan, Step
from domain.model.recipes import recipe_for
from domain.model.recipes.recipe import CollectionDescription, SourceRow, StoreFacts
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec

BASE: dict[str, Any] = {
    "version": 1,
    "name": "split",
    "recipe": "per-domain-collections",
    "reason": "isolation",
    "from": {
        "connection": "rag",
        "store": "prod",
        "collections": {"documents": "shared_docs", "code": "shared_code"},
    },
    "to": {"store": "prod"},
}

DOCS = CollectionSchema(
    {"": VectorSpec(VectorKind.DENSE, 4, Distance.DOT), "words": VectorSpec(VectorKind.SPARSE)},
    {"lang": {"type": "keyword"}, "year": {"type": "integer"}},
    {"on_disk_payload": True},
)
CODE = CollectionSchema({"": VectorSpec(VectorKind.DENSE, 8, Distance.COSINE)})


def spec(**changes: Any) -> dict[str, Any]:
    """`BASE` with changes; ``to__naming`` is the key ``naming`` of ``to``, None removes a key."""
    document = deepcopy(BASE)
    for path, value in changes.items():
        *parents, key = path.split("__")
        section = document
        for parent in parents:
            section = section[parent]
        if value is None:
            section.pop(key)
        else:
            section[key] = value
    return document


def row(
    number: str,
    title: str,
    types: tuple[str, ...] = ("documents",),
    names: dict[str, str] | None = None,
    *,
    raw: str | None = None,
) -> SourceRow:
    """A source; without names its column is NULL."""
    return SourceRow(number, title, types, names or {}, raw)


def malformed(number: str, title: str) -> SourceRow:
    return SourceRow(number, title, ("documents",), None, "[1]")


def store(
    *,
    collections: dict[str, tuple[CollectionSchema, int]] | None = None,
    aliases: dict[str, str] | None = None,
    taken: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
) -> StoreFacts:
    """The shared collections, and others."""
    found = {"shared_docs": (DOCS, 1000), "shared_code": (CODE, 20), **(collections or {})}
    there = {name: facts for name, facts in found.items() if name not in without}
    return StoreFacts(
        collections=frozenset(there),
        aliases=aliases or {},
        described={n: CollectionDescription(n, s, p) for n, (s, p) in there.items()},
        taken=frozenset(taken),
    )


def plan(document: dict[str, Any], rows: list[SourceRow], found: StoreFacts | None = None) -> Plan:
    recipe, checked = recipe_for(document)
    return recipe.plan(checked, rows, found or store())


def step(made: Plan, name: str) -> Step:
    return next(step for step in made.steps if step.id == name)


def ids(made: Plan) -> list[str]:
    return [step.id for step in made.steps]
