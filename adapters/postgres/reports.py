"""What appliers report of a generation, under the lock of its application's row."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from eventsourcing.domain import AggregateEvent

from adapters.postgres.mapper import plain_uuid
from domain.model.aggregate import NOT_RECORDED, LedgerAggregate, pending_events
from domain.model.application import Application
from domain.model.errors import Conflict, NotFound, Rejected
from domain.ports import Lease

# One application, locked, with the version of its stream.
_LOCK = """
SELECT a.applied, a.halted_at, a.holder, a.epoch, a.released, g.physical,
    coalesce((SELECT version FROM streams WHERE stream = $2), 0) AS version
FROM applications a JOIN generations g ON g.stream = a.generation
WHERE a.generation = $1 FOR UPDATE OF a
"""

# What its events came to.
_MOVE = "UPDATE applications SET applied = $2, halted_at = $3 WHERE generation = $1"


@dataclass
class LockedApplication:
    """An application that no other transaction writes to; events apply to it.

    Attributes:
        generation: that it applies to.
        physical: name in the store.
        applied: version up to which the store has the generation.
        halted_at: version of its dead letter, or None.
        version: of the application's own stream.
        skipped: versions that the report at hand gives up.
    """

    generation: UUID
    physical: str
    applied: int
    halted_at: int | None
    version: int
    skipped: list[int] = field(default_factory=list)

    def next(self, kind: type[LedgerAggregate.Event], **fields: Any) -> LedgerAggregate.Event:
        """The next event of the application's stream; the first one follows its creation."""
        return kind(
            originator_id=Application.create_id(str(self.generation)),
            originator_version=max(self.version, 1) + 1,
            timestamp=NOT_RECORDED,
            **fields,
        )

    def halted(self) -> int:
        """The version of the dead letter.

        Raises:
            Rejected: there is none.
        """
        if self.halted_at is None:
            raise Rejected(f"collection {self.physical} has no dead letter")
        return self.halted_at


async def lock(connection: Any, generation: UUID, lease: Lease | None) -> LockedApplication:
    """Lock an application, and check the lease on it if there has to be one.

    Raises:
        NotFound: there is no such generation.
        Conflict: the lease was lost.
    """
    stream = Application.create_id(str(generation))
    row = await connection.fetchrow(_LOCK, generation, stream)
    if row is None:
        raise NotFound(f"generation {generation} does not exist")
    if lease is not None:
        held = (row["holder"], row["epoch"], row["released"])
        if held != (lease.holder, lease.epoch, False):
            raise Conflict(f"{lease.holder} lost its lease on collection {row['physical']}")
    return LockedApplication(
        generation=plain_uuid(generation),
        physical=row["physical"],
        applied=row["applied"],
        halted_at=row["halted_at"],
        version=row["version"],
    )


async def move(
    connection: Any, locked: LockedApplication, event: LedgerAggregate.Event
) -> list[AggregateEvent]:
    """Bring the row up to date with an event; returns the events to append."""
    event.apply(locked)
    await connection.execute(_MOVE, locked.generation, locked.applied, locked.halted_at)
    if locked.version:
        return [event]
    application = Application(generation=str(locked.generation), physical=locked.physical)
    return [*pending_events(application), event]
