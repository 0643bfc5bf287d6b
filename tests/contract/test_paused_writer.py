"""A writer that pauses inside its transaction holds back nobody's correctness.

It has got its place in the ledger and has not committed; others write meanwhile, and readers tail.
Where a reader follows a sequence it passes the place of the one that pauses, and never reads it.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest

from adapters.postgres.appending import append_batch, encode_command
from adapters.postgres.chain import verify_chain
from adapters.postgres.connection import Database, open_database
from adapters.postgres.derived import verify_derived
from adapters.postgres.ledger import PostgresLedger
from domain.model.recorded import Answer, Recorded
from tests.contract.builders import CONTEXT, application, command, create, draft
from tests.contract.paused import KEY, PAUSED, paused_command
from tests.contract.processes import start
from tests.contract.waiting import until_somebody_waits

WRITERS = 4
LONG = 3600  # seconds


class Tail:
    """A reader that follows the ledger from its beginning."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger
        self.seen: list[Recorded] = []

    async def read(self) -> None:
        """Read what there is; it must follow what was read, without a gap."""
        after = len(self.seen)
        self.seen += await self._ledger.read(after, 1000)
        assert [one.position for one in self.seen] == list(range(1, len(self.seen) + 1))

    @property
    def streams(self) -> Sequence[object]:
        return [one.stream for one in self.seen]


@asynccontextmanager
async def writers(url: str, count: int = WRITERS) -> AsyncIterator[list[asyncio.Task[Answer]]]:
    """Others, each with a connection and a group commit of its own, that append one event each."""

    async def write(number: int) -> Answer:
        async with open_database(url, max_size=1) as database, PostgresLedger(database) as ledger:
            return await ledger.append(command(f"other {number}", application(number)))

    async with asyncio.TaskGroup() as group:
        yield [group.create_task(write(number)) for number in range(1, count + 1)]


async def until_done_or_waiting(url: str, tasks: Sequence[asyncio.Task[Answer]]) -> None:
    """Return when each of the others has either written or waits for the one that pauses."""
    waiting = asyncio.ensure_future(until_somebody_waits(url, len(tasks)))
    writing = asyncio.ensure_future(asyncio.wait(tasks))
    _, pending = await asyncio.wait({waiting, writing}, return_when=asyncio.FIRST_COMPLETED)
    for one in pending:
        one.cancel()


async def assert_whole(database: Database, tail: Tail, count: int) -> None:
    """The reader has all there is, once; the chain holds, and no position was left out."""
    await tail.read()
    assert len(tail.seen) == count
    assert len(set(tail.streams)) == count
    assert (await verify_chain(database)).position == count
    await verify_derived(database)


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_others_write_while_a_transaction_is_open(
    ledger_database: str, database: Database, ledger: PostgresLedger, end: str
) -> None:
    tail = Tail(ledger)
    await ledger.append(command("before", application(0)))
    await tail.read()
    async with database.session("paused") as connection:
        transaction = connection.transaction()
        await transaction.start()
        [outcome] = await append_batch(connection, [encode_command(paused_command())])
        assert outcome.appended
        async with writers(ledger_database) as others:
            await until_done_or_waiting(ledger_database, others)
            await tail.read()
            assert PAUSED not in tail.streams
            await getattr(transaction, end)()
    await assert_whole(database, tail, 1 + WRITERS + (end == "commit"))
    if end == "commit":
        assert [one.position for one in tail.seen if one.stream == PAUSED] == [outcome.position]
    else:
        answer = await ledger.append(paused_command())
        assert answer == Answer(2 + WRITERS, 1, repeated=False)


async def test_a_stopped_process_comes_back_in_time(
    ledger_database: str, database: Database, ledger: PostgresLedger
) -> None:
    tail = Tail(ledger)
    paused = await start("tests.contract.paused", str(LONG), url=ledger_database)
    assert paused.stdout is not None
    assert await paused.stdout.readline() == b"appended\n"
    async with writers(ledger_database) as others:
        await until_done_or_waiting(ledger_database, others)
        await tail.read()
        os.kill(paused.pid, signal.SIGCONT)
    assert (await paused.communicate())[0] == b"committed\n"
    await assert_whole(database, tail, 1 + WRITERS)
    assert PAUSED in tail.streams


async def test_a_stopped_process_is_not_waited_for_without_end(
    ledger_database: str, database: Database, ledger: PostgresLedger
) -> None:
    """The server ends a transaction that does nothing; what was not committed never was."""
    tail = Tail(ledger)
    paused = await start("tests.contract.paused", "1", url=ledger_database)
    assert paused.stdout is not None
    assert await paused.stdout.readline() == b"appended\n"
    async with writers(ledger_database) as others:
        await asyncio.wait(others)
    await tail.read()
    os.kill(paused.pid, signal.SIGCONT)
    assert (await paused.communicate())[0] == b"refused\n"
    await assert_whole(database, tail, WRITERS)
    assert await ledger.answer(KEY) is None


async def test_a_killed_process_frees_the_ledger_at_once(
    ledger_database: str, database: Database, ledger: PostgresLedger
) -> None:
    tail = Tail(ledger)
    paused = await start("tests.contract.paused", str(LONG), url=ledger_database)
    assert paused.stdout is not None
    assert await paused.stdout.readline() == b"appended\n"
    async with writers(ledger_database) as others:
        await until_done_or_waiting(ledger_database, others)
        paused.kill()
        await paused.wait()
    await assert_whole(database, tail, WRITERS)


async def test_a_writer_that_has_no_place_yet_holds_nobody_back(
    ledger_database: str, database: Database, ledger: PostgresLedger
) -> None:
    """Recording a change set locks its generation long before it asks for a place."""
    tail = Tail(ledger)
    busy, free = await create(ledger, "busy"), await create(ledger, "free")
    connection = await asyncpg.connect(ledger_database)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "SELECT FROM migration_ledger.generations WHERE stream = $1 FOR UPDATE", busy
    )
    async with asyncio.TaskGroup() as group:
        blocked = group.create_task(ledger.record("busy", CONTEXT, [draft(busy, {1: 1})]))
        await until_somebody_waits(ledger_database, 1)
        for number in range(WRITERS):
            await ledger.append(command(str(number), application(number)))
        await ledger.record("free", CONTEXT, [draft(free, {1: 1})])
        await tail.read()
        assert not blocked.done()
        assert len(tail.seen) == 2 + WRITERS + 1
        await transaction.commit()
    await connection.close()
    await tail.read()
    assert tail.seen[-1].stream == busy
    assert blocked.result() == Answer(2 + WRITERS + 2, 1, repeated=False)
    assert (await verify_chain(database)).position == blocked.result().position
