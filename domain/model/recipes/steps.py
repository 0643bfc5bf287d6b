"""Steps that several recipes compose."""

from collections.abc import Mapping, Sequence
from typing import Any

from domain.model.plan import Phase, Step, StepKind
from domain.model.recipes.recipe import LaterFacts, VersionFacts
from domain.model.schema import CollectionSchema

NAMED = 3


def adopt_step(store: str, collections: Sequence[str], batch: int, *, observed: bool) -> Step:
    """Record every point of collections in the ledger.

    Args:
        store: that has them.
        collections: their names there.
        batch: points of one change set.
        observed: whether others write to them, so that one which the ledger looks after already is
            compared, and what they changed is recorded.
    """
    return Step(
        id="adopt",
        kind=StepKind.ADOPT,
        phase=Phase.BACKUP,
        params={
            "store": store,
            "collections": list(collections),
            "batch": batch,
            "observed": observed,
        },
        does=f"record every point of {', '.join(collections)} in the ledger",
        undo="leave the collections as they are; the ledger lets go of them",
        verify="digest of each collection equals the ledger's",
    )


def create_step(
    store: str,
    schemas: Mapping[str, CollectionSchema],
    collections: Sequence[Mapping[str, Any]],
    does: str,
) -> Step:
    """Create collections; each names its collection, physical name, schema, and if it exists."""
    return Step(
        id="create",
        kind=StepKind.CREATE,
        phase=Phase.CREATION,
        params={
            "store": store,
            "schemas": {name: schema.to_json() for name, schema in schemas.items()},
            "collections": [dict(collection) for collection in collections],
        },
        does=does,
        undo="drop those that it created",
        verify="each exists with its vectors and indexes",
    )


def hold_step(store: str, collections: Sequence[str]) -> Step:
    """Hold the writes of applications to collections."""
    return Step(
        id="hold",
        kind=StepKind.HOLD_WRITES,
        phase=Phase.MIGRATION,
        params={"store": store, "collections": list(collections)},
        does=f"take no live writes to {_named(collections)} from here on",
        undo="take live writes again",
        verify="a live write is refused, and names this migration",
    )


def hand_over_step(store: str, flow: Step, *, warm_seconds: int, observed: bool) -> Step:
    """Let the copies that a flow made take the place of their sources.

    Args:
        store: that has them.
        flow: the step that fills the copies.
        warm_seconds: for how long the sources get what is written to the copies.
        observed: whether others write to them in the store.
    """
    flows = [
        {"source": one["source"], "copies": sorted(set(one["routes"].values()))}
        for one in flow.params["flows"]
    ]
    sources = [one["source"] for one in flows]
    warm = f", and keep them up to date for {_spoken(warm_seconds)}" if warm_seconds else ""
    return Step(
        id="hand-over",
        kind=StepKind.HAND_OVER,
        phase=Phase.CUT_OVER,
        params={
            "store": store,
            "flow_step": flow.id,
            "flows": flows,
            "field": flow.params["field"],
            "unplaced": flow.params["unplaced"],
            "warm_seconds": warm_seconds,
            "observed": observed,
        },
        does=f"take no live writes to {_named(sources)} any more, once all of theirs are "
        f"copied{warm}",
        undo=f"give {_named(sources)} what was written to the copies, and take live writes again",
        verify="nothing that was written is left behind",
    )


def copying(
    store: str,
    sources: Sequence[str],
    create: Step,
    flow: Step,
    *,
    warm_seconds: int,
    observed: bool,
) -> list[Step]:
    """Adopt collections, copy them, compare, and let the copies take their place.

    Args:
        store: that has them.
        sources: the collections.
        create: the step that makes the copies.
        flow: the step that fills them.
        warm_seconds: for how long the sources get what is written to the copies.
        observed: whether others write to the sources in the store, which would differ while that
            is so.
    """
    copies = [made["physical"] for made in create.params["collections"]]
    return [
        adopt_step(store, sources, flow.params["batch"], observed=observed),
        create,
        flow,
        check_step(store, [*([] if observed else sources), *copies]),
        hand_over_step(store, flow, warm_seconds=warm_seconds, observed=observed),
    ]


def look_again_step(store: str, collections: Sequence[str]) -> Step:
    """Compare collections that others write to in the store, once clients know the new names."""
    return Step(
        id="look-again",
        kind=StepKind.LOOK_AGAIN,
        phase=Phase.CUT_OVER,
        params={"store": store, "collections": list(collections)},
        does=f"compare {_named(collections)} once more, and name what was written there meanwhile",
        undo="nothing to undo",
        verify="each late write is counted, and the first are named",
    )


