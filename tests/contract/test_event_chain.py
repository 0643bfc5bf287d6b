"""Events are never changed, and a change is found and named."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from adapters.postgres.chain import event_hash, verify_chain
from adapters.postgres.connection import Database
from adapters.postgres.ledger import PostgresLedger
from domain.model.errors import Corrupt, Rejected
from domain.model.recorded import Cursor
from tests.contract.builders import application, command


async def test_a_changed_byte_is_found_and_named(
    database: Database, ledger: PostgresLedger
) -> None:
    for number in range(5):
        await ledger.append(command(str(number), application(number)))
    before = (await ledger.read(0, 10))[1]
    assert await verify_chain(database) == await ledger.head()
    async with database.connection() as connection:
        await connection.execute("ALTER TABLE events DISABLE TRIGGER events_are_for_ever")
        await connection.execute(
            "UPDATE events SET context = convert_to(replace(convert_from(context, 'UTF8'),"
            " 'mara', 'fred'), 'UTF8') WHERE position = 4"
        )
    with pytest.raises(Corrupt, match="event 4 is not what was recorded"):
        await verify_chain(database)
    with pytest.raises(Corrupt, match="event 4"):
        await verify_chain(database, after=Cursor(before.position, before.hash))


async def test_a_deleted_event_is_found_and_named(
    database: Database, ledger: PostgresLedger
) -> None:
    for number in range(5):
        await ledger.append(command(str(number), application(number)))
    async with database.connection() as connection:
        await connection.execute("ALTER TABLE events DISABLE TRIGGER events_are_for_ever")
        await connection.execute("DELETE FROM events WHERE position = 5")
    with pytest.raises(Corrupt, match="event 5 is missing"):
        await verify_chain(database)
    async with database.connection() as connection:
        await connection.execute("DELETE FROM events WHERE position = 3")
    with pytest.raises(Corrupt, match="event 3 is missing"):
        await verify_chain(database)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE events SET version = 9", "DELETE FROM events", "TRUNCATE events"],
)
async def test_recorded_events_are_never_changed(
    database: Database, ledger: PostgresLedger, statement: str
) -> None:
    await ledger.append(command("k", application()))
    with pytest.raises(Rejected, match="events are never changed"):
        async with database.connection() as connection:
            await connection.execute(statement)

    async def as_replication() -> None:
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(statement)

    with pytest.raises(Rejected, match="events are never changed"):
        await as_replication()


def test_the_hash_is_the_documented_one() -> None:
    documented = (Path(__file__).parents[2] / "docs/reference/event-hash.md").read_text()
    hashed = event_hash(
        previous=bytes(32),
        position=1,
        stream=UUID("00112233-4455-6677-8899-aabbccddeeff"),
        version=1,
        recorded_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        topic="generation.dropped",
        state=b"{}",
        context=b'{"actor":"mara"}',
    )
    assert f"`{hashed.hex()}`" in documented
