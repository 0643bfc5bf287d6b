"""A commit whose connection drops before the answer: repeated with its key, it has one effect."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import pytest

from adapters.postgres.applications import PostgresApplications
from adapters.postgres.chain import verify_chain
from adapters.postgres.connection import ConnectionLost, Database, open_database
from adapters.postgres.derived import verify_derived
from adapters.postgres.ledger import PostgresLedger
from domain.model.errors import KeyReused
from domain.model.recorded import Answer, Command
from tests.contract.builders import CONTEXT, application, command, create, draft, generation, key
from tests.contract.cutting import Listening, between, committed
from tests.contract.processes import start

COMMIT = b"COMMIT"
T = TypeVar("T")


@dataclass
class Cut:
    """A ledger behind a proxy.

    Attributes:
        url: of the database, without the proxy.
        url_behind: of the database, through the proxy.
        proxy: between the ledger and the database.
        database: through the proxy.
        ledger: through the proxy.
    """

    url: str
    url_behind: str
    proxy: Listening
    database: Database
    ledger: PostgresLedger

    async def lose_answer(self, work: Coroutine[Any, Any, T], key: str, words: bytes) -> T:
        """Let a command commit, and cut its connection before it is told.

        Args:
            work: the command, through the proxy.
            key: its key.
            words: what only its last request has: its key, or the COMMIT of its transaction.
        """
        self.proxy.hold_at(words)
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work)
            await committed(self.url, key)
            assert self.proxy.heard.is_set()
            assert not working.done()
            self.proxy.lose()
        return working.result()

    async def assert_events(self, count: int) -> None:
        """The ledger has so many events, all of them whole."""
        assert (await verify_chain(self.database)).position == count
        await verify_derived(self.database)


@pytest.fixture
async def cut(ledger_database: str) -> AsyncIterator[Cut]:
    async with (
        between(ledger_database) as (proxy, url),
        open_database(url) as database,
        PostgresLedger(database) as ledger,
    ):
        yield Cut(ledger_database, url, proxy, database, ledger)


async def test_an_append_whose_answer_is_lost_gets_the_first_answer(cut: Cut) -> None:
    wanted = command("the key", application(receipts=2))
    answer = await cut.lose_answer(cut.ledger.append(wanted), "the key", b"the key")
    assert answer == Answer(1, 3, repeated=True)
    await cut.assert_events(3)


async def test_an_append_in_its_own_transaction_gets_the_first_answer(cut: Cut) -> None:
    wanted = command("the key", generation())
    answer = await cut.lose_answer(cut.ledger.append(wanted), "the key", COMMIT)
    assert answer == Answer(1, 1, repeated=True)
    await cut.assert_events(1)


async def test_a_change_set_whose_answer_is_lost_is_recorded_once(cut: Cut) -> None:
    stream = await create(cut.ledger)
    recording = cut.ledger.record("the key", CONTEXT, [draft(stream, {1: 10, 2: 20})])
    answer = await cut.lose_answer(recording, "the key", COMMIT)
    assert answer == Answer(2, 1, repeated=True)
    assert (await cut.ledger.heads(stream)).versions == [2, 2]
    await cut.assert_events(2)


async def test_callers_that_shared_the_lost_transaction_get_their_own_answers(cut: Cut) -> None:
    async def all_at_once() -> list[Answer]:
        return await asyncio.gather(
            *(cut.ledger.append(command(f"key {n}", application(n))) for n in range(40))
        )

    answers = await cut.lose_answer(all_at_once(), "key 39", b"key 39")
    assert sorted(answer.position for answer in answers) == list(range(1, 41))
    assert sum(answer.repeated for answer in answers) > 1
    await cut.assert_events(40)


async def test_a_request_that_was_lost_itself_is_done_by_the_second_try(cut: Cut) -> None:
    await cut.ledger.append(command("before", application(0)))
    cut.proxy.hold_at(b"the key", requests=True)
    async with asyncio.TaskGroup() as group:
        working = group.create_task(cut.ledger.append(command("the key", application(1))))
        await cut.proxy.heard.wait()
        cut.proxy.lose()
    assert working.result() == Answer(2, 1, repeated=False)
    await cut.assert_events(2)


async def test_who_loses_the_answer_twice_is_told_so_and_can_ask_again(cut: Cut) -> None:
    wanted = command("the key", application())

    async def lose_the_second_too() -> Answer:
        appending = asyncio.ensure_future(cut.ledger.append(wanted))
        await cut.proxy.heard.wait()
        await committed(cut.url, "the key")
        cut.proxy.hold_at(b"the key")
        cut.proxy.lose()
        await cut.proxy.heard.wait()
        cut.proxy.lose()
        return await appending

    cut.proxy.hold_at(b"the key")
    with pytest.raises(ConnectionLost):
        await lose_the_second_too()
    assert await cut.ledger.append(wanted) == Answer(1, 1, repeated=True)
    await cut.assert_events(1)


async def test_a_process_that_dies_before_its_answer_is_repeated_by_the_next(cut: Cut) -> None:
    """Item 1 of writer 0 has the key 0/1."""
    arguments = ("tests.contract.tally", "writer", "0", "1", "2")
    cut.proxy.hold_at(b"0/1")
    dying = await start(*arguments, url=cut.url_behind)
    await committed(cut.url, "0/1")
    dying.kill()
    output, _ = await dying.communicate()
    assert output == b""
    cut.proxy.lose()

    following = await start(*arguments, url=cut.url)
    output, _ = await following.communicate()
    number, position, count, repeated, refused = map(int, output.split())
    assert (number, position, count, repeated, refused) == (1, 1, 1, True, 0)
    await cut.assert_events(1)


async def test_a_lost_answer_does_not_free_its_key(cut: Cut) -> None:
    stream = await create(cut.ledger)
    recording = cut.ledger.record("key 1", CONTEXT, [draft(stream, {1: 10})])
    await cut.lose_answer(recording, "key 1", COMMIT)
    appending = cut.ledger.append(command("key 2", application()))
    await cut.lose_answer(appending, "key 2", b"key 2")
    for other in (
        cut.ledger.record("key 1", CONTEXT, [draft(stream, {1: 11})]),
        cut.ledger.record("key 2", CONTEXT, [draft(stream, {1: 10})]),
        cut.ledger.append(command("key 1", application())),
        cut.ledger.append(command("key 2", application(receipts=1))),
        cut.ledger.append(Command("key 2", [], CONTEXT)),
    ):
        with pytest.raises(KeyReused):
            await other
    await cut.assert_events(3)
    assert (await cut.ledger.heads_of(stream, [key(1)])).versions == [2]


async def test_a_receipt_whose_answer_is_lost_is_reported_once(cut: Cut) -> None:
    """A receipt has no key: who repeats it finds that the store was reported that far."""
    stream = await create(cut.ledger)
    applications = PostgresApplications(cut.database, cut.ledger.wakeups)
    lease = await applications.acquire(stream, "a", 1000.0, 0.0)
    assert lease is not None
    cut.proxy.hold_at(COMMIT)

    async def report_and_lose() -> None:
        reporting = asyncio.ensure_future(applications.receipt(lease, 1, 0, CONTEXT))
        await applied(cut, stream)
        cut.proxy.lose()
        await reporting

    with pytest.raises(ConnectionLost):
        await report_and_lose()
    await applications.receipt(lease, 1, 0, CONTEXT)
    await cut.assert_events(3)


async def applied(cut: Cut, generation: UUID) -> None:
    """Return when a receipt of a generation is committed, looking past the proxy."""
    async with (
        asyncio.timeout(60),
        open_database(cut.url) as database,
        PostgresLedger(database) as ledger,
    ):
        applications = PostgresApplications(database, ledger.wakeups)
        while (status := await applications.status(generation)) is None or not status.applied:
            await asyncio.sleep(0.01)
