"""The hash chain over events, recomputed; its form is described in docs/reference/event-hash.md."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import pack
from typing import Any
from uuid import UUID

from adapters.postgres.connection import Database
from adapters.postgres.reading import HASH, TIP
from domain.model.errors import Corrupt
from domain.model.recorded import GENESIS_HASH, Cursor

FORMAT = b"migration-ledger/event/1"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PAGE = 5000

# The next events in a range of positions, as they are stored. No append recorded a time that Python
# does not know, so such a time is as good as none.
_EVENTS = """
SELECT position, stream, version, topic, state, context, hash,
    CASE WHEN recorded_at BETWEEN '0001-01-02' AND '9999-12-30' THEN recorded_at END AS recorded_at
FROM events WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3
"""

# The first event that no append recorded: before the beginning, or beyond the tip of that moment.
_BEFORE = "SELECT min(position) FROM events WHERE position < 1"
_BEYOND = "SELECT (SELECT min(e.position) FROM events e WHERE e.position > t.position) FROM tip t"


class Altered(Corrupt):
    """The ledger is not what was recorded.

    Attributes:
        position: of the first event that is missing or different, None if it is none of the events.
    """

    def __init__(self, problem: str, position: int | None = None) -> None:
        super().__init__(problem)
        self.position = position


def event_hash(
    previous: bytes,
    position: int,
    stream: UUID,
    version: int,
    recorded_at: datetime,
    topic: str,
    state: bytes,
    context: bytes,
) -> bytes:
    """The hash of an event, given the hash of the one before it (zeros before the first)."""
    encoded_topic = topic.encode()
    return sha256(
        b"".join(
            [
                FORMAT,
                previous,
                pack(">q", position),
                stream.bytes,
                pack(">i", version),
                pack(">q", (recorded_at - _EPOCH) // _MICROSECOND),
                pack(">i", len(encoded_topic)),
                encoded_topic,
                pack(">i", len(state)),
                state,
                pack(">i", len(context)),
                context,
            ]
        )
    ).digest()


async def verify_chain(database: Database, after: Cursor | None = None) -> Cursor:
    """Recompute the hashes of all events after a cursor; returns where the ledger ends.

    Raises:
        Altered: an event is missing, or is not what was recorded; its position is named.
    """
    at = after or Cursor()
    async for reached in walk_chain(database, at):
        at = reached
    return at


async def walk_chain(
    database: Database, after: Cursor, noted: Sequence[Cursor] = ()
) -> AsyncIterator[Cursor]:
    """Recompute the hashes of all events after a cursor, page by page; gives how far it has come.

    Args:
        database: of the ledger.
        after: an event that is trusted, or the beginning.
        noted: positions and hashes that were noted elsewhere, none before `after`.

    Raises:
        Altered: an event is missing, or is not what was recorded or noted.
    """
    end = await _begin(database, after)
    at = after
    for head in [*sorted(noted, key=lambda one: one.position), end]:
        before = at
        async for reached in _walk(database, before, min(head.position, end.position)):
            at = reached
            yield at
        if head is not end:
            _compare(before, at, head)
    if at != end:
        raise Altered(f"the ledger's tip disagrees with event {end.position}", end.position)
    async with database.connection() as connection:
        beyond = await connection.fetchval(_BEYOND)
    if beyond is not None:
        raise Altered(f"event {beyond} is beyond the ledger's tip", beyond)


async def _begin(database: Database, after: Cursor) -> Cursor:
    """Where the ledger ends, if it has the event that is trusted.

    Raises:
        Altered: it does not have it, or has no end.
    """
    async with database.connection() as connection:
        tip = await connection.fetchrow(TIP)
        stored = await connection.fetchval(HASH, after.position)
        before = await connection.fetchval(_BEFORE)
    if tip is None:
        raise Altered("the ledger has no tip")
    if before is not None:
        raise Altered(f"event {before} was never recorded: the first one is 1", before)
    if after.position > tip["position"]:
        raise _ended(tip["position"], after)
    if after.position and stored is None:
        raise _missing(after.position)
    if after.hash != (stored if after.position else GENESIS_HASH):
        raise Altered(f"event {after.position} is not the one that is trusted", after.position)
    return Cursor(tip["position"], tip["hash"])


async def _walk(database: Database, at: Cursor, through: int) -> AsyncIterator[Cursor]:
    """Recompute hashes up to and including a position."""
    while at.position < through:
        async with database.connection() as connection:
            rows = await connection.fetch(_EVENTS, at.position, through, _PAGE)
        for row in rows:
            at = next_cursor(at, row)
        if len(rows) < _PAGE and at.position < through:
            raise _missing(at.position + 1)
        yield at


def next_cursor(at: Cursor, row: Mapping[str, Any]) -> Cursor:
    """Where a reader is after an event, whose hash is recomputed.

    Args:
        at: the event before it.
        row: the event as it is stored.

    Raises:
        Altered: it is another one, or not what was recorded.
    """
    position = at.position + 1
    if row["position"] != position:
        raise _missing(position)
    recorded_at = row["recorded_at"]
    if recorded_at is not None:
        expected = event_hash(
            at.hash,
            position,
            row["stream"],
            row["version"],
            recorded_at,
            row["topic"],
            row["state"],
            row["context"],
        )
        if row["hash"] == expected:
            return Cursor(position, expected)
    # Whoever rewrites an event and its hash leaves the next one not following from it.
    before = f" (or event {at.position} is not, and has a new hash)" if at.position else ""
    raise Altered(f"event {position} is not what was recorded{before}", position)


def _missing(position: int) -> Altered:
    return Altered(f"event {position} is missing from the ledger", position)


def _ended(at: int, noted: Cursor) -> Altered:
    return Altered(
        f"event {at + 1} is missing from the ledger: it ends at {at}, and event {noted.position} "
        "was noted",
        at + 1,
    )


def _compare(before: Cursor, at: Cursor, noted: Cursor) -> None:
    """Compare a place in the chain with one that was noted; all is well up to `before`."""
    if at.position < noted.position:
        raise _ended(at.position, noted)
    if at.hash != noted.hash:
        first = before.position + 1
        raise Altered(
            f"event {noted.position} is not the one that was noted: one of the events {first} to "
            f"{noted.position} was changed, and the hashes from there on were written anew",
            first,
        )
