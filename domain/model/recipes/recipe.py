"""What a recipe is, and the facts that it plans with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from domain.model.plan import Plan
from domain.model.schema import CollectionSchema
from domain.model.spec import Spec


@dataclass(frozen=True)
class SourceRow:
    """A row of an application's table of sources, as it is read.

    Attributes:
        id: primary key as text.
        title: of the source.
        types: its enabled collection types.
        names: collection type to stored collection name; None where the JSON is malformed.
        raw_names: the column as text, for a faithful restore; None is SQL NULL.
    """

    id: str
    title: str
    types: tuple[str, ...]
    names: dict[str, str] | None
    raw_names: str | None


@dataclass(frozen=True)
class CollectionDescription:
    """A collection as the store has it.

    Attributes:
        name: physical name.
        schema: vectors, indexes and settings.
        points: exact count.
    """

    name: str
    schema: CollectionSchema
    points: int


@dataclass(frozen=True)
class VersionFacts:
    """A version of a collection, as the ledger has it.

    Attributes:
        generation: stream of the generation.
        physical: its name in the store.
        schema: vectors, indexes and settings.
        through: version of the generation's stream.
        position: of that event in the ledger.
        points: that it has.
        digest: hexadecimal SHA-256 over its sorted (id, hash).
        not_rebuildable: why its points cannot all be read any more, or None.
        erased: points that it had and that are erased; `points` and `digest` are without them.
    """

    generation: str
    physical: str
    schema: CollectionSchema
    through: int
    position: int
    points: int
    digest: str
    not_rebuildable: str | None = None
    erased: int = 0


def erased_notes(version: VersionFacts) -> tuple[str, ...]:
    """What a reader of a plan should know of a version from which points were erased."""
    if not version.erased:
        return ()
    note = (
        f"{version.erased:,} points of the version are erased and stay away; the "
        f"{version.points:,} that remain have the digest {version.digest}."
    )
    return (note,)


@dataclass(frozen=True)
class LaterFacts:
    """What became of a collection since a version.

    Attributes:
        generation: stream of the generation that serves it now.
        physical: its name in the store.
        schema: vectors, indexes and settings.
        added: points that the version does not have.
        removed: points that only the version has.
        changed: points that both have, with other content.
        writes: writes of applications since.
    """

    generation: str
    physical: str
    schema: CollectionSchema
    added: int
    removed: int
    changed: int
    writes: int


@dataclass(frozen=True)
class StoreFacts:
    """What an inspection found in a store.

    Attributes:
        collections: physical names.
        aliases: alias to physical name.
        described: those collections that the recipe asked for and that exist, by physical name.
        taken: physical names that the ledger has used before, which are not used again.
        version: that the recipe asked for.
        later: what became of the collection since, if the recipe asked for it and something serves
            the collection.
        logical: names of the collections that physical ones serve, of those that the ledger looks
            after.
        held: migrations that hold the writes of applications, by physical name.
    """

    collections: frozenset[str]
    aliases: dict[str, str]
    described: dict[str, CollectionDescription]
    taken: frozenset[str]
    version: VersionFacts | None = None
    later: LaterFacts | None = None
    logical: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def held_problem(name: str, store: StoreFacts, instead: str) -> list[str]:
    """Why nothing can be done to a collection whose points a migration has handed over.

    Args:
        name: physical name.
        store: that has it.
        instead: what to do instead, in words.

    Returns:
        A sentence, or nothing if no migration holds it.
    """
    if name not in store.held:
        return []
    holders = ", ".join(store.held[name])
    problem = f"{name!r} takes no writes because of migration {holders}, which works on it or has "
    return [f"{problem}moved its points elsewhere: {instead}"]


class Repeats(StrEnum):
    """When a spec that was carried out is carried out again: it is another migration then."""

    NEVER = "never"
    WHEN_UNTRUE = "when what it did is not so any more"
    ALWAYS = "whenever somebody asks"


class Recipe(Protocol):
    """A pure planner for one kind of migration."""

    name: str
    spec: type[Spec]
    looks_at_later_changes: bool = False
    """Whether it needs to know what became of the collection since the version."""
    repeats: Repeats = Repeats.NEVER
    """When a spec that was carried out is carried out again."""

    def table(self, spec: Spec) -> tuple[str, str] | None:  # noqa: ARG002
        """Connection and name of the table that it needs read, or None."""
        return None

    def version(self, spec: Spec) -> tuple[str, str, str] | None:  # noqa: ARG002
        """Store, collection and version that it needs looked up in the ledger, or None."""
        return None

    def store(self, spec: Spec) -> str:
        """The store that it needs inspected."""

    def collections(self, spec: Spec, rows: list[SourceRow]) -> list[str]:
        """The collections that it needs described, if they exist; also by an alias."""

    def plan(self, spec: Spec, rows: list[SourceRow], store: StoreFacts) -> Plan:
        """The steps.

        Raises:
            InvalidSpec: with a sentence for everything that stands in the way.
        """
