"""Tells readers, in this process and in others, that the ledger has grown.

A notification saves waiting for the next poll; nothing is missed without it.
"""

import asyncio
import logging
import os
import socket
from contextlib import suppress
from typing import Any

from adapters.postgres import timelines
from adapters.postgres.connection import Database
from adapters.postgres.reading import HASH, TIP
from domain.model.errors import LedgerError
from domain.model.recorded import Cursor
from domain.model.timeline import Finding, Witness, contradicted

logger = logging.getLogger(__name__)

_CHANNEL = "migration_ledger"
_RECONNECT = 1.0  # seconds
_PAUSE = 0.005  # seconds between notifications, which cost as much as an append

# Tell all listeners up to which position the ledger has grown. A notification does not survive a
# crash anyway, so nothing waits until this transaction is on disk.
_NOTIFY = f"SELECT set_config('synchronous_commit', 'off', true), pg_notify('{_CHANNEL}', $1)"


class Wakeups:
    """Announces what this process appended, and hears what others appended.

    Args:
        database: of the ledger.
        poll: seconds after which a waiting reader looks by itself.
    """

    def __init__(self, database: Database, poll: float = 0.5) -> None:
        self._database = database
        self._poll = poll
        self._position = 0
        self._seen = Cursor()
        self._listening = False
        self._changed = asyncio.Event()
        self._unannounced = asyncio.Event()
        self._listen = asyncio.Event()

    def grown(self, position: int) -> None:
        """Note that an event at this position was committed by this process."""
        self._advance(position)
        self._unannounced.set()

    async def wait(self, after: int, seconds: float) -> None:
        """Return when there is an event after a position, or after so many seconds."""
        self._listen.set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            changed = self._changed
            if self._position > after or await self._tip() > after:
                return
            remaining = deadline - loop.time()
            if remaining <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(remaining, self._poll)):
                    await changed.wait()

    async def announce(self) -> None:
        """Notify other processes, once for all that was appended meanwhile, until cancelled."""
        while True:
            await self._unannounced.wait()
            self._unannounced.clear()
            try:
                async with self._database.connection() as connection:
                    await connection.execute(_NOTIFY, str(self._position))
            except LedgerError as error:
                logger.debug("notification_not_sent", extra={"cause": str(error)})
            await asyncio.sleep(_PAUSE)

    async def listen(self) -> None:
        """Hear other processes, from the first `wait` until cancelled."""
        await self._listen.wait()
        while True:
            try:
                await self._hear()
            except LedgerError as error:
                logger.debug("listening_interrupted", extra={"cause": str(error)})
            await asyncio.sleep(_RECONNECT)

    async def _hear(self) -> None:
        """Listen until the connection ends."""
        async with self._database.session("listener") as connection:
            ended = asyncio.Event()

            def end(_connection: object) -> None:
                self._listening = False
                ended.set()

            connection.add_termination_listener(end)
            await connection.add_listener(_CHANNEL, self._heard)
            await self._begin_anew(connection)
            self._listening = not ended.is_set()
            self._wake()
            await ended.wait()

    async def _begin_anew(self, connection: Any) -> None:
        """The server behind a new connection may be an older backup: then all work halts."""
        position, seen = self._position, self._seen  # before the tip, which may grow meanwhile
        row = await connection.fetchrow(TIP)
        head = Cursor(row["position"], row["hash"])
        known = not seen.position or await connection.fetchval(HASH, seen.position) == seen.hash
        if not known or position > head.position:
            await self._halt(seen if position <= seen.position else Cursor(position, b""), head)
        self._position, self._seen = head.position, head

    async def _halt(self, seen: Cursor, head: Cursor) -> None:
        standing = await timelines.standing(self._database)
        witness = Witness.of(f"process {os.getpid()} on {socket.gethostname()}", seen)
        says = contradicted(witness, standing, head, known=False) or ""
        finding = Finding(witness.where, seen.position, witness.hash, standing.timeline, says)
        logger.error("older_history", extra={"finding": says})
        await timelines.halt(self._database, [finding])

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        self._advance(int(payload))

    def _advance(self, position: int) -> None:
        if position > self._position:
            self._position = position
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _tip(self) -> int:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(TIP)
        position: int = row["position"]
        # Without the listener this may be another server, which it will look at when it connects.
        if self._listening:
            self._seen = Cursor(position, row["hash"])
        return position
