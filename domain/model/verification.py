"""What the verifications of one generation found, one after the other."""

from typing import Any
from uuid import UUID

from domain.model.aggregate import LedgerAggregate, stream_id


class VerificationLog(LedgerAggregate):
    """How far a generation is verified, and whether its collection differs from the ledger."""

    TOPIC = "verification"

    class Created(LedgerAggregate.Created):
        """The first verification.

        Attributes:
            generation: id of the generation's stream.
            store: name of the store connection.
            physical: name of the collection in the store.
        """

        TOPIC = "verification.begun"
        generation: str
        store: str
        physical: str

    class Held(LedgerAggregate.Event):
        """Every point of the collection, and its schema, was as recorded.

        Attributes:
            generation: id of the generation's stream.
            through: version of that stream that the collection was compared with.
            position: of that event in the ledger.
            points: that it has.
            digest: hexadecimal SHA-256 over its sorted (id, hash).
        """

        TOPIC = "verification.held"
        generation: str
        through: int
        position: int
        points: int
        digest: str

        def apply(self, aggregate: "VerificationLog") -> None:
            aggregate.verified = self.through
            aggregate.drifted = False

    class DriftFound(LedgerAggregate.Event):
        """The collection was not as recorded: something other than the ledger changed it.

        Attributes:
            generation: id of the generation's stream.
            through: version of that stream that the collection was compared with.
            position: of that event in the ledger.
            points: that the store had.
            recorded: points that the ledger had.
            missing: points that the store lacked.
            extra: points that the ledger does not have.
            changed: points that had other content.
            differences: a sentence for each difference of vectors and indexes.
            examples: ids of the first differences, by kind.
        """

        TOPIC = "verification.drift-found"
        generation: str
        through: int
        position: int
        points: int
        recorded: int
        missing: int
        extra: int
        changed: int
        differences: list[str]
        examples: dict[str, list[Any]]

        def apply(self, aggregate: "VerificationLog") -> None:
            aggregate.drifted = True

    def __init__(self, generation: str, store: str, physical: str) -> None:
        self.generation = generation
        self.store = store
        self.physical = physical
        self.verified = 0
        self.drifted = False

    def held(self, **found: Any) -> None:
        """Note that everything was as recorded; the fields of `Held` but for the generation."""
        self.trigger_event(self.Held, generation=self.generation, **found)

    def drift_found(self, **found: Any) -> None:
        """Note what was not as recorded; the fields of `DriftFound` but for the generation."""
        self.trigger_event(self.DriftFound, generation=self.generation, **found)

    @staticmethod
    def create_id(generation: str) -> UUID:
        """The stream of the verifications of a generation."""
        return stream_id("verification", generation)
