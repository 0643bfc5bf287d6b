"""Adopt collections as they are, so that the ledger knows every point that they hold."""

from pydantic import Field

from domain.model.errors import InvalidSpec, Rejected
from domain.model.plan import Plan
from domain.model.recipes.recipe import Recipe, Repeats, SourceRow, StoreFacts
from domain.model.recipes.steps import adopt_step, check_step
from domain.model.spec import Spec


class AdoptSpec(Spec):
    """Spec of `adopt-collections`."""

    store: str = Field(description="Vector store connection.")
    collections: list[str] = Field(min_length=1, description="Physical names.")


class AdoptCollections(Recipe):
    """The recipe."""

    name = "adopt-collections"
    spec: type[Spec] = AdoptSpec
    repeats = Repeats.ALWAYS

    def store(self, spec: Spec) -> str:
        """The store of the collections."""
        return _own(spec).store

    def collections(self, spec: Spec, rows: list[SourceRow]) -> list[str]:  # noqa: ARG002
        """The collections to adopt."""
        return _own(spec).collections

    def plan(self, spec: Spec, rows: list[SourceRow], store: StoreFacts) -> Plan:  # noqa: ARG002
        """Adopt, then check."""
        spec = _own(spec)
        missing = [name for name in spec.collections if name not in store.described]
        if missing:
            raise InvalidSpec(
                tuple(
                    f"collection {name!r} does not exist in store {spec.store!r}"
                    for name in missing
                )
            )
        return Plan(
            steps=(
                adopt_step(spec.store, spec.collections, spec.batch.size, observed=True),
                check_step(spec.store, spec.collections),
            ),
            facts={
                "collection": {
                    name: store.described[name].schema.to_json() for name in spec.collections
                }
            },
            estimates={"points": {n: store.described[n].points for n in spec.collections}},
        )


def _own(spec: Spec) -> AdoptSpec:
    if not isinstance(spec, AdoptSpec):
        raise Rejected("this spec belongs to another recipe")
    return spec
