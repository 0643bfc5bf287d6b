"""Tells readers, in this process and in others, that the ledger has grown.

A notification saves waiting for the next poll; nothing is missed without it.
"""

import asyncio
import logging
from contextlib import suppress

from adapters.postgres.connection import Database
from domain.model.errors import LedgerError

logger = logging.getLogger(__name__)

_CHANNEL = "migration_ledger"
_RECONNECT = 1.0  # seconds
_PAUSE = 0.005  # seconds between notifications, which cost as much as an append

# Tell all listeners up to which position the ledger has grown. A notification does not survive a
# crash anyway, so nothing waits until this transaction is on disk.
_NOTIFY = f"SELECT set_config('synchronous_commit', 'off', true), pg_notify('{_CHANNEL}', $1)"

# The position of the last event.
_TIP = "SELECT position FROM tip"


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
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(_CHANNEL, self._heard)
            # The server behind a new connection may be an older backup: begin anew.
            self._position = await connection.fetchval(_TIP)
            self._wake()
            await ended.wait()

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
            position: int = await connection.fetchval(_TIP)
            return position
