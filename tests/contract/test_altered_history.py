"""What an owner with all rights changes in the ledger is found, and the first of it named."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from adapters.postgres import chain
from adapters.postgres.chain import Altered, verify_chain, walk_chain
from adapters.postgres.connection import Database
from adapters.postgres.derived import verify_derived
from adapters.postgres.ledger import PostgresLedger
from domain.model.recorded import Cursor
from tests.contract.builders import application, command
from tests.contract.tampering import (
    forget_after,
    keep,
    move,
    put_back,
    set_tip,
    tampering,
    write_hashes_anew,
)

LAST = 20
Tampering = Callable[[Any], Awaitable[None]]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pages in a short ledger."""
    monkeypatch.setattr(chain, "_PAGE", 6)


@pytest.fixture
async def heads(ledger: PostgresLedger) -> dict[int, Cursor]:
    """Every place of a ledger of ten streams with two events each."""
    for number in range(LAST // 2):
        await ledger.append(command(f"create {number}", application(number, receipts=1)))
    recorded = await ledger.read(0, LAST)
    return {0: Cursor()} | {one.position: Cursor(one.position, one.hash) for one in recorded}


@pytest.fixture
async def owner(ledger_database: str, heads: dict[int, Cursor]) -> AsyncIterator[Any]:
    """Somebody with all rights, who can put everything back."""
    assert heads
    async with tampering(ledger_database) as connection:
        await keep(connection)
        yield connection


async def found(
    database: Database, after: Cursor | None = None, noted: Sequence[Cursor] = ()
) -> tuple[int | None, str] | None:
    """Position and words of what is found, if anything is."""
    try:
        async for _ in walk_chain(database, after or Cursor(), noted):
            pass
        await verify_derived(database)
    except Altered as error:
        return error.position, str(error)
    return None


async def found_after(
    owner: Any, database: Database, tamper: str | Tampering
) -> tuple[int | None, str]:
    """What is found when somebody has tampered with a ledger that was whole."""
    await put_back(owner)
    assert await found(database) is None
    if isinstance(tamper, str):
        await owner.execute(tamper)
    else:
        await tamper(owner)
    seen = await found(database)
    assert seen is not None, tamper
    return seen


async def test_what_nobody_touched_is_unaltered(
    database: Database, heads: dict[int, Cursor]
) -> None:
    assert await found(database) is None
    assert await found(database, noted=list(heads.values())) is None
    assert await found(database, after=heads[7], noted=[heads[7], heads[20]]) is None
    assert [at.position async for at in walk_chain(database, Cursor())] == [6, 12, 18, 20]
    assert await verify_chain(database, heads[13]) == heads[20]


CHANGES = (
    "state = state || ' '::bytea",
    "context = convert_to(replace(convert_from(context, 'UTF8'), 'mara', 'fred'), 'UTF8')",
    "topic = topic || '-not'",
    "version = version + 1000",
    "stream = gen_random_uuid()",
    "recorded_at = recorded_at + interval '1 microsecond'",
    "recorded_at = 'infinity'",
    "recorded_at = '-infinity'",
    "recorded_at = '20000-01-01'",
    "recorded_at = '0044-03-15 BC'",
    "hash = sha256(hash)",
)


@pytest.mark.parametrize("position", [1, 6, 7, LAST])
async def test_a_changed_column_is_found(owner: Any, database: Database, position: int) -> None:
    before = f" (or event {position - 1} is not, and has a new hash)" if position > 1 else ""
    for change in CHANGES:
        tamper = f"UPDATE events SET {change} WHERE position = {position}"  # noqa: S608
        assert await found_after(owner, database, tamper) == (
            position,
            f"event {position} is not what was recorded{before}",
        )


async def test_a_removed_event_is_found(owner: Any, database: Database) -> None:
    for removed, first in (
        ("= 1", 1),
        ("= 6", 6),
        ("= 7", 7),
        ("BETWEEN 5 AND 9", 5),
        (f"= {LAST}", LAST),
        ("> 0", 1),
    ):
        tamper = f"DELETE FROM events WHERE position {removed}"  # noqa: S608
        assert await found_after(owner, database, tamper) == (
            first,
            f"event {first} is missing from the ledger",
        )


async def swap(connection: Any) -> None:
    for position, to in ((7, -1), (12, 7), (-1, 12)):
        await connection.execute(
            "UPDATE events SET position = $2 WHERE position = $1", position, to
        )


async def insert_in_the_middle(connection: Any) -> None:
    await move(connection, by=1, first=8)
    await connection.execute(inserted_at(8))


async def close_the_gap(connection: Any) -> None:
    await connection.execute("DELETE FROM events WHERE position = 7")
    await move(connection, by=-1, first=8)
    await set_tip(connection)


async def rewrite_with_its_hash(connection: Any) -> None:
    await connection.execute("UPDATE events SET state = state || ' '::bytea WHERE position = 7")
    await write_hashes_anew(connection, 7, 7)


def inserted_at(position: int) -> str:
    columns = f"{position}, gen_random_uuid(), 1, topic, state, context, recorded_at, hash"
    return f"INSERT INTO events SELECT {columns} FROM events WHERE position = 7"  # noqa: S608


MOVED: tuple[tuple[str | Tampering, int | None, str], ...] = (
    (swap, 7, "event 7 is not what was recorded"),
    (insert_in_the_middle, 8, "event 8 is not what was recorded"),
    (close_the_gap, 7, "event 7 is not what was recorded"),
    (rewrite_with_its_hash, 8, "or event 7 is not, and has a new hash"),
    (inserted_at(LAST + 1), LAST + 1, "event 21 is beyond the ledger's tip"),
    (inserted_at(LAST + 9), LAST + 9, "event 29 is beyond the ledger's tip"),
    (inserted_at(0), 0, "event 0 was never recorded"),
    ("UPDATE tip SET hash = sha256(hash)", LAST, "tip disagrees with event 20"),
    ("UPDATE tip SET position = 25", LAST + 1, "event 21 is missing"),
    ("UPDATE tip SET position = 15", 15, "tip disagrees with event 15"),
    (
        "UPDATE tip SET position = 15, hash = (SELECT hash FROM events WHERE position = 15)",
        16,
        "event 16 is beyond the ledger's tip",
    ),
    ("DELETE FROM tip", None, "the ledger has no tip"),
)


async def test_what_was_moved_or_added_is_found(owner: Any, database: Database) -> None:
    for tamper, position, words in MOVED:
        at, said = await found_after(owner, database, tamper)
        assert at == position
        assert words in said


async def test_the_first_of_several_changes_is_named(owner: Any, database: Database) -> None:
    tamper = """
        DELETE FROM events WHERE position IN (11, 20);
        UPDATE events SET hash = sha256(hash) WHERE position = 16;
        UPDATE events SET topic = '' WHERE position = 9;
        UPDATE tip SET hash = sha256(hash);
    """
    at, _ = await found_after(owner, database, tamper)
    assert at == 9


async def test_a_check_from_a_trusted_head_looks_at_that_and_what_came_later(
    owner: Any, database: Database, heads: dict[int, Cursor]
) -> None:
    await owner.execute("UPDATE events SET topic = '' WHERE position = 9")
    assert await found(database, after=heads[9]) is None
    for after in (heads[0], heads[8]):
        at, _ = await found(database, after=after) or (None, "")
        assert at == 9
    for wrong in (Cursor(9, bytes(32)), Cursor(0, bytes([1] * 32))):
        assert await found(database, after=wrong) == (
            wrong.position,
            f"event {wrong.position} is not the one that is trusted",
        )
    assert await found(database, after=Cursor(25, bytes(32))) == (
        21,
        "event 21 is missing from the ledger: it ends at 20, and event 25 was noted",
    )
    await owner.execute("DELETE FROM events WHERE position = 12")
    assert await found(database, after=heads[12]) == (12, "event 12 is missing from the ledger")


async def test_a_rest_that_was_rewritten_consistently_is_found_by_a_noted_head_alone(
    owner: Any, database: Database, heads: dict[int, Cursor]
) -> None:
    await owner.execute("UPDATE events SET state = state || ' '::bytea WHERE position = 7")
    await write_hashes_anew(owner, 7)

    assert await found(database) is None
    assert await found(database, noted=[heads[3], heads[6]]) is None
    for noted, first, last in (
        ([heads[20]], 1, 20),
        ([heads[6], heads[7], heads[20]], 7, 7),
        ([heads[12], heads[3], heads[6]], 7, 12),
    ):
        at, said = await found(database, noted=noted) or (None, "")
        assert at == first
        assert said.startswith(f"event {last} is not the one that was noted: ")
        assert f"one of the events {first} to {last} was changed" in said


async def test_a_rest_that_was_removed_with_every_trace_is_found_by_a_noted_head_alone(
    owner: Any, database: Database, heads: dict[int, Cursor]
) -> None:
    await forget_after(owner, 15)

    assert await found(database) is None
    assert await found(database, noted=[heads[15]]) is None
    assert await found(database, noted=[heads[15], heads[18]]) == (
        16,
        "event 16 is missing from the ledger: it ends at 15, and event 18 was noted",
    )


async def test_what_an_append_relies_on_is_compared_with_the_events(
    owner: Any, database: Database
) -> None:
    async def remove_two_with_the_tip(connection: Any) -> None:
        await connection.execute("DELETE FROM events WHERE position > 18")
        await set_tip(connection)

    async def remove_one_with_the_tip(connection: Any) -> None:
        await connection.execute("DELETE FROM events WHERE position > 19")
        await set_tip(connection)

    for tamper, words in (
        (remove_one_with_the_tip, "has version 2 in table streams, and 1 by its events"),
        (remove_two_with_the_tip, "has version 2 in table streams, and 0 by its events"),
        ("UPDATE streams SET version = 1", "has version 1 in table streams, and 2 by its events"),
        ("DELETE FROM streams", "has version 0 in table streams, and 2 by its events"),
        ("INSERT INTO streams VALUES (gen_random_uuid(), 3, 'x')", "and 0 by its events"),
        (
            "UPDATE commands SET count = 3 WHERE key = 'create 9'",
            "key 'create 9' was answered with event 21",
        ),
    ):
        at, said = await found_after(owner, database, tamper)
        assert at is None
        assert words in said


async def test_a_ledger_that_grows_meanwhile_is_unaltered(
    database: Database, ledger: PostgresLedger
) -> None:
    async def grow() -> None:
        for number in range(100):
            await ledger.append(command(str(number), application(number)))

    growing = asyncio.ensure_future(grow())
    while not growing.done():
        assert await found(database) is None
    await growing
    assert (await verify_chain(database)).position == 100
