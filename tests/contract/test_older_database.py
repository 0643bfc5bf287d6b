"""A process that lives on while its database is replaced by an older one notices it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from adapters.postgres import wakeups
from adapters.postgres.connection import open_database
from adapters.postgres.ledger import PostgresLedger
from domain.model.errors import Halted, Unavailable
from domain.model.timeline import Halt
from tests.contract.builders import application, command
from tests.restoring import back_up, restore, url_of


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeups, "_RECONNECT", 0.05)


@pytest.fixture
async def follower(ledger_database: str) -> AsyncIterator[PostgresLedger]:
    """A ledger of another process, which only follows."""
    async with (
        open_database(ledger_database, min_size=0) as database,
        PostgresLedger(database, poll=0.05) as ledger,
    ):
        yield ledger


async def record(url: str, name: str, receipts: int = 3) -> None:
    """Record events as a process that ends then."""
    async with open_database(url) as database, PostgresLedger(database) as ledger:
        await ledger.append(command(name, application(sum(name.encode()), receipts=receipts)))


async def follow(ledger: PostgresLedger, position: int) -> None:
    """Wait until the ledger has so many events and this process has heard of them."""
    async with asyncio.timeout(60):
        while not (ledger.wakeups._listening and ledger.wakeups._seen.position == position):
            await _patiently(ledger)


async def halted(ledger: PostgresLedger) -> Halt:
    """Follow until work is halted."""
    async with asyncio.timeout(60):
        while True:
            await _patiently(ledger)
            try:
                halt = (await ledger.standing()).halt
            except Unavailable:
                continue
            if halt is not None:
                return halt


async def _patiently(ledger: PostgresLedger) -> None:
    try:
        await ledger.wait(10_000, 0.05)
    except Unavailable:
        await asyncio.sleep(0)


async def test_events_that_are_gone_halt_all_work(
    ledger_database: str, follower: PostgresLedger
) -> None:
    await record(ledger_database, "kept")
    backup = await back_up(ledger_database)
    await record(ledger_database, "lost")
    await follow(follower, 8)

    await restore(ledger_database, backup)

    [finding] = (await halted(follower)).findings
    assert finding.position == 8
    assert finding.where.startswith("process ")
    assert finding.says.endswith("is at position 8, and the ledger ends at 4")
    with pytest.raises(Halted):
        await record(ledger_database, "refused")


async def test_events_that_were_replaced_halt_all_work(
    ledger_database: str, follower: PostgresLedger
) -> None:
    await record(ledger_database, "kept")
    backup = await back_up(ledger_database)
    await record(ledger_database, "lost")
    await follow(follower, 8)
    await record(url_of(ledger_database, backup), "other", receipts=9)

    await restore(ledger_database, backup)

    [finding] = (await halted(follower)).findings

    assert "has another event at position 8 than the ledger" in finding.says


async def test_a_database_that_comes_back_as_it_was_halts_nothing(
    ledger_database: str, follower: PostgresLedger
) -> None:
    await record(ledger_database, "kept")
    await follow(follower, 4)

    await restore(ledger_database, await back_up(ledger_database))
    await record(ledger_database, "later")

    await follow(follower, 8)
    assert (await follower.standing()).halt is None
