"""Leaders, and cursors that only the latest leader moves."""

import asyncio
import os
import signal

import pytest

from adapters.postgres import leaders as leaders_module
from adapters.postgres.connection import Database
from adapters.postgres.cursors import PostgresCursors
from adapters.postgres.leaders import PostgresLeaders
from domain.model.errors import Conflict, Unavailable
from domain.model.recorded import Cursor
from domain.ports import Leadership

KILL_LEADERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
"""


LEADERS = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
"""


@pytest.fixture
def leaders(database: Database) -> PostgresLeaders:
    return PostgresLeaders(database)


@pytest.fixture
def cursors(database: Database) -> PostgresCursors:
    return PostgresCursors(database)


async def test_one_leader_after_the_other(leaders: PostgresLeaders) -> None:
    leading = 0
    epochs = []

    async def serve(holder: str) -> None:
        nonlocal leading
        async with leaders.lead("relay", holder) as leadership:
            leading += 1
            assert leading == 1
            await leaders.confirm(leadership)
            epochs.append(leadership.epoch)
            leading -= 1

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(serve(f"w{number}"))
    assert epochs == [1, 2, 3, 4]


async def test_roles_have_leaders_of_their_own(leaders: PostgresLeaders) -> None:
    async with leaders.lead("relay", "a") as first, leaders.lead("coordinator", "a") as second:
        assert (first, second) == (Leadership("relay", 1), Leadership("coordinator", 1))


async def test_leadership_ends_with_its_connection(
    database: Database, leaders: PostgresLeaders
) -> None:
    async def serve() -> None:
        async with leaders.lead("relay", "a"):
            async with database.connection() as connection:
                await connection.execute(KILL_LEADERS)
            await asyncio.Event().wait()

    with pytest.raises(Conflict, match="lost the connection that leads relay"):
        await serve()
    async with leaders.lead("relay", "b") as leadership:
        assert leadership.epoch == 2


async def test_a_leadership_that_was_lost_leaves_no_cancellation(
    database: Database, leaders: PostgresLeaders
) -> None:
    """Also when something in the block made another error of it."""

    async def serve() -> None:
        async with leaders.lead("relay", "a"):
            try:
                async with database.connection() as connection:
                    await connection.execute(KILL_LEADERS)
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise Unavailable("away") from None

    with pytest.raises(Unavailable, match="away"):
        await serve()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_losing_a_connection_while_being_cancelled_stays_a_cancellation(
    database: Database,
) -> None:
    async def work() -> None:
        async with database.connection() as connection:
            connection.add_termination_listener(lambda _: lost.set())
            pid.set_result(await connection.fetchval("SELECT pg_backend_pid()"))
            await asyncio.Event().wait()

    lost = asyncio.Event()
    pid: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(work())
    async with database.connection() as other:
        await other.fetchval("SELECT pg_terminate_backend($1, 5000)", await pid)
    await lost.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelling_a_leader_stays_a_cancellation(leaders: PostgresLeaders) -> None:
    async def serve() -> None:
        async with leaders.lead("relay", "a"):
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    task = asyncio.ensure_future(serve())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_old_leader_is_told(leaders: PostgresLeaders) -> None:
    async with leaders.lead("relay", "a") as old:
        pass
    await leaders.confirm(old)
    async with leaders.lead("relay", "b"):
        with pytest.raises(Conflict, match="epoch 2"):
            await leaders.confirm(old)


async def test_a_cursor_moves_forward_or_to_the_beginning(cursors: PostgresCursors) -> None:
    first, second = Cursor(1, bytes([1] * 32)), Cursor(5, bytes([5] * 32))
    assert await cursors.get("relay") == Cursor()
    await cursors.advance("relay", first, None)
    await cursors.advance("relay", second, None)
    await cursors.advance("relay", second, None)
    with pytest.raises(Conflict, match="already beyond position 1"):
        await cursors.advance("relay", first, None)
    assert await cursors.get("relay") == second
    assert await cursors.get("other") == Cursor()
    await cursors.advance("relay", Cursor(), None)
    assert await cursors.get("relay") == Cursor()


async def test_only_the_latest_leader_moves_a_cursor(
    leaders: PostgresLeaders, cursors: PostgresCursors
) -> None:
    async with leaders.lead("relay", "a") as old:
        await cursors.advance("relay", Cursor(1, bytes(32)), old)
    async with leaders.lead("relay", "b") as new:
        with pytest.raises(Conflict, match="another process leads relay"):
            await cursors.advance("relay", Cursor(2, bytes(32)), old)
        await cursors.advance("relay", Cursor(2, bytes(32)), new)
    assert (await cursors.get("relay")).position == 2


async def test_leadership_ends_when_its_server_says_nothing_any_more(
    database: Database, leaders: PostgresLeaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection ends where a machine is gone, or a network drops what is idle."""
    monkeypatch.setattr(leaders_module, "SILENCE_SECONDS", 0.1)
    paused: list[int] = []

    async def serve() -> None:
        async with leaders.lead("relay", "a"):
            async with database.connection() as connection:
                paused.extend([row["pid"] for row in await connection.fetch(LEADERS)])
            for pid in paused:
                os.kill(pid, signal.SIGSTOP)
            await asyncio.Event().wait()

    try:
        with pytest.raises(Conflict, match="lost the connection that leads relay"):
            await serve()
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
    assert len(paused) == 1
