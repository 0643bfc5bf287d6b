"""The table of an application: a connection that is lost is no refusal."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from adapters.tables.sources import PostgresSourceTable
from domain.model.errors import Rejected, Unavailable
from tests.contract.cutting import Listening, between

TABLE = """
CREATE TABLE sources (
    id integer PRIMARY KEY, title text, enabled_collections text[], collection_names jsonb
)
"""
ROWS = b"enabled_collections)::text"


@pytest.fixture
async def table(empty_database: str) -> AsyncIterator[tuple[PostgresSourceTable, Listening]]:
    """A table behind a proxy."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute(TABLE)
    async with between(empty_database) as (proxy, url):
        yield PostgresSourceTable(url, "sources"), proxy
    await connection.close()


async def test_a_connection_that_is_cut_during_a_call(
    table: tuple[PostgresSourceTable, Listening],
) -> None:
    sources, proxy = table
    proxy.hold_at(ROWS)
    reading = asyncio.create_task(sources.rows())
    await proxy.heard.wait()
    proxy.lose()
    with pytest.raises(Unavailable, match="went away"):
        await reading
    assert await sources.rows() == []


async def test_a_server_that_ends_the_connection(
    table: tuple[PostgresSourceTable, Listening], empty_database: str
) -> None:
    sources, proxy = table
    proxy.hold_at(ROWS, requests=True)
    reading = asyncio.create_task(sources.rows())
    await proxy.heard.wait()
    connection = await asyncpg.connect(empty_database)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND query LIKE '%pg_attribute%'"
    )
    await connection.close()
    proxy.release()
    with pytest.raises(Unavailable, match="went away"):
        await reading


async def test_what_the_server_refuses(
    table: tuple[PostgresSourceTable, Listening], empty_database: str
) -> None:
    sources, _ = table
    connection = await asyncpg.connect(empty_database)
    await connection.execute(
        "ALTER TABLE sources ADD CONSTRAINT named CHECK (collection_names <> '{}')"
    )
    await connection.execute("INSERT INTO sources VALUES (1, 'one', '{}', '{\"a\": \"b\"}')")
    await connection.close()
    with pytest.raises(Rejected, match="refuses"):
        await sources.replace_names({"1": ('{"a": "b"}', "{}")})