def resume_step(store: str, collections: Sequence[str]) -> Step:
    """Let the writes of applications to collections go on that were held."""
    return Step(
        id="resume",
        kind=StepKind.RESUME_WRITES,
        phase=Phase.CUT_OVER,
        params={"store": store, "collections": list(collections)},
        does=f"take live writes to {_named(collections)} again",
        undo="hold them until the rest is undone",
        verify="a live write is recorded",
    )


def restore_step(
    store: str,
    batch: int,
    later: LaterFacts,
    version: VersionFacts,
    later_writes: str,
) -> Step:
    """Make a collection what it was at a version.

    Args:
        store: that has it.
        batch: points of one change set.
        later: what became of the collection since.
        version: that it is to be.
        later_writes: fail if there are any by then, or discard them.
    """
    return Step(
        id="restore",
        kind=StepKind.RESTORE,
        phase=Phase.MIGRATION,
        params={
            "store": store,
            "batch": batch,
            "collection": later.physical,
            "generation": later.generation,
            "version": {
                "generation": version.generation,
                "through": version.through,
                "position": version.position,
            },
            "later_writes": later_writes,
        },
        does=f"make {later.physical} what it was at position {version.position}: "
        f"{version.points:,} points",
        undo="give the points back what they were, except those that were written since",
        verify="digest of the collection equals the version's",
    )


def flow_step(
    store: str,
    batch: int,
    flows: Sequence[Mapping[str, Any]],
    *,
    field: str = "",
    unplaced: str = "fail",
    existing: Sequence[str] = (),
    does: str,
    undo: str,
) -> Step:
    """Write the points of collections, or of versions of them, to others.

    Args:
        store: that has the targets.
        batch: points of one change set.
        flows: of each, its source and the routes from values of `field` to targets.
        field: of the payload that routes a point; empty where all go one way.
        unplaced: what becomes of points without a route: fail or keep.
        existing: targets that were there before.
        does: what the step does, for people.
        undo: what a rollback does, for people.
    """
    return Step(
        id="flow",
        kind=StepKind.FLOW,
        phase=Phase.MIGRATION,
        params={
            "store": store,
            "batch": batch,
            "field": field,
            "unplaced": unplaced,
            "existing": list(existing),
            "flows": [dict(flow) for flow in flows],
        },
        does=does,
        undo=undo,
        verify="every point is in one collection or counted as unplaced",
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


def aliases_step(
    store: str, names: Mapping[str, str], aliases: Mapping[str, str], step: str = "aliases"
) -> Step:
    """Let names serve collections.

    Args:
        store: that has them.
        names: name to physical collection.
        aliases: those that the store has.
        step: id of the step.
    """
    previous = {name: aliases[name] for name in names if name in aliases}
    pointed = f"{len(names)} names to their collections"
    if len(names) <= NAMED:
        pointed = ", ".join(f"{name} to {physical}" for name, physical in names.items())
    return Step(
        id=step,
        kind=StepKind.POINT_ALIASES,
        phase=Phase.CUT_OVER,
        params={
            "store": store,
            "aliases": dict(names),
            "previous": previous,
        },
        does=f"point {pointed}",
        undo="point the names back" if previous else "remove the names",
        verify="the store answers under each name",
    )


def _spoken(seconds: int) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"


def _named(collections: Sequence[str]) -> str:
    """The collections by name, or their number where the names would be a page."""
    return (
        ", ".join(collections) if len(collections) <= NAMED else f"{len(collections)} collections"
    )


def drop_step(
    store: str,
    collections: Sequence[str],
    batch: int,
    aliases: Mapping[str, str],
    phase: Phase = Phase.CLEAN_UP,
    *,
    settle: bool = False,
) -> Step:
    """Drop collections that the ledger holds.

    Args:
        store: that has them.
        collections: physical names.
        batch: points of one change set, when they are brought back.
        aliases: those that point to them.
        phase: of the step.
        settle: whether their names get another meaning, so that writes which are still under way
            must have arrived before.
    """
    return Step(
        id="drop",
        kind=StepKind.DROP,
        phase=phase,
        params={
            "store": store,
            "collections": list(collections),
            "batch": batch,
            "aliases": dict(aliases),
            "settle": settle,
        },
        does=f"drop {', '.join(collections)}",
        undo="bring them back from the ledger, every point bit for bit",
        verify="digest of each equals the one before it was dropped",
    )
