"""Make a collection exactly what it was at a version, whatever was written since."""

from typing import Literal

from pydantic import Field

from domain.model.errors import InvalidSpec, Rejected
from domain.model.plan import Plan
from domain.model.recipes.recipe import (
    LaterFacts,
    Recipe,
    Repeats,
    SourceRow,
    StoreFacts,
    VersionFacts,
    erased_notes,
    held_problem,
)
from domain.model.recipes.steps import check_step, hold_step, restore_step, resume_step
from domain.model.spec import Spec


class RestoreSpec(Spec):
    """Spec of `restore-version`."""

    store: str = Field(description="Vector store connection.")
    collection: str = Field(description="Name of the collection.")
    to: str = Field(description="Version: label, position, or ISO 8601 time.")
    later_writes: Literal["fail", "discard"] = Field(
        default="fail", description="What becomes of writes of applications since that version."
    )


class RestoreVersion(Recipe):
    """The recipe."""

    name = "restore-version"
    spec: type[Spec] = RestoreSpec
    looks_at_later_changes = True
    repeats = Repeats.WHEN_UNTRUE

    def version(self, spec: Spec) -> tuple[str, str, str] | None:
        """The version to go back to."""
        spec = _own(spec)
        return spec.store, spec.collection, spec.to

    def store(self, spec: Spec) -> str:
        """The store of the collection."""
        return _own(spec).store

    def collections(self, spec: Spec, rows: list[SourceRow]) -> list[str]:  # noqa: ARG002
        """What the ledger says is enough."""
        return []

    def plan(self, spec: Spec, rows: list[SourceRow], store: StoreFacts) -> Plan:  # noqa: ARG002
        """Hold writes, record what differs, check against the digest, let writes go on."""
        spec = _own(spec)
        version, later = store.version, store.later
        if version is None:
            raise Rejected("the version was not looked up")
        if later is None:
            gone = (
                f"nothing serves {spec.collection!r} any more, so there is nothing to restore; "
                "`rebuild` makes the version a collection of its own"
            )
            raise InvalidSpec((gone,))
        held = held_problem(
            later.physical,
            store,
            "restore what serves them now, or cancel that or roll it back first",
        )
        if problems := held + _problems(spec, version, later):
            raise InvalidSpec(tuple(problems))
        collections = [later.physical]
        steps = (
            hold_step(spec.store, collections),
            restore_step(
                spec.store,
                spec.batch.size,
                later,
                version,
                spec.later_writes,
            ),
            check_step(spec.store, collections, {later.physical: version.digest}),
            resume_step(spec.store, collections),
        )
        return Plan(
            steps=steps,
            facts={
                "version": {
                    "generation": version.generation,
                    "through": version.through,
                    "position": version.position,
                    "digest": version.digest,
                },
                "collection": {later.physical: later.generation},
            },
            estimates={
                "points_to_bring_back": later.removed,
                "points_to_change": later.changed,
                "points_to_delete": later.added,
                "later_writes_to_discard": later.writes,
            },
            notes=erased_notes(version),
        )


def _problems(spec: RestoreSpec, version: VersionFacts, later: LaterFacts) -> list[str]:
    problems = [
        f"{later.physical!r} has other vectors than the version ({difference}); `rebuild` makes "
        "the version a collection of its own"
        for difference in version.schema.differences(later.schema)
    ]
    if version.not_rebuildable:
        problems.append(f"the version cannot be restored: {version.not_rebuildable}")
    if later.writes and spec.later_writes == "fail":
        problems.append(
            f"later writes would go ({later.writes:,}): {later.added:,} points would be deleted, "
            f"{later.removed:,} brought back, {later.changed:,} changed; if they may go, say "
            "--discard-later-writes (later_writes: discard)"
        )
    return problems


def _own(spec: Spec) -> RestoreSpec:
    if not isinstance(spec, RestoreSpec):
        raise Rejected("this spec belongs to another recipe")
    return spec
