"""Adopt collections as they are, so that the ledger knows every point that they hold."""

from pydantic import Field

from domain.model.errors import InvalidSpec, Rejected
from domain.model.plan import Phase, Plan, Step, StepKind
from domain.model.recipes.recipe import SourceRow, StoreFacts
from domain.model.spec import Spec


class AdoptSpec(Spec):
    """Spec of `adopt-collections`."""

    store: str = Field(description="Vector store connection.")
    collections: list[str] = Field(min_length=1, description="Physical names.")


class AdoptCollections:
    """The recipe."""

    name = "adopt-collections"
    spec: type[Spec] = AdoptSpec

    def table(self, spec: Spec) -> tuple[str, str] | None:  # noqa: ARG002
        """It reads no table."""
        return None

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
        names = ", ".join(spec.collections)
        adopt = Step(
            id="adopt",
            kind=StepKind.ADOPT,
            phase=Phase.BACKUP,
            params={
                "store": spec.store,
                "collections": spec.collections,
                "batch": spec.batch.size,
            },
            does=f"record every point of {names} in the ledger",
            undo="leave the collections as they are; the ledger lets go of them",
            verify="digest of each collection equals the ledger's",
        )
        check = Step(
            id="check",
            kind=StepKind.CHECK,
            phase=Phase.VERIFICATION,
            params={"store": spec.store, "collections": spec.collections},
            does=f"compare every point of {names} with the ledger, bit for bit",
            undo="nothing to undo",
            verify="counts and digests are equal",
        )
        return Plan(
            steps=(adopt, check),
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
