"""Split shared collections into one collection for each source and type.

The shared collections are adopted into the ledger, one flow for each of them routes every point
by its `source_id` to the collection of its source and type, the copies are verified, the names
become aliases (or are the collections themselves), and gaps in `collection_names` are filled.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from pydantic import Field, PositiveInt

from domain.model.errors import InvalidSpec, Rejected
from domain.model.names import default_name, next_generation, problem_with
from domain.model.plan import Phase, Plan, Step, StepKind
from domain.model.recipes.copied import CopiedFrom, CopySpec, warm_problems, warm_seconds
from domain.model.recipes.recipe import Recipe, SourceRow, StoreFacts
from domain.model.recipes.steps import (
    aliases_step,
    copying,
    create_step,
    drop_step,
    flow_step,
    look_again_step,
    resume_step,
)
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.model.spec import Section, Spec


class From(CopiedFrom):
    """Where sources and points are now."""

    connection: str = Field(description="Database connection of the application.")
    table: str = Field(default="sources", description="Table of sources, optionally schema.table.")
    collections: dict[str, str] = Field(
        min_length=1, description="Collection type to the shared collection that holds it."
    )
    source_field: str = Field(
        default="source_id", description="Payload field that names a point's source."
    )


class To(Section):
    """Where points go."""

    store: str = Field(description="Vector store connection; the same as `from.store`.")
    naming: Literal["alias", "physical"] = Field(
        default="alias",
        description="Whether a name is an alias over a generation, or the collection itself.",
    )
    dimensions: dict[str, PositiveInt] = Field(
        default_factory=dict,
        description="Dimension of types that have no shared collection (cosine).",
    )


class PerDomainSpec(CopySpec):
    """Spec of `per-domain-collections`."""

    source: From = Field(alias="from")
    to: To
    unplaced: Literal["fail", "keep"] = Field(
        default="fail",
        description="Points without a known source: stop before cut-over, or leave where they are.",
    )
    after: Literal["keep", "drop"] = Field(
        default="keep", description="What becomes of the shared collections once all is verified."
    )
    skip_invalid: bool = Field(
        default=False, description="Migrate the valid sources when some are malformed."
    )


@dataclass(frozen=True)
class Target:
    """The collection of one source and type."""

    source: SourceRow
    type: str
    name: str
    stored: bool


class PerDomainCollections(Recipe):
    """The recipe."""

    name = "per-domain-collections"
    spec: type[Spec] = PerDomainSpec

    def table(self, spec: Spec) -> tuple[str, str] | None:
        """The table of sources."""
        spec = _own(spec)
        return spec.source.connection, spec.source.table

    def store(self, spec: Spec) -> str:
        """The one store that it works in."""
        return _own(spec).source.store

    def collections(self, spec: Spec, rows: list[SourceRow]) -> list[str]:
        """The shared collections, and those that stand where targets will be."""
        spec = _own(spec)
        targets, _ = _targets(spec, rows)
        return sorted({*spec.source.collections.values(), *(target.name for target in targets)})

    def plan(self, spec: Spec, rows: list[SourceRow], store: StoreFacts) -> Plan:
        """Adopt, create, copy, check, cut over, fill the gaps, and drop where asked."""
        spec = _own(spec)
        targets, problems = _targets(spec, rows)
        problems += warm_problems(spec, "after is drop" if spec.after == "drop" else None)
        problems += _shared_problems(spec, store)
        problems += _collisions(targets)
        problems += _indistinct(spec, targets)
        schemas = {} if problems else _schemas(spec, store, targets)
        problems += _target_problems(spec, store, targets, schemas)
        physical = {
            target.name: target.name
            if spec.to.naming == "physical"
            else next_generation(target.name, store.taken | store.collections)
            for target in targets
        }
        problems += [problem for name in physical.values() if (problem := problem_with(name))]
        if problems:
            raise InvalidSpec(tuple(problems))
        invalid = [row.id for row in rows if row.names is None]
        observed = spec.source.observed
        steps = copying(
            spec.source.store,
            _shared(spec),
            _create(spec, store, targets, physical, schemas),
            _flow(spec, store, targets, physical),
            warm_seconds=warm_seconds(spec),
            observed=observed,
        )
        if spec.to.naming == "alias" and targets:
            names = {target.name: physical[target.name] for target in targets}
            steps.append(aliases_step(spec.to.store, names, store.aliases))
        if targets:
            steps.append(resume_step(spec.to.store, list(physical.values())))
        changes = _row_changes(rows, targets)
        if changes:
            steps.append(_restructure(spec, changes))
        if observed:
            steps.append(look_again_step(spec.source.store, _shared(spec)))
        if spec.after == "drop":
            shared = _shared(spec)
            pointing = {a: name for a, name in store.aliases.items() if name in shared}
            steps.append(drop_step(spec.source.store, shared, spec.batch.size, pointing))
        return Plan(
            steps=tuple(steps),
            facts=_facts(spec, rows, store, targets),
            estimates={
                "sources": len(rows) - len(invalid),
                "skipped_sources": invalid,
                "collections_to_create": len(set(physical.values()) - store.collections),
                "collections_existing": len(set(physical.values()) & store.collections),
                "rows_to_change": len(changes),
                "points": {name: store.described[name].points for name in _shared(spec)},
            },
            notes=_notes(spec, store, invalid),
        )


def _own(spec: Spec) -> PerDomainSpec:
    if not isinstance(spec, PerDomainSpec):
        raise Rejected("this spec belongs to another recipe")
    return spec


def _shared(spec: PerDomainSpec) -> list[str]:
    return sorted(set(spec.source.collections.values()))


def _targets(spec: PerDomainSpec, rows: list[SourceRow]) -> tuple[list[Target], list[str]]:
    targets, problems = [], []
    known = spec.source.collections.keys() | spec.to.dimensions.keys()
    for row in rows:
        if row.names is None:
            if not spec.skip_invalid:
                problems.append(
                    f"source {row.id} ({row.title!r}) has malformed collection_names "
                    f"{row.raw_names!r}: an object of type to name is expected; mend it, or "
                    "migrate the others with --skip-invalid"
                )
            continue
        for kind in sorted({*row.types, *row.names}):
            if kind not in known:
                problems.append(
                    f"source {row.id} ({row.title!r}) has collection type {kind!r}, which is "
                    "neither in from.collections nor in to.dimensions; known are "
                    + ", ".join(sorted(known))
                )
                continue
            stored = row.names.get(kind)
            try:
                name = stored if stored is not None else default_name(row.title, kind)
            except Rejected as error:
                problems.append(f"source {row.id}: {error}")
                continue
            if problem := problem_with(name):
                problems.append(f"source {row.id} ({row.title!r}): {problem}")
                continue
            targets.append(Target(row, kind, name, stored is not None))
    return targets, problems


def _shared_problems(spec: PerDomainSpec, store: StoreFacts) -> list[str]:
    problems = []
    if spec.to.store != spec.source.store:
        problems.append(
            f"to.store is {spec.to.store!r} and from.store {spec.source.store!r}; "
            "per-domain-collections works within one store"
        )
    problems += [
        f"shared collection {name!r} does not exist in store {spec.source.store!r}"
        for name in _shared(spec)
        if name not in store.described
    ]
    return problems


def _collisions(targets: list[Target]) -> list[str]:
    by_name = defaultdict(list)
    for target in targets:
        by_name[target.name].append(target)
    return [
        f"collection {name!r} would belong to "
        + " and ".join(f"{t.source.id} ({t.source.title!r}, {t.type})" for t in same)
        + "; store different names in collection_names"
        for name, same in sorted(by_name.items())
        if len(same) > 1
    ]


def _indistinct(spec: PerDomainSpec, targets: list[Target]) -> list[str]:
    types = defaultdict(list)
    for target in targets:
        if shared := spec.source.collections.get(target.type):
            types[target.source.id, shared].append(target.type)
    return [
        f"source {source} has {' and '.join(same)} in the one shared collection {shared!r}, "
        f"where {spec.source.source_field} does not tell them apart"
        for (source, shared), same in types.items()
        if len(same) > 1
    ]


def _schemas(
    spec: PerDomainSpec, store: StoreFacts, targets: list[Target]
) -> dict[str, CollectionSchema]:
    """For each type, the schema of its shared collection, or a plain one of its dimension."""
    schemas = {}
    for kind in sorted({target.type for target in targets}):
        if kind in spec.source.collections:
            like = store.described[spec.source.collections[kind]].schema
        else:
            dense = VectorSpec(VectorKind.DENSE, spec.to.dimensions[kind], Distance.COSINE)
            like = CollectionSchema({"": dense})
        keyword: dict[str, dict[str, Any]] = {spec.source.source_field: {"type": "keyword"}}
        schemas[kind] = CollectionSchema(like.vectors, {**keyword, **like.indexes}, like.settings)
    return schemas


def _target_problems(
    spec: PerDomainSpec,
    store: StoreFacts,
    targets: list[Target],
    schemas: dict[str, CollectionSchema],
) -> list[str]:
    problems = []
    for target in targets:
        there = store.described.get(target.name)
        if spec.to.naming == "alias":
            if there is not None:
                problems.append(
                    f"{target.name!r} is to be an alias, but a collection has that name; "
                    "set to.naming: physical to use it, or rename it"
                )
            elif target.name in store.aliases:
                problems.append(
                    f"alias {target.name!r} exists and points to {store.aliases[target.name]!r}; "
                    "remove it, or store another name in collection_names"
                )
        elif target.name in store.aliases:
            problems.append(
                f"{target.name!r} is to be a collection, but an alias has that name; "
                "set to.naming: alias, or remove it"
            )
        elif there is not None and target.type in schemas:
            problems += [
                f"collection {target.name!r} exists with another shape: {difference}"
                for difference in there.schema.differences(schemas[target.type])
            ]
            if there.points:
                problems.append(
                    f"collection {target.name!r} exists and holds {there.points} points, which "
                    "this migration would mix with others; empty it, or store another name"
                )
    return problems


def _create(
    spec: PerDomainSpec,
    store: StoreFacts,
    targets: list[Target],
    physical: dict[str, str],
    schemas: dict[str, CollectionSchema],
) -> Step:
    there = [t.name for t in targets if physical[t.name] in store.collections]
    return create_step(
        spec.to.store,
        schemas,
        [
            {
                "collection": target.name,
                "physical": physical[target.name],
                "schema": target.type,
                "existing": target.name in there,
            }
            for target in targets
        ],
        does=f"create {len(targets) - len(there)} collections with an index on "
        f"{spec.source.source_field}; {len(there)} exist already",
    )


def _flow(
    spec: PerDomainSpec, store: StoreFacts, targets: list[Target], physical: dict[str, str]
) -> Step:
    kinds = defaultdict(set)
    for kind, shared in spec.source.collections.items():
        kinds[shared].add(kind)
    return flow_step(
        spec.source.store,
        spec.batch.size,
        [
            {
                "source": shared,
                "routes": {
                    target.source.id: physical[target.name]
                    for target in targets
                    if target.type in kinds[shared]
                },
            }
            for shared in _shared(spec)
        ],
        field=spec.source.source_field,
        unplaced=spec.unplaced,
        existing=sorted(set(physical.values()) & store.collections),
        does="copy "
        + ", ".join(f"{store.described[s].points:,} points of {s}" for s in _shared(spec))
        + f" to the collection of their {spec.source.source_field}",
        undo="delete the copies from collections that existed before",
    )


def _row_changes(
    rows: list[SourceRow], targets: list[Target]
) -> dict[str, tuple[str | None, str | None]]:
    changes: dict[str, tuple[str | None, str | None]] = {}
    gaps = {target.source.id for target in targets if not target.stored}
    for row in rows:
        if row.id in gaps:
            filled = {**(row.names or {})}
            filled |= {t.type: t.name for t in targets if t.source.id == row.id}
            changes[row.id] = (
                row.raw_names,
                orjson.dumps(filled, option=orjson.OPT_SORT_KEYS).decode(),
            )
    return changes


def _restructure(spec: PerDomainSpec, changes: dict[str, tuple[str | None, str | None]]) -> Step:
    return Step(
        id="restructure",
        kind=StepKind.RESTRUCTURE,
        phase=Phase.CUT_OVER,
        params={
            "connection": spec.source.connection,
            "table": spec.source.table,
            "changes": {row: list(change) for row, change in changes.items()},
        },
        does=f"fill gaps of collection_names in {len(changes)} rows of {spec.source.table}",
        undo="put the former values back, except where a row was changed since",
        verify="each row holds the new value",
    )


def _facts(
    spec: PerDomainSpec, rows: list[SourceRow], store: StoreFacts, targets: list[Target]
) -> dict[str, Any]:
    names = {target.name for target in targets}
    return {
        "source": {
            row.id: {"title": row.title, "types": sorted(row.types), "names": row.raw_names}
            for row in rows
        },
        "shared collection": {
            name: store.described[name].schema.to_json() for name in _shared(spec)
        },
        "collection": dict.fromkeys(sorted(names & store.collections), "exists"),
        "alias": {name: store.aliases[name] for name in sorted(names & store.aliases.keys())},
    }


def _notes(spec: PerDomainSpec, store: StoreFacts, invalid: list[str]) -> tuple[str, ...]:
    notes = ["Shared and new collections lie side by side until the end: twice the space, at most."]
    if invalid:
        notes.append(f"Sources left out because they are malformed: {', '.join(invalid)}.")
    if spec.after == "drop":
        notes.append("The shared collections are dropped at the end; a rollback brings them back.")
        pointing = sorted(a for a, name in store.aliases.items() if name in _shared(spec))
        if pointing:
            notes.append(f"Aliases {', '.join(pointing)} point to them and go with them.")
    return tuple(notes)
