"""The hash chain over events, recomputed; its form is described in docs/reference/event-hash.md."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import pack
from uuid import UUID

from adapters.postgres.connection import Database
from domain.model.errors import Corrupt
from domain.model.recorded import Cursor

FORMAT = b"migration-ledger/event/1"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PAGE = 5000

# The next events after a position, as they are stored.
_EVENTS = """
SELECT position, stream, version, topic, state, context, recorded_at, hash
FROM events WHERE position > $1 ORDER BY position LIMIT $2
"""

# Where an append would go on.
_TIP = "SELECT position, hash FROM tip"


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
        Corrupt: an event is missing, or is not what was recorded; its position is named.
    """
    at = after or Cursor()
    async with database.connection() as connection:
        tip = await connection.fetchrow(_TIP)
    while at.position < tip["position"]:
        async with database.connection() as connection:
            rows = await connection.fetch(_EVENTS, at.position, _PAGE)
        if not rows:
            raise Corrupt(f"event {at.position + 1} is missing from the ledger")
        for row in rows:
            if row["position"] != at.position + 1:
                raise Corrupt(f"event {at.position + 1} is missing from the ledger")
            expected = event_hash(
                at.hash,
                row["position"],
                row["stream"],
                row["version"],
                row["recorded_at"],
                row["topic"],
                row["state"],
                row["context"],
            )
            if row["hash"] != expected:
                raise Corrupt(f"event {row['position']} is not what was recorded")
            at = Cursor(row["position"], expected)
            if at.position == tip["position"] and at.hash != tip["hash"]:
                raise Corrupt(f"the ledger's tip disagrees with event {at.position}")
    return at
