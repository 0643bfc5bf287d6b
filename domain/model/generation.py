"""A generation: one physical collection in a store, and every change that it takes, in order.

The events of a generation's stream are exactly what an applier does to the store: create, index,
change points, point an alias, drop. So the stream version is the position up to which a store has
applied them.
"""

from typing import Any
from uuid import UUID

from domain.model.aggregate import LedgerAggregate, stream_id
from domain.model.errors import Rejected, WritesHeld
from domain.model.schema import CollectionSchema


class Generation(LedgerAggregate):
    """One physical collection that serves a logical one."""

    TOPIC = "generation"

    class Event(LedgerAggregate.Event):
        """Something an applier does to the store."""

    class Created(Event, LedgerAggregate.Created):
        """The generation exists from here on.

        Attributes:
            collection: logical name.
            store: name of the store connection.
            physical: name of the collection in the store.
            number: 1 for the first generation that has this physical name.
            schema: `CollectionSchema` as JSON, with its indexes.
            origin: ``created`` by us, ``adopted`` with its points, ``existing`` and taken empty.
        """

        TOPIC = "generation.created"
        collection: str
        store: str
        physical: str
        number: int
        schema: dict[str, Any]
        origin: str

    class ChangeSetRecorded(Event):
        """A batch of point changes.

        Attributes:
            manifest: address of the manifest, an object in PostgreSQL. A row with the same hash
                before and after is in a body and changes nothing.
            upserts: points that it writes.
            deletes: points that it deletes.
            added: by how many points the collection grows (negative: shrinks).
            captured: the store has these points already: recorded, not written.
            source: what made it: ``{"flow": id, "range": n}``.
        """

        TOPIC = "generation.change-set-recorded"
        manifest: str
        upserts: int
        deletes: int
        added: int
        captured: bool
        source: dict[str, Any]

        def apply(self, aggregate: "Generation") -> None:
            aggregate.points += self.added

    class RepairRecorded(ChangeSetRecorded):
        """Points that a store did not hold as recorded; it gets them again.

        It has the fields of a change set and changes no point of the ledger. The hashes before, in
        its manifest, are those that the store was found to hold.
        """

        TOPIC = "generation.repair-recorded"

    class BodiesPacked(Event):
        """Bodies of points were copied together; the points are what they were.

        Attributes:
            manifest: address of a manifest whose points are the same before and after, and which
                says where their bodies are now.
            points: whose bodies were copied.
        """

        TOPIC = "generation.bodies-packed"
        manifest: str
        points: int

    class SchemaRestored(Event):
        """The collection gets what it lacks of its schema again; it is made if it is gone.

        Attributes:
            schema: `CollectionSchema` as JSON, as the generation was created with.
        """

        TOPIC = "generation.schema-restored"
        schema: dict[str, Any]

    class WritesHeld(Event):
        """Writes of applications are refused from here on, because a migration works on it.

        Attributes:
            migration: its id.
        """

        TOPIC = "generation.writes-held"
        migration: str

        def apply(self, aggregate: "Generation") -> None:
            aggregate.holders.add(self.migration)

    class WritesResumed(Event):
        """A migration does not hold the writes of applications any more.

        Attributes:
            migration: its id.
        """

        TOPIC = "generation.writes-resumed"
        migration: str

        def apply(self, aggregate: "Generation") -> None:
            aggregate.holders.discard(self.migration)

    class AliasPointed(Event):
        """The alias serves this generation from here on.

        Attributes:
            alias: logical name.
            previous: physical collection that it pointed to before, or None.
        """

        TOPIC = "generation.alias-pointed"
        alias: str
        previous: str | None

        def apply(self, aggregate: "Generation") -> None:
            aggregate.aliases.add(self.alias)

    class AliasRemoved(Event):
        """The alias points back to where it did before, or nowhere.

        Attributes:
            alias: logical name.
            restore: physical collection that it points to again, or None.
        """

        TOPIC = "generation.alias-removed"
        alias: str
        restore: str | None

        def apply(self, aggregate: "Generation") -> None:
            aggregate.aliases.discard(self.alias)

    class Dropped(Event):
        """The physical collection is gone; the ledger keeps what it held."""

        TOPIC = "generation.dropped"

        def apply(self, aggregate: "Generation") -> None:
            aggregate.dropped = True

    class Released(Event):
        """The ledger no longer looks after this collection; the store keeps it as it is."""

        TOPIC = "generation.released"

        def apply(self, aggregate: "Generation") -> None:
            aggregate.released = True

    def __init__(
        self,
        collection: str,
        store: str,
        physical: str,
        number: int,
        schema: dict[str, Any],
        origin: str,
    ) -> None:
        self.collection = collection
        self.store = store
        self.physical = physical
        self.number = number
        self.schema = CollectionSchema.from_json(schema)
        self.origin = origin
        self.points = 0
        self.aliases: set[str] = set()
        self.holders: set[str] = set()
        self.dropped = False
        self.released = False

    @staticmethod
    def create_id(store: str, physical: str, number: int) -> UUID:
        """The stream of the n-th generation with this physical name in this store."""
        return stream_id("generation", store, physical, number)

    @property
    def gone(self) -> bool:
        """Whether the ledger no longer writes to it."""
        return self.dropped or self.released

    def restore_schema(self) -> None:
        """Let the store have the schema again."""
        self._refuse_if_gone()
        self.trigger_event(self.SchemaRestored, schema=self.schema.to_json())

    def hold_writes(self, migration: str, *, alone: bool = False) -> None:
        """Refuse writes of applications; again changes nothing.

        Args:
            migration: its id.
            alone: only as the first one; who holds them after that waits for this one.

        Raises:
            WritesHeld: others hold them already, and it is to be the first one.
        """
        self._refuse_if_gone()
        if migration not in self.holders:
            if alone and self.holders:
                raise WritesHeld(self.physical, sorted(self.holders))
            self.trigger_event(self.WritesHeld, migration=migration)

    def resume_writes(self, migration: str) -> None:
        """Let writes of applications go on, as far as this migration goes."""
        if migration in self.holders and not self.gone:
            self.trigger_event(self.WritesResumed, migration=migration)

    def point_alias(self, alias: str, previous: str | None) -> None:
        """Let the alias serve this generation."""
        self._refuse_if_gone()
        self.trigger_event(self.AliasPointed, alias=alias, previous=previous)

    def remove_alias(self, alias: str, restore: str | None) -> None:
        """Take the alias away again."""
        self.trigger_event(self.AliasRemoved, alias=alias, restore=restore)

    def drop(self) -> None:
        """Drop the physical collection."""
        self._refuse_if_gone()
        self.trigger_event(self.Dropped)

    def release(self) -> None:
        """Stop looking after the physical collection."""
        self._refuse_if_gone()
        self.trigger_event(self.Released)

    def _refuse_if_gone(self) -> None:
        if self.gone:
            raise Rejected(f"collection {self.physical} was dropped or released already")


REPAIRS = (Generation.RepairRecorded, Generation.SchemaRestored)
"""Events that change a store and no point in the ledger."""

WITHOUT_VERSION = (
    *REPAIRS,
    Generation.BodiesPacked,
    Generation.WritesHeld,
    Generation.WritesResumed,
)
"""Events that leave the collection what it was: they make no version of their own."""
