"""A TCP proxy that a test puts between two programs, to cut, hold or slow what passes."""

import asyncio
import socket
from contextlib import suppress
from typing import Self

CHUNK = 65536


class Link:
    """One connection through a proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._ends = (client, server)

    def cut(self) -> None:
        """Reset both ends: whatever is on its way is lost."""
        for end in self._ends:
            connection: socket.socket | None = end.get_extra_info("socket")
            if connection is not None and connection.fileno() != -1:
                # A reset instead of an orderly end, as when a host is gone.
                with suppress(OSError):
                    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            end.transport.abort()


class TcpProxy:
    """Listens on a loopback port and passes everything on to another.

    Attributes:
        port: where it listens; it stays the same when the target changes.
        target: port that connections are passed on to; changed when a server moves.
        delay: seconds that each piece of an answer is held up.
        links: the connections that are open now.
        held: bytes that were taken and not passed on yet.
    """

    def __init__(self, target: int, *, delay: float = 0.0) -> None:
        self.port = 0
        self.target = target
        self.delay = delay
        self.links: set[Link] = set()
        self.held = 0
        self._requests = asyncio.Event()
        self._answers = asyncio.Event()
        self._requests.set()
        self._answers.set()
        self._refusing = False
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self.release()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Cut every connection; new ones are let through."""
        for link in list(self.links):
            link.cut()

    def refuse(self) -> None:
        """Cut every connection, and every new one, until `release`."""
        self._refusing = True
        self.cut()

    def hold(self, *, requests: bool = False, answers: bool = False) -> None:
        """Keep what comes from clients, from the server or both, until `release`."""
        if requests:
            self._requests.clear()
        if answers:
            self._answers.clear()

    def release(self) -> None:
        """Let everything pass again, also what was held."""
        self._refusing = False
        self._requests.set()
        self._answers.set()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            upstream, server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, server)
        self.links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server, self._requests, 0.0))
                group.create_task(self._pump(upstream, writer, self._answers, self.delay))
        except* OSError:
            link.cut()
        finally:
            self.links.discard(link)
            server.close()
            writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        open_: asyncio.Event,
        delay: float,
    ) -> None:
        taken: asyncio.Queue[bytes] = asyncio.Queue()

        async def take() -> None:
            chunk = b"-"
            while chunk:
                chunk = await reader.read(CHUNK)
                self.held += len(chunk)
                taken.put_nowait(chunk)

        # What is held is taken all the same, so that its sender can go on sending.
        async with asyncio.TaskGroup() as group:
            group.create_task(take())
            while chunk := await taken.get():
                if delay:
                    await asyncio.sleep(delay)
                await open_.wait()
                self.held -= len(chunk)
                writer.write(chunk)
                await writer.drain()
        await self._before_end(open_)
        with suppress(OSError):
            writer.write_eof()

    async def _before_end(self, open_: asyncio.Event) -> None:
        """Called when one side has ended, before the other side is told."""
