"""A database whose connections end right after a commit, as in a failover."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from adapters.postgres.connection import Database


class DropsAfterCommit(Database):
    """Ends the connection of the next append when it is committed, before its answer is used."""

    armed = True

    async def open_session(self, purpose: str) -> Any:
        return _Dropping(self, await super().open_session(purpose))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with super().connection() as connection:
            async with connection.transaction():
                yield connection
            if self.armed:
                self.armed = False
                await _drop(self._url, connection)


class _Dropping:
    def __init__(self, database: DropsAfterCommit, connection: Any) -> None:
        self._database = database
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        value = await self._connection.fetchval(query, *arguments)
        if "append_one(" in query and self._database.armed:
            self._database.armed = False
            await _drop(self._database._url, self._connection)
        return value


async def _drop(url: str, connection: Any) -> None:
    """Have the server end a connection, and notice it."""
    killer = await asyncpg.connect(url)
    await killer.execute("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())
    await killer.close()
    await connection.execute("SELECT 1")
