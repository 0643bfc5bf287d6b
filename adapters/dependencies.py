"""Whether what the service depends on answers: each asked by itself, and for a moment only.

Nothing is shared with the work of the service, so that what hangs there hides nothing here; and no
dependency that is away hides another.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from adapters.bootstrap import (
    DEFAULT,
    ConfiguredStores,
    object_storage,
    publisher_to,
    with_endpoints,
)
from adapters.embedded import broker
from adapters.postgres.connection import open_database
from adapters.postgres.schema import require_current
from adapters.settings import Settings
from domain.model.errors import LedgerError, Unavailable
from domain.use_cases.concurrently import concurrently

DEPENDENCIES = ("database", "schema", "kafka", "qdrant", "objects")
CHECK_SECONDS = 3.0

_PROBE = b"migration-ledger"


@dataclass(frozen=True)
class Checked:
    """What a dependency answered.

    Attributes:
        name: what it is for.
        version: of the server, where it says one.
        failure: why it does not serve, or None.
    """

    name: str
    version: str | None
    failure: str | None


async def check_dependencies(settings: Settings) -> list[Checked]:
    """Database, its schema, broker, default store and object storage, asked side by side.

    The schema is left out where the database does not answer.
    """
    try:
        known = with_endpoints(settings)
    except Unavailable as error:
        never = [Checked(name, None, str(error)) for name in sorted(settings.embedded)]
        known = settings
    else:
        never = []
    asked: dict[str, Callable[[], Coroutine[Any, Any, list[Checked]]]] = {
        "database": lambda: _database(known),
        "kafka": lambda: _alone("kafka", _broker(known, embedded="kafka" in settings.embedded)),
        "qdrant": lambda: _alone("qdrant", _store(known, DEFAULT)),
        "objects": lambda: _alone("objects", _objects(known)),
    }
    for one in never:
        del asked[one.name]
    answers = [*never]
    for some in await concurrently(ask() for ask in asked.values()):
        answers += some
    return sorted(answers, key=lambda one: DEPENDENCIES.index(one.name))


async def check_stores(settings: Settings) -> list[Checked]:
    """The vector stores that are named in the settings file."""
    return await concurrently(_checked(n, _store(settings, n)) for n in sorted(settings.stores))


async def check_connections(settings: Settings) -> list[Checked]:
    """The databases of applications that are named in the settings file."""
    urls = sorted(settings.connections.items())
    return await concurrently(_checked(name, _server_version(url)) for name, url in urls)


async def _database(settings: Settings) -> list[Checked]:
    url = settings.database_url or ""
    database = await _checked("database", _server_version(url))
    if database.failure is not None:
        return [database]
    return [database, await _checked("schema", _current_schema(url))]


async def _alone(name: str, asked: Awaitable[str | None]) -> list[Checked]:
    return [await _checked(name, asked)]


async def _checked(name: str, asked: Awaitable[str | None]) -> Checked:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return Checked(name, await asked, None)
    except TimeoutError:
        return Checked(name, None, f"no answer within {CHECK_SECONDS:g} s")
    except LedgerError as error:
        return Checked(name, None, str(error))


async def _server_version(url: str) -> str:
    async with open_database(url, max_size=1) as database, database.connection() as connection:
        return str(await connection.fetchval("SHOW server_version"))


async def _current_schema(url: str) -> None:
    async with open_database(url, max_size=1) as database:
        await require_current(database)


async def _broker(settings: Settings, *, embedded: bool) -> str | None:
    """The embedded broker's version; the protocol does not tell that of another."""
    async with publisher_to(settings, embedded=embedded) as publisher:
        await publisher.end_offsets()
    return await broker.version() if embedded else None


async def _store(settings: Settings, name: str) -> str:
    stores = ConfiguredStores(settings, attempts=1)
    try:
        return await stores.store(name).version()
    finally:
        await stores.close()


async def _objects(settings: Settings) -> str:
    """Writes the same small object again and again, since reading does not tell that it can."""
    storage = await asyncio.to_thread(object_storage, settings)
    await storage.get(await storage.put(_PROBE))
    return "writable"
