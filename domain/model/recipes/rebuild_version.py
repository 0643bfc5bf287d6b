"""Rebuild a version of a collection as a collection of its own.

It is made from the ledger and its objects alone: neither the store nor the collection that it was
in has to be there any more.
"""

from typing import Literal

from pydantic import Field

from domain.model.errors import InvalidSpec, Rejected
from domain.model.names import next_generation, problem_with
from domain.model.plan import Plan
from domain.model.recipes.recipe import Recipe, SourceRow, StoreFacts, erased_notes
from domain.model.recipes.steps import (
    aliases_step,
    check_step,
    create_step,
    flow_step,
    resume_step,
)
from domain.model.spec import Section, Spec


class Of(Section):
    """The version."""

    store: str = Field(description="Vector store connection that the collection is or was in.")
    collection: str = Field(description="Name of the collection.")
    at: str = Field(description="Label, position, or ISO 8601 time.")


class Into(Section):
    """The new collection."""

    store: str = Field(description="Vector store connection; it may be another one.")
    collection: str = Field(description="Name; nothing may have it yet.")
    naming: Literal["alias", "physical"] = Field(
        default="alias",
        description="Whether the name is an alias over a generation, or the collection itself.",
    )


class RebuildSpec(Spec):
    """Spec of `rebuild-version`."""

    source: Of = Field(alias="from")
    to: Into
    without_erased: bool = Field(
        default=False,
        description="Make it without the points of the version that are erased.",
        exclude_if=lambda said: not said,  # so that specs from before this field stay the same
    )


class RebuildVersion(Recipe):
    """The recipe."""

    name = "rebuild-version"
    spec: type[Spec] = RebuildSpec

    def version(self, spec: Spec) -> tuple[str, str, str] | None:
        """The version to rebuild."""
        source = _own(spec).source
        return source.store, source.collection, source.at

    def store(self, spec: Spec) -> str:
        """The store of the new collection."""
        return _own(spec).to.store

    def collections(self, spec: Spec, rows: list[SourceRow]) -> list[str]:  # noqa: ARG002
        """Nothing may be there."""
        return []

    def plan(self, spec: Spec, rows: list[SourceRow], store: StoreFacts) -> Plan:  # noqa: ARG002
        """Create, fill from the ledger, check against the digest, name."""
        spec = _own(spec)
        name, version = spec.to.collection, store.version
        if version is None:
            raise Rejected("the version was not looked up")
        physical = name
        if spec.to.naming == "alias":
            physical = next_generation(name, store.taken | store.collections)
        problems = [problem for one in (name, physical) if (problem := problem_with(one))]
        if name in store.collections or name in store.aliases:
            problems.append(f"{name!r} exists in store {spec.to.store!r}; choose another name")
        if version.not_rebuildable:
            problems.append(f"the version cannot be rebuilt: {version.not_rebuildable}")
        if version.erased and not spec.without_erased:
            problems.append(
                f"the version cannot be rebuilt exactly: {version.erased:,} of its points are "
                f"erased; for the {version.points:,} that remain, with the digest "
                f"{version.digest}, say --without-erased (without_erased: true)"
            )
        if problems:
            raise InvalidSpec(tuple(dict.fromkeys(problems)))
        steps = [
            create_step(
                spec.to.store,
                {"version": version.schema},
                [
                    {
                        "collection": name,
                        "physical": physical,
                        "schema": "version",
                        "existing": False,
                    }
                ],
                does=f"create {physical} as {version.physical} was",
            ),
            flow_step(
                spec.to.store,
                spec.batch.size,
                [
                    {
                        "source": version.physical,
                        "version": {
                            "generation": version.generation,
                            "through": version.through,
                        },
                        "routes": {"*": physical},
                    }
                ],
                does=f"write the {version.points:,} points that {version.physical} had at "
                f"position {version.position}",
                undo="nothing: the collection is dropped",
            ),
            check_step(spec.to.store, [physical], {physical: version.digest}),
        ]
        if spec.to.naming == "alias":
            steps.append(aliases_step(spec.to.store, {name: physical}, {}))
        steps.append(resume_step(spec.to.store, [physical]))
        return Plan(
            steps=tuple(steps),
            facts={
                "version": {
                    "generation": version.generation,
                    "through": version.through,
                    "position": version.position,
                    "digest": version.digest,
                }
            },
            estimates={"points": {version.physical: version.points}},
            notes=erased_notes(version),
        )


def _own(spec: Spec) -> RebuildSpec:
    if not isinstance(spec, RebuildSpec):
        raise Rejected("this spec belongs to another recipe")
    return spec
