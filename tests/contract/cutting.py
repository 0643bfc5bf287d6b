"""A connection that breaks when the server has done what it was asked, and nobody has heard it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

from tests.tcp_proxy import TcpProxy


class Listening(TcpProxy):
    """A proxy that stops what passes from the moment a client sends certain words.

    Attributes:
        heard: set when the words have come.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.heard = asyncio.Event()
        self._words = b""
        self._held = {"answers": True}

    def hold_at(self, words: bytes, *, requests: bool = False) -> None:
        """Hold the answers from the next request with these words on, or that request itself."""
        self.heard.clear()
        self._words = words
        self._held = {"requests": True} if requests else {"answers": True}

    def hear(self, chunk: bytes) -> None:
        """Notice what a client sends."""
        if self._words and self._words in chunk:
            self._words = b""
            self.hold(**self._held)
            self.heard.set()

    def lose(self) -> None:
        """Cut every connection, with what is held; new ones are let through."""
        self.cut()
        self.release()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        open_: asyncio.Event,
        delay: float,
    ) -> None:
        if open_ is self._requests:
            reader = _Overheard(reader, self)  # type: ignore[assignment]
        await super()._pump(reader, writer, open_, delay)


class _Overheard:
    """What a client sends, with an ear on it."""

    def __init__(self, reader: asyncio.StreamReader, proxy: Listening) -> None:
        self._reader = reader
        self._proxy = proxy

    async def read(self, size: int) -> bytes:
        chunk = await self._reader.read(size)
        self._proxy.hear(chunk)
        return chunk


@asynccontextmanager
async def between(url: str) -> AsyncIterator[tuple[Listening, str]]:
    """A proxy in front of a database, and the URL of the database through it."""
    parts = urlsplit(url)
    async with Listening(parts.port or 5432) as proxy:
        user = parts.netloc.rpartition("@")[0]
        yield proxy, parts._replace(netloc=f"{user}@127.0.0.1:{proxy.port}").geturl()


async def committed(url: str, key: str) -> None:
    """Return when the ledger has a key, looking past any proxy."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(60):
            while not await connection.fetchval(
                "SELECT count(*) FROM migration_ledger.commands WHERE key = $1", key
            ):
                await asyncio.sleep(0.01)
    finally:
        await connection.close()
