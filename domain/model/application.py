"""What appliers report of a generation, in a stream of its own beside that of its changes."""

from uuid import UUID

from domain.model.aggregate import LedgerAggregate, stream_id
from domain.model.errors import Rejected


class Application(LedgerAggregate):
    """What an applier reports of one generation: receipts, dead letters and what became of them."""

    TOPIC = "application"

    class Created(LedgerAggregate.Created):
        """The first report.

        Attributes:
            generation: id of the generation's stream.
            physical: name of the collection in the store.
        """

        TOPIC = "application.created"
        generation: str
        physical: str

    class ChangesApplied(LedgerAggregate.Event):
        """The store has every change up to and including a version.

        Attributes:
            through: version of the generation's stream.
            points: points written or deleted since the last receipt.
        """

        TOPIC = "application.changes-applied"
        through: int
        points: int

        def apply(self, aggregate: "Application") -> None:
            aggregate.applied = self.through

    class ChangeDeadLettered(LedgerAggregate.Event):
        """A change that the store refuses; the collection halts in front of it.

        Attributes:
            change: version of the generation's stream.
            category: kind of the error.
            cause: what the store said.
        """

        TOPIC = "application.change-dead-lettered"
        change: int
        category: str
        cause: str

        def apply(self, aggregate: "Application") -> None:
            aggregate.halted_at = self.change
            aggregate.category = self.category
            aggregate.cause = self.cause

    class ChangeRetried(LedgerAggregate.Event):
        """A dead letter is to be tried again."""

        TOPIC = "application.change-retried"
        change: int

        def apply(self, aggregate: "Application") -> None:
            aggregate.halted_at = None

    class ChangeSkipped(LedgerAggregate.Event):
        """A dead letter is given up; the collection goes on behind it and differs by it."""

        TOPIC = "application.change-skipped"
        change: int

        def apply(self, aggregate: "Application") -> None:
            aggregate.halted_at = None
            aggregate.applied = self.change
            aggregate.skipped.append(self.change)

    class StoreRecovered(LedgerAggregate.Event):
        """A recovery compared the collection with the ledger, point by point, and put it right.

        Attributes:
            through: version of the generation's stream up to which the store has every change.
            timeline: number of the ledger's timeline.
            made: whether the collection was gone and was made again.
            missing: points that the store lacked.
            extra: points that the ledger does not have.
            changed: points that had other content.
            left: how many of these were left as they were, because the points belong to others.
            lacking: how many could not be written, because their bodies are gone.
        """

        TOPIC = "application.store-recovered"
        through: int
        timeline: int
        made: bool
        missing: int
        extra: int
        changed: int
        left: int
        lacking: int

        def apply(self, aggregate: "Application") -> None:
            aggregate.applied = self.through
            aggregate.lacking = self.lacking
            if self.lacking or (aggregate.halted_at or 0) <= self.through:
                aggregate.halted_at = None

    def __init__(self, generation: str, physical: str) -> None:
        self.generation = generation
        self.physical = physical
        self.applied = 0
        self.halted_at: int | None = None
        self.skipped: list[int] = []
        self.lacking = 0
        self.category = ""
        self.cause = ""

    @staticmethod
    def create_id(generation: str) -> UUID:
        """The stream of reports on a generation."""
        return stream_id("application", generation)

    def receipt(self, through: int, points: int) -> None:
        """Report that the store has everything up to a version."""
        self.trigger_event(self.ChangesApplied, through=through, points=points)

    def dead_letter(self, change: int, category: str, cause: str) -> None:
        """Report a change that the store refuses."""
        self.trigger_event(self.ChangeDeadLettered, change=change, category=category, cause=cause)

    def retry(self) -> None:
        """Try the dead letter again.

        Raises:
            Rejected: nothing is halted.
        """
        self.trigger_event(self.ChangeRetried, change=self._halted())

    def skip(self) -> None:
        """Give the dead letter up.

        Raises:
            Rejected: nothing is halted.
        """
        self.trigger_event(self.ChangeSkipped, change=self._halted())

    def _halted(self) -> int:
        if self.halted_at is None:
            raise Rejected(f"collection {self.physical} has no dead letter")
        return self.halted_at
