"""What the ledger says while a schedule runs, read past all proxies and without our own code."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

POLL_SECONDS = 0.01
AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What a client of PostgreSQL meets while the server is killed or starts again."""

# The next events.
_EVENTS = """
SELECT position, topic FROM migration_ledger.events WHERE position > $1 ORDER BY position
"""


class Progress:
    """Counts events by topic as they come.

    Attributes:
        position: of the last event that was seen.
        over: set when nothing more will come; every moment has come then.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._counts: Counter[str] = Counter()
        self._grown = asyncio.Event()
        self.position = 0
        self.over = asyncio.Event()

    def restart(self) -> None:
        """Count from here."""
        self._counts.clear()

    def end(self) -> None:
        """Nothing more will come."""
        self.over.set()
        self._wake()

    async def until(self, topic: str, count: int) -> None:
        """Return when so many events of a topic were recorded, or all is over."""
        while self._counts[topic] < count and not self.over.is_set():
            await self._grown.wait()

    async def watch(self) -> None:
        """Follow the ledger until cancelled."""
        while True:
            try:
                async with connected(self._url) as connection:
                    while True:
                        await self._look(connection)
                        await asyncio.sleep(POLL_SECONDS)
            except AWAY:
                await asyncio.sleep(POLL_SECONDS)

    async def _look(self, connection: asyncpg.Connection) -> None:
        rows = await connection.fetch(_EVENTS, self.position)
        if rows:
            self.position = rows[-1]["position"]
            self._counts.update(row["topic"] for row in rows)
            self._wake()

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of its own, which gives up on a server that is paused."""
    connection = await asyncpg.connect(url, timeout=5, command_timeout=60)
    try:
        yield connection
    finally:
        connection.terminate()
