"""The table of generations, kept up to date in the transaction of their events."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from eventsourcing.domain import AggregateEvent

from adapters.postgres.mapper import plain_uuid
from domain.model.errors import Rejected
from domain.model.generation import Generation
from domain.model.retention import Retention

# Lock generations against other writers, in one order for everybody.
_LOCK = """
SELECT stream, gid, physical, recorded, gone, holders FROM generations
WHERE stream = ANY($1::uuid[]) ORDER BY stream FOR UPDATE
"""

# A new generation, unless its stream exists: then the append finds the conflict.
_INSERT = """
INSERT INTO generations (stream, collection, store, physical, number, recorded)
VALUES ($1, $2, $3, $4, $5, 1) ON CONFLICT (stream) DO NOTHING
"""

# Its row for appliers.
_INSERT_APPLICATION = """
INSERT INTO applications (generation) VALUES ($1) ON CONFLICT (generation) DO NOTHING
"""

# Where generations stand after further events.
_ADVANCE = """
UPDATE generations g SET
    recorded = greatest(g.recorded, u.recorded),
    points = g.points + u.added,
    gone = g.gone OR u.gone
FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bool[]) AS u (stream, recorded, added, gone)
WHERE g.stream = u.stream
"""

# A migration holds the writes of applications, and lets them go on.
_HOLD = """
UPDATE generations SET holders = array_append(array_remove(holders, $2), $2) WHERE stream = $1
"""
_RESUME = "UPDATE generations SET holders = array_remove(holders, $2) WHERE stream = $1"


# Nobody goes back to some of its versions any more.
_ARCHIVE = "UPDATE generations SET archived_before = $2, kept_versions = $3 WHERE stream = $1"


@dataclass(frozen=True)
class LockedGeneration:
    """A generation that no other transaction writes to.

    Attributes:
        stream: its stream.
        gid: its number in the table of heads.
        physical: name in the store.
        recorded: last version of its stream.
        gone: dropped or released.
        holders: migrations that hold the writes of applications.
    """

    stream: UUID
    gid: int
    physical: str
    recorded: int
    gone: bool
    holders: tuple[str, ...]


def touches_generations(events: Sequence[AggregateEvent]) -> bool:
    """Whether a command must lock generations before it is appended."""
    return bool(generations_of(events))


def generations_of(events: Sequence[AggregateEvent]) -> set[UUID]:
    """The generations whose rows change with these events."""
    own = {event.originator_id for event in events if isinstance(event, Generation.Event)}
    archived = (event for event in events if isinstance(event, Retention.VersionsArchived))
    return own | {UUID(event.generation) for event in archived}


async def lock_generations(
    connection: Any, streams: Iterable[UUID]
) -> dict[UUID, LockedGeneration]:
    """Lock those of these generations that exist; the ledger's own lock comes after these."""
    rows = await connection.fetch(_LOCK, sorted(set(streams)))
    return {
        (stream := plain_uuid(row["stream"])): LockedGeneration(
            stream,
            row["gid"],
            row["physical"],
            row["recorded"],
            row["gone"],
            tuple(row["holders"]),
        )
        for row in rows
    }


async def follow(connection: Any, events: Sequence[AggregateEvent]) -> None:
    """Bring the table up to date with events that are about to be appended."""
    recorded: dict[UUID, int] = {}
    added: dict[UUID, int] = defaultdict(int)
    gone: set[UUID] = set()
    for event in events:
        if isinstance(event, Retention.VersionsArchived):
            await connection.execute(_ARCHIVE, UUID(event.generation), event.before, event.kept)
        if not isinstance(event, Generation.Event):
            continue
        stream = event.originator_id
        if isinstance(event, Generation.Created):
            await connection.execute(
                _INSERT, stream, event.collection, event.store, event.physical, event.number
            )
            await connection.execute(_INSERT_APPLICATION, stream)
        elif isinstance(event, Generation.ChangeSetRecorded):
            added[stream] += event.added
        elif isinstance(event, Generation.Dropped | Generation.Released):
            gone.add(stream)
        elif isinstance(event, Generation.WritesHeld):
            await connection.execute(_HOLD, stream, event.migration)
        elif isinstance(event, Generation.WritesResumed):
            await connection.execute(_RESUME, stream, event.migration)
        recorded[stream] = event.originator_version
    streams = sorted(recorded)
    if streams:
        await connection.execute(
            _ADVANCE,
            streams,
            [recorded[stream] for stream in streams],
            [added[stream] for stream in streams],
            [stream in gone for stream in streams],
        )


def refuse_change_sets(events: Iterable[AggregateEvent]) -> None:
    """Refuse change sets that come without their points.

    Raises:
        Rejected: there is one.
    """
    if any(isinstance(event, Generation.ChangeSetRecorded) for event in events):
        raise Rejected("change sets are recorded with their points, not appended")
