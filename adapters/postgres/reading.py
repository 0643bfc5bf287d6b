"""Reading events, by position and by stream."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from eventsourcing.domain import AggregateEvent

from adapters.postgres.connection import Database
from adapters.postgres.mapper import COLUMNS, to_event, to_recorded
from domain.model.aggregate import LedgerAggregate
from domain.model.errors import Corrupt
from domain.model.recorded import GENESIS_HASH, Cursor, Recorded

A = TypeVar("A", bound=LedgerAggregate)

_REPLAY_PAGE = 5000
_LAST_VERSION = 2**31 - 1

# The next events after a position.
_READ = f"""
SELECT {COLUMNS} FROM events WHERE position > $1 ORDER BY position LIMIT $2
"""  # noqa: S608

# The next events of one kind after a position; the index is over the topic's first word.
_READ_KIND = f"""
SELECT {COLUMNS} FROM events
WHERE split_part(topic, '.', 1) = $3 AND position > $1 AND starts_with(topic, $4)
ORDER BY position LIMIT $2
"""  # noqa: S608

# The next events after a position whose topics begin in the middle of a word.
_READ_PREFIX = f"""
SELECT {COLUMNS} FROM events WHERE position > $1 AND starts_with(topic, $3)
ORDER BY position LIMIT $2
"""  # noqa: S608

# Events of one stream.
_STREAM = f"""
SELECT {COLUMNS} FROM events WHERE stream = $1 AND version > $2 AND version <= $3
ORDER BY version LIMIT $4
"""  # noqa: S608

# The last event of a stream up to a position.
_STREAM_AT = f"""
SELECT {COLUMNS} FROM events WHERE stream = $1 AND position <= $2 ORDER BY version DESC LIMIT 1
"""  # noqa: S608

# When an event was recorded; never before those at lower positions.
_RECORDED_AT = "SELECT recorded_at FROM events WHERE position = $1"

# The last event, after which an append goes on.
TIP = "SELECT position, hash FROM tip"

# The hash of one event.
HASH = "SELECT hash FROM events WHERE position = $1"


async def read(database: Database, after: int, limit: int, topics: str | None) -> list[Recorded]:
    """The next events after a position, optionally those whose topics have a prefix."""
    async with database.connection() as connection:
        if topics is None:
            rows = await connection.fetch(_READ, after, limit)
        elif "." in topics:
            kind = topics.partition(".")[0]
            rows = await connection.fetch(_READ_KIND, after, limit, kind, topics)
        else:
            rows = await connection.fetch(_READ_PREFIX, after, limit, topics)
    return [to_recorded(row) for row in rows]


async def stream_events(
    database: Database, stream: UUID, after: int, through: int | None
) -> list[Recorded]:
    """Events of one stream with versions in (after, through]."""
    last = _LAST_VERSION if through is None else through
    async with database.connection() as connection:
        rows = await connection.fetch(_STREAM, stream, after, last, None)
    return [to_recorded(row) for row in rows]


async def event_at(database: Database, stream: UUID, position: int) -> Recorded | None:
    """The last event of a stream up to a position, or None."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_STREAM_AT, stream, position)
    return None if row is None else to_recorded(row)


async def position_at(database: Database, time: datetime) -> int:
    """The position of the last event that was recorded until then; 0 if there is none."""
    first, last = 0, (await head(database)).position
    async with database.connection() as connection:
        while first < last:
            middle = (first + last + 1) // 2
            if await connection.fetchval(_RECORDED_AT, middle) <= time:
                first = middle
            else:
                last = middle - 1
    return first


async def load(database: Database, aggregate: type[A], stream: UUID) -> A | None:
    """An aggregate from its events, which are read in pages.

    Raises:
        Corrupt: the stream is one of another kind of aggregate.
    """
    loaded: LedgerAggregate | None = None
    async for event in _replay(database, stream):
        loaded = event.mutate(loaded)
    if loaded is None:
        return None
    if not isinstance(loaded, aggregate):
        raise Corrupt(f"stream {stream} is a {type(loaded).__name__}, not a {aggregate.__name__}")
    return loaded


async def head(database: Database) -> Cursor:
    """Position and hash of the last event."""
    async with database.connection() as connection:
        row = await connection.fetchrow(TIP)
    return Cursor(row["position"], row["hash"])


async def verify_cursor(database: Database, cursor: Cursor) -> None:
    """Check that the ledger has an event with this hash.

    Raises:
        Corrupt: the cursor is ahead of the ledger, or of another history.
    """
    recorded: bytes | None = GENESIS_HASH
    if cursor.position:
        async with database.connection() as connection:
            recorded = await connection.fetchval(HASH, cursor.position)
    if recorded is None:
        raise Corrupt(
            f"a cursor is at position {cursor.position}, which the ledger does not have: "
            "was an older backup restored? Run `recover`."
        )
    if recorded != cursor.hash:
        raise Corrupt(
            f"event {cursor.position} is not the one that a cursor has seen: this is another "
            "history. Run `recover`."
        )


async def _replay(database: Database, stream: UUID) -> AsyncIterator[AggregateEvent]:
    version = 0
    while True:
        async with database.connection() as connection:
            rows = await connection.fetch(_STREAM, stream, version, _LAST_VERSION, _REPLAY_PAGE)
        for row in rows:
            yield to_event(row)
        if len(rows) < _REPLAY_PAGE:
            return
        version = rows[-1]["version"]
