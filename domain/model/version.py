"""Versions: what a collection was at a position of the ledger, noted so that people can return."""

from enum import StrEnum
from uuid import UUID

from domain.model.aggregate import LedgerAggregate, stream_id


class Occasion(StrEnum):
    """Why a version was noted."""

    TAGGED = "tagged"
    COMPLETED = "migration completed"
    ROLLED_BACK = "migration rolled back"


class Version(LedgerAggregate):
    """A collection at a position."""

    TOPIC = "version"

    class Created(LedgerAggregate.Created):
        """A version was noted; whether it was is no condition for going back to that position.

        Attributes:
            collection: logical name.
            store: name of the store connection.
            physical: name of the collection in the store.
            generation: id of the generation's stream.
            through: version of the generation's stream.
            position: of that event in the ledger.
            occasion: why it was noted, see `Occasion`.
            label: what people call it; empty unless it was tagged.
            migration: id of the migration that ended there; empty if it was tagged.
            points: that it has.
            digest: hexadecimal SHA-256 over its sorted (id, hash).
        """

        TOPIC = "version.recorded"
        collection: str
        store: str
        physical: str
        generation: str
        through: int
        position: int
        occasion: str
        label: str
        migration: str
        points: int
        digest: str

    def __init__(
        self,
        collection: str,
        store: str,
        physical: str,
        generation: str,
        through: int,
        position: int,
        occasion: str,
        label: str,
        migration: str,
        points: int,
        digest: str,
    ) -> None:
        self.collection = collection
        self.store = store
        self.physical = physical
        self.generation = UUID(generation)
        self.through = through
        self.position = position
        self.occasion = Occasion(occasion)
        self.label = label
        self.migration = migration
        self.points = points
        self.digest = digest

    @staticmethod
    def create_id(
        store: str, collection: str, occasion: str, label: str, migration: str, generation: str
    ) -> UUID:
        """The stream of a version: a label is unique among the versions of a collection."""
        if label:
            return stream_id("version", store, collection, label)
        return stream_id("version", generation, migration, occasion)
