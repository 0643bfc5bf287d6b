"""Steps that several recipes compose."""

from collections.abc import Mapping, Sequence

from domain.model.plan import Phase, Step, StepKind

NAMED = 3


def adopt_step(store: str, collections: Sequence[str], batch: int) -> Step:
    """Record every point of collections in the ledger."""
    return Step(
        id="adopt",
        kind=StepKind.ADOPT,
        phase=Phase.BACKUP,
        params={"store": store, "collections": list(collections), "batch": batch},
        does=f"record every point of {', '.join(collections)} in the ledger",
        undo="leave the collections as they are; the ledger lets go of them",
        verify="digest of each collection equals the ledger's",
    )


def check_step(
    store: str, collections: Sequence[str], digests: Mapping[str, str] | None = None
) -> Step:
    """Compare collections with the ledger, point by point, and with the digests they must have."""
    return Step(
        id="check",
        kind=StepKind.CHECK,
        phase=Phase.VERIFICATION,
        params={
            "store": store,
            "collections": list(collections),
            **({"digests": dict(digests)} if digests else {}),
        },
        does=f"compare every point of {_named(collections)} with the ledger, bit for bit",
        undo="nothing to undo",
        verify="counts and digests are equal",
    )


def aliases_step(store: str, names: Mapping[str, str], aliases: Mapping[str, str]) -> Step:
    """Let names serve collections; `aliases` are those that the store has."""
    return Step(
        id="aliases",
        kind=StepKind.POINT_ALIASES,
        phase=Phase.CUT_OVER,
        params={
            "store": store,
            "aliases": dict(names),
            "previous": {name: aliases[name] for name in names if name in aliases},
        },
        does=f"point {len(names)} names to their collections",
        undo="remove the names",
        verify="the store answers under each name",
    )


def _named(collections: Sequence[str]) -> str:
    """The collections by name, or their number where the names would be a page."""
    return (
        ", ".join(collections) if len(collections) <= NAMED else f"{len(collections)} collections"
    )


def drop_step(
    store: str, collections: Sequence[str], batch: int, aliases: Mapping[str, str]
) -> Step:
    """Drop collections that the ledger holds; `aliases` are those that point to them."""
    return Step(
        id="drop",
        kind=StepKind.DROP,
        phase=Phase.CLEAN_UP,
        params={
            "store": store,
            "collections": list(collections),
            "batch": batch,
            "aliases": dict(aliases),
        },
        does=f"drop {', '.join(collections)}",
        undo="bring them back from the ledger, every point bit for bit",
        verify="digest of each equals the one before it was dropped",
    )
