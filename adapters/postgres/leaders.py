"""Elects one process for a role, by a lock that lives as long as a connection.

The lock belongs to a session, so the URL must lead to PostgreSQL itself or to a pooler in session
mode.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from adapters.postgres.connection import Database
from domain.model.errors import Conflict
from domain.ports import Leadership

_POLL = 0.25  # seconds
SILENCE_SECONDS = 5.0

# Try to become the leader; the lock goes with the connection.
_TRY = "SELECT pg_try_advisory_lock(hashtext('migration_ledger.leaders'), hashtext($1))"

# A new leader, a new epoch.
_WON = """
INSERT INTO leaders (name, holder, epoch) VALUES ($1, $2, 1)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = leaders.epoch + 1
RETURNING epoch
"""

# The latest epoch, while work goes on.
_EPOCH = "SELECT epoch FROM leaders WHERE working() AND name = $1"


class PostgresLeaders:
    """Implements `domain.ports.Leaders`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def lead(self, name: str, holder: str) -> AsyncIterator[Leadership]:
        """Wait until this process leads.

        Raises:
            Conflict: the connection ended inside the block, and the leadership with it.
        """
        async with self._database.session(f"leader {name}") as connection:
            await _win(connection, name)
            async with _until_lost(connection, name):
                yield Leadership(name, await connection.fetchval(_WON, name, holder))

    async def confirm(self, leadership: Leadership) -> None:
        """Check that nobody else leads meanwhile, and that work goes on.

        Raises:
            Conflict: the latest leadership is another one.
            Halted: work is halted.
        """
        async with self._database.connection() as connection:
            refuse_other(leadership, await connection.fetchval(_EPOCH, leadership.name))


def refuse_other(leadership: Leadership, epoch: int | None) -> None:
    """Refuse a leadership that is not the latest.

    In a database that was restored, the latest epoch may also be lower, or not be there.

    Raises:
        Conflict: the epoch is another one.
    """
    if epoch != leadership.epoch:
        raise Conflict(f"another process leads {leadership.name} now (epoch {epoch})")


async def _win(connection: Any, name: str) -> None:
    """Wait for the lock; polled, because a statement that waits runs into its time-out."""
    while True:
        if await connection.fetchval(_TRY, name):
            return
        await asyncio.sleep(_POLL)


@asynccontextmanager
async def _until_lost(connection: Any, name: str) -> AsyncIterator[None]:
    """Cancel the block when the connection ends, with the time-out that never comes otherwise.

    A server that is gone without a word ends no connection, so it is asked from time to time.
    """
    lost = asyncio.timeout(None)

    def end(_connection: object) -> None:
        with suppress(RuntimeError):  # the block has ended meanwhile
            lost.reschedule(asyncio.get_running_loop().time())

    try:
        async with lost:
            connection.add_termination_listener(end)
            asking = asyncio.ensure_future(_ask(connection, end))
            try:
                yield
            finally:
                asking.cancel()
                connection.remove_termination_listener(end)
    except TimeoutError as error:
        if not lost.expired():
            raise
        raise Conflict(f"lost the connection that leads {name}") from error


async def _ask(connection: Any, end: Callable[[object], None]) -> None:
    """Ask the server again and again whether it is there, until it does not answer."""
    while True:
        await asyncio.sleep(SILENCE_SECONDS)
        try:
            await connection.fetchval("SELECT 1", timeout=SILENCE_SECONDS)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            end(connection)
            return
