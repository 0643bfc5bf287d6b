"""Databases that are backed up and restored under running programs, as an operator might."""

from urllib.parse import urlsplit

import asyncpg

_END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1"


async def back_up(url: str) -> str:
    """Copy a database; who is connected to it loses the connection. Returns the copy's name."""
    name = _name(url)
    backup = f"{name}_backup"
    connection = await _server(url)
    try:
        await _shut(connection, name)
        await connection.execute(f'CREATE DATABASE "{backup}" TEMPLATE "{name}" STRATEGY file_copy')
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    finally:
        await connection.close()
    return backup


async def restore(url: str, backup: str) -> None:
    """Put a copy of the backup in the place of the database, under whoever is connected to it."""
    name = _name(url)
    connection = await _server(url)
    try:
        await connection.execute(
            f'CREATE DATABASE "{name}_restored" TEMPLATE "{backup}" STRATEGY file_copy'
        )
        await _shut(connection, name)
        await connection.execute(f'DROP DATABASE "{name}"')
        await connection.execute(f'ALTER DATABASE "{name}_restored" RENAME TO "{name}"')
    finally:
        await connection.close()


def url_of(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


async def _shut(connection: asyncpg.Connection, name: str) -> None:
    await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await connection.execute(_END_SESSIONS, name)


async def _server(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(url_of(url, "postgres"))


def _name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")
