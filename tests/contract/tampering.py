"""What an owner of the database with all rights can do to the ledger."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from adapters.postgres.chain import event_hash
from adapters.postgres.connection import SCHEMA
from domain.model.recorded import GENESIS_HASH

TABLES = ("events", "tip", "streams", "commands")


@asynccontextmanager
async def tampering(url: str) -> AsyncIterator[Any]:
    """A connection of the owner, who has switched off what guards the events."""
    connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
    try:
        await connection.execute("ALTER TABLE events DISABLE TRIGGER events_are_for_ever")
        yield connection
        await connection.execute("ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_for_ever")
    finally:
        await connection.close()


async def keep(connection: Any) -> None:
    """Keep a copy of the ledger."""
    for table in TABLES:
        await connection.execute(f"CREATE TABLE kept_{table} AS TABLE {table}")


async def put_back(connection: Any) -> None:
    """Make the ledger what it was when it was kept."""
    for table in TABLES:
        await connection.execute(
            f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}"  # noqa: S608
        )


async def write_hashes_anew(connection: Any, first: int, last: int | None = None) -> None:
    """Give events hashes that fit what they are now, and the tip that of the last one."""
    previous = await connection.fetchval("SELECT hash FROM events WHERE position = $1", first - 1)
    rows = await connection.fetch(
        "SELECT * FROM events WHERE position >= $1 AND position <= coalesce($2, position)"
        " ORDER BY position",
        first,
        last,
    )
    for row in rows:
        previous = event_hash(
            previous or GENESIS_HASH,
            row["position"],
            row["stream"],
            row["version"],
            row["recorded_at"],
            row["topic"],
            row["state"],
            row["context"],
        )
        await connection.execute(
            "UPDATE events SET hash = $2 WHERE position = $1", row["position"], previous
        )
    if last is None:
        await set_tip(connection)


async def set_tip(connection: Any) -> None:
    """Let the ledger end with the last event that there is."""
    await connection.execute(
        "UPDATE tip SET position = e.position, hash = e.hash"
        " FROM (SELECT position, hash FROM events ORDER BY position DESC LIMIT 1) e"
    )


async def forget_after(connection: Any, position: int) -> None:
    """Remove all events after a position, and every trace of them."""
    await connection.execute("DELETE FROM events WHERE position > $1", position)
    await set_tip(connection)
    await connection.execute("DELETE FROM commands WHERE position + count - 1 > $1", position)
    await connection.execute("DELETE FROM streams WHERE stream NOT IN (SELECT stream FROM events)")
    await connection.execute(
        "UPDATE streams s SET version = (SELECT max(version) FROM events WHERE stream = s.stream)"
    )


async def move(connection: Any, by: int, first: int) -> None:
    """Move all events from a position on; positions stay unique on the way."""
    await connection.execute("UPDATE events SET position = -position WHERE position >= $1", first)
    await connection.execute("UPDATE events SET position = -position + $1 WHERE position < 0", by)
