"""Databases of tests, copied from a template."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg


@asynccontextmanager
async def new_database(server: str, template: str) -> AsyncIterator[str]:
    """The URL of a new database, which is dropped at the end."""
    name = f"test_{uuid4().hex}"
    await execute(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
    yield with_database(server, name)
    await execute(server, f'DROP DATABASE "{name}" WITH (FORCE)')


@asynccontextmanager
async def new_ledger_database(server: str, template: str) -> AsyncIterator[str]:
    """The URL of a new database with an empty ledger of its own."""
    async with new_database(server, template) as url:
        # The copy of a database is the same ledger, and the tests' ledgers share servers.
        await execute(url, "UPDATE migration_ledger.timeline SET ledger = gen_random_uuid()")
        yield url


async def execute(url: str, statement: str) -> None:
    """Run a statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def with_database(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()
