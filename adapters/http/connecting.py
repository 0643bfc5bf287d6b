"""The service behind the API, which is opened again and again until the database answers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from adapters.bootstrap import Service
from domain.model.errors import LedgerError, Unavailable

logger = logging.getLogger("migration_ledger.http")

RETRY_SECONDS = 1.0
FIRST_TRY_SECONDS = 2.0
CLOSE_SECONDS = 3.0

OpenService = Callable[[], AbstractAsyncContextManager[Service]]


class Connection:
    """Holds the service while the API runs, so that the process lives while the database is away.

    Args:
        open_service: opens the service; called until it succeeds.
    """

    def __init__(self, open_service: OpenService) -> None:
        self._open_service = open_service
        self._service: Service | None = None
        self._failure = "the service is not open yet"
        self._tried = asyncio.Event()
        self._stop = asyncio.Event()

    @property
    def service(self) -> Service:
        """The open service.

        Raises:
            Unavailable: it could not be opened yet.
        """
        if self._service is None:
            raise Unavailable(self._failure)
        return self._service

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the service in the block, which begins when opening it was tried once.

        A database that hangs delays neither the beginning nor the end for long.
        """
        async with asyncio.TaskGroup() as group:
            holding = group.create_task(self._hold())
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_TRY_SECONDS):
                    await self._tried.wait()
            try:
                yield
            finally:
                self._stop.set()
                await asyncio.wait([holding], timeout=CLOSE_SECONDS)
                holding.cancel()

    async def _hold(self) -> None:
        while not self._stop.is_set():
            try:
                async with self._open_service() as service:
                    self._service = service
                    self._tried.set()
                    await self._stop.wait()
            except LedgerError as error:
                self._failure = str(error)
                logger.warning("service_not_open", extra={"error": str(error)})
            finally:
                self._service = None
                self._tried.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS):
                    await self._stop.wait()
