"""Retention: how long one can go back to the versions of a collection."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from domain.model.aggregate import LedgerAggregate, stream_id
from domain.model.errors import Rejected

MOST = 10**9
"""How many of the last versions a policy may keep."""


class Retention(LedgerAggregate):
    """Which versions of a collection are kept, and which were archived."""

    TOPIC = "retention"

    class Created(LedgerAggregate.Created):
        """Somebody decided something about the versions of a collection for the first time.

        Attributes:
            store: name of the store connection.
            collection: logical name.
        """

        TOPIC = "retention.created"
        store: str
        collection: str

    class PolicySet(LedgerAggregate.Event):
        """From here on versions are kept as this says. What was archived stays so.

        Attributes:
            last: everything since the last so many noted versions is kept, or None.
            seconds: everything since so long ago is kept, or None.
        """

        TOPIC = "retention.policy-set"
        last: int | None
        seconds: int | None

        def apply(self, aggregate: "Retention") -> None:
            aggregate.last = self.last
            aggregate.seconds = self.seconds

    class PolicyRemoved(LedgerAggregate.Event):
        """From here on nothing more is archived."""

        TOPIC = "retention.policy-removed"

        def apply(self, aggregate: "Retention") -> None:
            aggregate.last = aggregate.seconds = None

    class HoldPlaced(LedgerAggregate.Event):
        """Nothing is archived while this hold is there, whatever the policy says.

        Attributes:
            hold: what people call it, such as the number of a case.
        """

        TOPIC = "retention.hold-placed"
        hold: str

        def apply(self, aggregate: "Retention") -> None:
            aggregate.holds.add(self.hold)

    class HoldLifted(LedgerAggregate.Event):
        """A hold is over."""

        TOPIC = "retention.hold-lifted"
        hold: str

        def apply(self, aggregate: "Retention") -> None:
            aggregate.holds.discard(self.hold)

    class VersionsArchived(LedgerAggregate.Event):
        """Nobody goes back to these versions any more; what they were stays on record.

        Attributes:
            generation: id of the generation's stream.
            before: versions of that stream before this one are archived.
            kept: but for these.
        """

        TOPIC = "retention.versions-archived"
        generation: str
        before: int
        kept: list[int]

    def __init__(self, store: str, collection: str) -> None:
        self.store = store
        self.collection = collection
        self.last: int | None = None
        self.seconds: int | None = None
        self.holds: set[str] = set()

    @staticmethod
    def create_id(store: str, collection: str) -> UUID:
        """The stream of a collection."""
        return stream_id("retention", store, collection)

    @property
    def has_policy(self) -> bool:
        """Whether anything is ever archived."""
        return self.last is not None or self.seconds is not None

    def set_policy(self, last: int | None, since: timedelta | None) -> None:
        """Keep what came since the last so many noted versions, and since so long ago.

        The same again changes nothing.

        Raises:
            Rejected: it keeps nothing.
        """
        if last is None and since is None:
            raise Rejected("a policy says what it keeps: the last versions, or since when")
        if last is not None and last < 1:
            raise Rejected(f"at least the last version is kept, so {last} cannot be")
        if last is not None and last > MOST:
            raise Rejected(f"{last} versions are more than can be counted; keep at most {MOST:,}")
        seconds = None if since is None else int(since.total_seconds())
        if (last, seconds) != (self.last, self.seconds):
            self.trigger_event(self.PolicySet, last=last, seconds=seconds)

    def remove_policy(self) -> None:
        """Archive nothing more; again changes nothing."""
        if self.has_policy:
            self.trigger_event(self.PolicyRemoved)

    def place_hold(self, hold: str) -> None:
        """Archive nothing until the hold is lifted; again changes nothing."""
        if hold not in self.holds:
            self.trigger_event(self.HoldPlaced, hold=hold)

    def lift_hold(self, hold: str) -> None:
        """End a hold.

        Raises:
            Rejected: there is no such hold.
        """
        if hold not in self.holds:
            there = ", ".join(sorted(self.holds)) or "none"
            raise Rejected(f"{self.collection!r} has no hold {hold!r}; it has: {there}")
        self.trigger_event(self.HoldLifted, hold=hold)

    def archive(self, generation: UUID, before: int, kept: Sequence[int]) -> None:
        """Let nobody go back to the versions of a generation before one, but for some.

        Raises:
            Rejected: a hold says otherwise.
        """
        if self.holds:
            raise Rejected(f"{self.collection!r} is held by {', '.join(sorted(self.holds))}")
        self.trigger_event(
            self.VersionsArchived, generation=str(generation), before=before, kept=[*kept]
        )


class Sweep(LedgerAggregate):
    """Bodies that were given up together."""

    TOPIC = "sweep"

    class Created(LedgerAggregate.Created):
        """No version that is kept refers to these bodies; their objects are deleted.

        Attributes:
            bodies: their addresses.
        """

        TOPIC = "sweep.recorded"
        bodies: list[str]

    def __init__(self, bodies: list[str]) -> None:
        self.bodies = bodies
