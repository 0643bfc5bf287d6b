"""Transactions of asyncpg, for callers that may be cancelled, and which of its errors pass."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    # What the driver says when the server ends a connection between two messages.
    asyncpg.InternalClientError,
    ConnectionError,
)
"""The connection is gone."""


@asynccontextmanager
async def transaction(connection: Any) -> AsyncIterator[None]:
    """A transaction that the block's end commits and an error rolls back.

    Who is cancelled does not wait for the server: whoever opened the connection has to cut it, and
    the server rolls back.
    """
    begun = connection.transaction()
    await begun.start()
    try:
        yield
    except asyncio.CancelledError:
        raise
    except BaseException:
        await begun.rollback()
        raise
    await begun.commit()
