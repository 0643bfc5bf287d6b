"""Upgrades of the database, what the service's role may do, and errors of the driver."""

from datetime import timedelta
from importlib.resources import files
from urllib.parse import urlsplit

import asyncpg
import pytest

from adapters.postgres.connection import ConnectionLost, Database, open_database
from adapters.postgres.garbage import PostgresGarbage
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.objects import PostgresObjects
from adapters.postgres.schema import migrations, pending_sql, require_current, upgrade
from domain.model.aggregate import pending_events
from domain.model.bodies import address_of
from domain.model.erasure import Erasure
from domain.model.errors import LedgerError, Rejected, Unavailable
from tests.contract.builders import CONTEXT, command, create, draft, generation


def test_migrations_are_numbered_densely() -> None:
    known = migrations()
    assert [one.version for one in known] == list(range(1, len(known) + 1))


async def test_upgrading_again_does_nothing(empty_database: str) -> None:
    async with open_database(empty_database) as database:
        with pytest.raises(Unavailable, match="run `db upgrade`"):
            await require_current(database)
        assert await upgrade(database) == migrations()
        assert await upgrade(database) == []
        assert await pending_sql(database) == ""
        await require_current(database)


async def test_an_operator_can_run_the_sql(empty_database: str) -> None:
    async with open_database(empty_database) as database:
        assert await pending_sql(database) == await pending_sql(None)
        connection = await asyncpg.connect(empty_database)
        await connection.execute(await pending_sql(None))
        await connection.close()
        await require_current(database)
        async with PostgresLedger(database) as ledger:
            assert (await ledger.append(command("k", generation()))).position == 1


async def test_a_newer_database_is_refused(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("INSERT INTO schema_versions (version, name) VALUES (99, 'x')")
    for refused in (upgrade, require_current, pending_sql):
        with pytest.raises(Rejected, match=r"schema version 99.*use a newer program"):
            await refused(database)


async def archived(database: Database) -> None:
    """The store has every change, and nobody goes back to a version: retention has said so."""
    async with database.connection() as connection:
        await connection.execute("UPDATE generations SET archived_before = recorded")
        await connection.execute(
            "UPDATE applications SET applied = recorded FROM generations WHERE generation = stream"
        )


async def test_the_service_role_works_but_rewrites_nothing(
    ledger_database: str, database: Database
) -> None:
    role = "service_" + urlsplit(ledger_database).path.removeprefix("/test_")
    grants = files("adapters.postgres").joinpath("service_role.sql").read_text()
    async with database.connection() as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'service'")
        await connection.execute(grants.replace(':"role"', role))
    parts = urlsplit(ledger_database)
    url = parts._replace(netloc=f"{role}:service@{parts.hostname}:{parts.port}").geturl()
    async with open_database(url) as restricted, PostgresLedger(restricted) as ledger:
        stream = await create(ledger)
        body, objects = address_of(b"a body"), PostgresObjects(restricted)
        written = draft(stream, {1: 1}, objects=[body])
        await ledger.record("r", CONTEXT, [written], bodies={body: b"a body"})
        await ledger.record("d", CONTEXT, [draft(stream, {1: None})])
        manifests = [vars(one.event)["manifest"] for one in (await ledger.events(stream))[1:]]
        await objects.delete([body, *manifests])
        assert not await objects.missing([body, *manifests])
        await archived(database)
        garbage = PostgresGarbage(restricted, ledger.wakeups)
        assert await garbage.condemn() == 1
        await garbage.give_up(timedelta(0), CONTEXT)
        assert await garbage.dispose(objects.delete) == 1
        assert await objects.missing([body, *manifests]) == {body}
        for statement in (
            "UPDATE events SET version = 9",
            "DELETE FROM events",
            "TRUNCATE events",
            "INSERT INTO events SELECT * FROM events",
            "UPDATE tip SET position = 0",
            "DELETE FROM commands",
            "UPDATE streams SET version = 0",
            "UPDATE objects SET content = ''",
            "UPDATE bodies SET address = ''",
            "DELETE FROM bodies",
            "DELETE FROM past_heads",
        ):
            with pytest.raises(Rejected, match="permission denied"):
                async with restricted.connection() as connection:
                    await connection.execute(statement)
        erasure = Erasure(number=1, basis="", subjects={str(stream): [1]})
        with pytest.raises(Rejected, match="permission denied"):
            await ledger.record("e", CONTEXT, [], pending_events(erasure))
        assert await ledger.read(0, 10, topics="erasure.") == []


async def test_errors_name_the_database_and_never_the_password(ledger_database: str) -> None:
    parts = urlsplit(ledger_database)
    name = f"{parts.hostname}:{parts.port}{parts.path}"
    wrong = parts._replace(netloc=f"ledger:wrongpass@{parts.hostname}:{parts.port}").geturl()
    nowhere = parts._replace(netloc=f"ledger:wrongpass@{parts.hostname}:1").geturl()
    for url in (wrong, nowhere):
        with pytest.raises(Unavailable) as caught:
            async with open_database(url):
                pass
        assert "wrongpass" not in str(caught.value)
        assert f"{parts.hostname}:" in str(caught.value)
    async with open_database(ledger_database) as database:
        with pytest.raises(LedgerError, match=name):
            async with database.connection() as connection:
                await connection.execute("SELECT 1 / 0")
        with pytest.raises(ConnectionLost, match=name):
            async with database.connection() as connection:
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_database_without_tables_says_what_to_do(empty_database: str) -> None:
    async with open_database(empty_database) as database, PostgresLedger(database) as ledger:
        with pytest.raises(Unavailable, match="run `db upgrade`"):
            await ledger.head()
