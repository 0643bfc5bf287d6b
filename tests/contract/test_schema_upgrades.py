"""Every earlier schema is upgraded to the newest: by several at once, and with the rows it had."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from adapters.postgres import schema
from adapters.postgres.applications import PostgresApplications
from adapters.postgres.chain import verify_chain
from adapters.postgres.connection import SCHEMA, Database, open_database
from adapters.postgres.cursors import PostgresCursors
from adapters.postgres.derived import verify_derived
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.schema import migrations, require_current, upgrade
from adapters.postgres.views import PostgresViews
from domain.model.application import Application
from domain.model.errors import KeyReused
from domain.model.generation import Generation
from domain.model.recorded import Answer, Command
from tests.contract.builders import CONTEXT, application, command, create, draft, key
from tests.contract.processes import start
from tests.contract.released import released

NEWEST = migrations()[-1].version
GENERATIONS, VIEWS, PAST_HEADS = 2, 3, 6
"""Versions of the schema from which there are generations, read models, and a past of heads."""
PROCESSES = 6


async def make_database_of(url: str, version: int) -> None:
    """A database of a version, with the rows that the last release up to it wrote."""
    dumps = released()
    before = max((one for one in dumps if one <= version), default=0)
    if before:
        connection = await asyncpg.connect(url)
        await connection.execute(dumps[before])
        await connection.close()
    known = migrations()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: known[:version])
        if version < PAST_HEADS:
            patch.setattr(schema, "complete_pasts", nothing)
        async with open_database(url) as database:
            assert await upgrade(database) == known[before:version]


async def nothing(_database: Database) -> None:
    """What a program does that keeps no past of heads."""


async def rows_of(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table of the ledger."""
    async with database.connection() as connection:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = $1", SCHEMA
        )
        return {
            table: [dict(row) for row in await connection.fetch(f"SELECT * FROM {table}")]  # noqa: S608
            for (table,) in tables
        }


def counted(rows: list[dict[str, Any]], columns: set[str]) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(repr(row[column]) for column in sorted(columns)) for row in rows)


def assert_kept(
    before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]]
) -> None:
    """Every table has the rows that it had, in the columns that it had."""
    del before["schema_versions"]
    for table, rows in before.items():
        columns = set(rows[0]) if rows else set()
        assert counted(after[table], columns) == counted(rows, columns), table


@pytest.mark.parametrize("version", range(NEWEST))
async def test_six_processes_upgrade_at_once(empty_database: str, version: int) -> None:
    await make_database_of(empty_database, version)
    processes = [
        await start("tests.contract.upgrading", url=empty_database) for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"connected\n"
    applied = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert sorted(int(output) for output, _ in applied) == [0] * 5 + [NEWEST - version]
    async with open_database(empty_database) as database, PostgresLedger(database) as ledger:
        await require_current(database)
        assert (await ledger.append(command("new", application(9)))).count == 1


@pytest.mark.parametrize("version", range(1, NEWEST + 1))
async def test_an_earlier_schema_is_upgraded_with_its_rows(
    empty_database: str, version: int
) -> None:
    await make_database_of(empty_database, version)
    async with open_database(empty_database) as database, PostgresLedger(database) as ledger:
        before = await rows_of(database)
        assert await upgrade(database) == migrations()[version:]
        assert_kept(before, await rows_of(database))
        await require_current(database)
        assert await verify_chain(database) == await ledger.head()
        await verify_derived(database)

        await answers_are_kept(ledger)
        await what_is_new_is_recorded(ledger)
        if version >= GENERATIONS:
            await generations_go_on(database, ledger)
        if version >= VIEWS:
            await readers_go_on(database, ledger)
        assert await verify_chain(database) == await ledger.head()
        await verify_derived(database)


async def answers_are_kept(ledger: PostgresLedger) -> None:
    repeated = await ledger.append(command("one", application(1, receipts=2)))
    assert repeated == Answer(1, 3, repeated=True)
    assert await ledger.append(Command("nothing", [], CONTEXT)) == Answer(0, 0, repeated=True)
    with pytest.raises(KeyReused):
        await ledger.append(command("one", application(1)))


async def what_is_new_is_recorded(ledger: PostgresLedger) -> None:
    made = await ledger.load(Application, application(1).id)
    assert made is not None
    made.receipt(7, points=1)
    await ledger.append(command("new", made, application(9)))
    stream = await create(ledger, "new__g1")
    await ledger.record("new points", CONTEXT, [draft(stream, {1: 10})])
    assert (await ledger.heads(stream)).keys == [key(1)]


async def generations_go_on(database: Database, ledger: PostgresLedger) -> None:
    docs = Generation.create_id("prod", "docs__g1", 1)
    assert len(await ledger.heads(docs)) == 7
    repeated = await ledger.record(
        "docs 1", CONTEXT, [draft(docs, {n: n * 10 for n in range(1, 8)})]
    )
    assert repeated.repeated
    await ledger.record("docs 3", CONTEXT, [draft(docs, {1: None, 20: 200, 21: 210})])
    heads = await ledger.heads(docs)
    assert (len(heads), heads.versions[-1]) == (8, 6)
    for at, hashes in ((2, [10, 20, 30, 40, 50, 60, 70]), (3, [11, 30, 40, 50, 60, 70, 90])):
        then = await ledger.heads(docs, at=at)
        assert [int.from_bytes(one) for one in then.hashes] == hashes
    addresses = [
        vars(one.event)["manifest"]
        for one in await ledger.events(docs)
        if isinstance(one.event, Generation.ChangeSetRecorded)
    ]
    assert len(await ledger.manifests(addresses)) == 4
    code = Generation.create_id("prod", "code__g1", 1)
    applications = PostgresApplications(database, ledger.wakeups)
    assert await halted_at(applications, code) == 2
    await applications.retry(code, CONTEXT)
    assert await halted_at(applications, code) is None


async def halted_at(applications: PostgresApplications, generation: UUID) -> int | None:
    status = await applications.status(generation)
    assert status is not None
    return status.halted_at


async def readers_go_on(database: Database, ledger: PostgresLedger) -> None:
    cursor = await PostgresCursors(database).get("relay")
    await ledger.verify_cursor(cursor)
    assert await ledger.read(cursor.position, 1)
    views = PostgresViews(database)
    assert await views.get("collections", "docs") == {"points": 7}
    assert await views.cursor("collections") == cursor


def test_every_release_left_its_rows() -> None:
    assert set(released()) >= {1, 2, 3}


async def test_a_role_that_could_record_still_can(empty_database: str) -> None:
    """To lock the bodies that it refers to it needs a right that no earlier version gave."""
    await make_database_of(empty_database, 8)
    async with open_database(empty_database) as database:
        role = f"recorder_{uuid4().hex}"
        async with database.connection() as connection:
            await connection.execute(
                f"CREATE ROLE {role}; GRANT INSERT, SELECT ON bodies TO {role}"
            )
        await upgrade(database)
        async with database.transaction() as connection:
            await connection.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}; SET ROLE {role}")
            await connection.fetch("SELECT id FROM bodies FOR KEY SHARE")
            await connection.fetch("SELECT * FROM rewritten")
            await connection.execute("RESET ROLE")
