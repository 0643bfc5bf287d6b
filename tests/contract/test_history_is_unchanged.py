"""Events are never changed: not by the service's role, not by the owner, not by replication."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from adapters.postgres.connection import SCHEMA, open_database
from adapters.postgres.ledger import PostgresLedger
from tests.contract.builders import application, command

REFUSED = "events are never changed"
CHANGES = (
    "UPDATE events SET state = ''",
    "UPDATE events SET position = position + 1 WHERE position = 3",
    "UPDATE events SET topic = topic WHERE false",
    "DELETE FROM events",
    "DELETE FROM events WHERE position = 3",
    "DELETE FROM ONLY events",
    "TRUNCATE events",
    "TRUNCATE events CASCADE",
    "INSERT INTO events SELECT * FROM events ON CONFLICT (position) DO UPDATE SET topic = ''",
    "MERGE INTO events USING streams ON true WHEN MATCHED THEN DELETE",
    "WITH gone AS (DELETE FROM events RETURNING *) SELECT count(*) FROM gone",
)
"""Ways to change what is recorded."""
DEFENCES = (
    "ALTER TABLE events DISABLE TRIGGER events_are_for_ever",
    "ALTER TABLE events DISABLE TRIGGER ALL",
    "DROP TRIGGER events_are_for_ever ON events",
    "DROP TABLE events",
    "DROP FUNCTION refuse_change CASCADE",
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE sql AS ''",
    "ALTER TABLE events RENAME TO old_events",
    "SET session_replication_role = replica",
)
"""Ways to take away what refuses."""
BYPASSES = (
    "INSERT INTO events SELECT * FROM events WHERE false",
    "UPDATE tip SET position = 1",
    "DELETE FROM tip",
    "UPDATE streams SET version = 1",
    "DELETE FROM commands",
    "UPDATE commands SET position = 1",
    "TRUNCATE streams, commands",
)
"""Ways to make `append` go on from something else."""


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def service_url(ledger_database: str) -> str:
    """The ledger as the service's role reaches it."""
    role = "service_" + urlsplit(ledger_database).path.removeprefix("/test_")
    grants = files("adapters.postgres").joinpath("service_role.sql").read_text()
    async with connected(ledger_database) as owner:
        await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'service'")
        await owner.execute(grants.replace(':"role"', role))
    parts = urlsplit(ledger_database)
    return parts._replace(netloc=f"{role}:service@{parts.hostname}:{parts.port}").geturl()


@pytest.fixture
async def recorded(ledger: PostgresLedger) -> PostgresLedger:
    await ledger.append(command("k", application(receipts=9)))
    return ledger


async def test_the_owner_is_refused(ledger_database: str, recorded: PostgresLedger) -> None:
    before = await recorded.read(0, 100)
    async with connected(ledger_database) as owner:
        for statement in CHANGES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match=REFUSED):
                await owner.execute(statement)
    assert await recorded.read(0, 100) == before


async def test_rows_from_replication_are_refused(
    ledger_database: str, recorded: PostgresLedger
) -> None:
    """Ordinary triggers are off where a subscription, or a restore, writes."""
    before = await recorded.read(0, 100)
    async with connected(ledger_database) as owner:
        await owner.execute("SET session_replication_role = replica")
        for statement in CHANGES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match=REFUSED):
                await owner.execute(statement)
    assert await recorded.read(0, 100) == before


async def test_the_service_is_refused(recorded: PostgresLedger, service_url: str) -> None:
    before = await recorded.read(0, 100)
    async with connected(service_url) as service:
        for statement in (*CHANGES, *DEFENCES, *BYPASSES):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await service.execute(statement)
    assert await recorded.read(0, 100) == before


async def test_the_service_appends(recorded: PostgresLedger, service_url: str) -> None:
    async with open_database(service_url) as database, PostgresLedger(database) as ledger:
        answer = await ledger.append(command("more", application(2, receipts=1)))
        assert answer.position == (await recorded.head()).position - 1
        assert (await ledger.append(command("one", application(3)))).count == 1
