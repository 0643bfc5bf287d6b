"""Whether the servers behind the service answer, each asked for a moment only."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from adapters.bootstrap import DEFAULT, Service
from adapters.postgres.schema import require_current
from domain.model.errors import LedgerError
from domain.use_cases.concurrently import concurrently

CHECK_SECONDS = 3.0


@dataclass(frozen=True)
class Checked:
    """What a server answered.

    Attributes:
        name: what it is for.
        version: of the server, where it says one.
        failure: why it does not serve, or None.
    """

    name: str
    version: str | None
    failure: str | None


async def check_servers(service: Service) -> list[Checked]:
    """Database, its schema, the broker and the default store, asked side by side."""
    return await concurrently(
        [
            _checked("database", _database(service)),
            _checked("schema", _schema(service)),
            _checked("kafka", _kafka(service)),
            check_store(service, DEFAULT, "qdrant"),
        ]
    )


async def check_store(service: Service, store: str, name: str) -> Checked:
    """Whether a vector store answers."""
    return await _checked(name, service.stores.store(store).version())


async def _checked(name: str, asked: Awaitable[str | None]) -> Checked:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return Checked(name, await asked, None)
    except TimeoutError:
        return Checked(name, None, f"no answer within {CHECK_SECONDS:g} s")
    except LedgerError as error:
        return Checked(name, None, str(error))


async def _database(service: Service) -> str:
    async with service.database.connection() as connection:
        return str(await connection.fetchval("SHOW server_version"))


async def _schema(service: Service) -> None:
    await require_current(service.database)


async def _kafka(service: Service) -> None:
    async with service.publisher() as publisher:
        await publisher.end_offsets()
