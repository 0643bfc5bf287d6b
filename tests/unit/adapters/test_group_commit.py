"""Who shares a transaction with whom."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from adapters.postgres.appending import EncodedCommand, Outcome
from adapters.postgres.group_commit import MAX_BATCH, GroupCommit


class Executed:
    """Executes nothing; a batch ends when the test says so.

    Attributes:
        batches: keys of the commands of each batch, in the order in which they were begun.
    """

    def __init__(self) -> None:
        self.batches: list[list[str | None]] = []
        self._ends: list[asyncio.Future[None]] = []

    async def __call__(self, commands: Sequence[EncodedCommand]) -> list[Outcome]:
        self.batches.append([command.key for command in commands])
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends.append(end)
        await end
        return [Outcome(command.key, "appended", 1, 0) for command in commands]

    def end(self, number: int, error: Exception | None = None) -> None:
        """End a batch, well or with an error."""
        if error is None:
            self._ends[number].set_result(None)
        else:
            self._ends[number].set_exception(error)


@asynccontextmanager
async def running(executed: Executed) -> AsyncIterator[GroupCommit]:
    commits = GroupCommit(executed)
    task = asyncio.create_task(commits.run())
    yield commits
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def submit(commits: GroupCommit, *keys: str) -> list[asyncio.Task[Outcome]]:
    return [asyncio.create_task(commits.submit(EncodedCommand(key, b"", b"", []))) for key in keys]


async def settled() -> None:
    """Return when every task waits for something that the test has to do."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_is_alone_does_it_without_the_others() -> None:
    executed = Executed()
    [alone] = submit(GroupCommit(executed), "a")
    await settled()
    executed.end(0)
    assert (await alone).key == "a"


async def test_who_arrives_meanwhile_shares_the_next_batch() -> None:
    executed = Executed()
    async with running(executed) as commits:
        tasks = submit(commits, "a", "b", "c")
        await settled()
        tasks += submit(commits, "d")
        await settled()
        assert executed.batches == [["a"]]
        executed.end(0)
        await settled()
        assert executed.batches == [["a"], ["b", "c", "d"]]
        executed.end(1)
        assert [(await task).key for task in tasks] == ["a", "b", "c", "d"]


async def test_who_goes_on_at_once_is_together_in_the_next_batch() -> None:
    executed = Executed()

    async def caller(commits: GroupCommit, name: str) -> None:
        for number in range(2):
            await commits.submit(EncodedCommand(f"{name}{number}", b"", b"", []))

    async with running(executed) as commits:
        first = submit(commits, "first")
        await settled()
        callers = [asyncio.create_task(caller(commits, name)) for name in "abc"]
        for number in range(3):
            await settled()
            executed.end(number)
        await asyncio.gather(*first, *callers)
    assert executed.batches == [["first"], ["a0", "b0", "c0"], ["a1", "b1", "c1"]]


async def test_a_full_batch_does_not_wait_but_a_third_does() -> None:
    executed = Executed()
    async with running(executed) as commits:
        tasks = submit(commits, "first")
        await settled()
        tasks += submit(commits, *(str(number) for number in range(2 * MAX_BATCH)))
        await settled()
        assert [len(batch) for batch in executed.batches] == [1, MAX_BATCH]
        executed.end(1)
        await settled()
        assert [len(batch) for batch in executed.batches] == [1, MAX_BATCH, MAX_BATCH]
        executed.end(0)
        executed.end(2)
        await asyncio.gather(*tasks)


async def test_one_key_is_in_a_batch_once() -> None:
    executed = Executed()
    async with running(executed) as commits:
        tasks = submit(commits, "first", "a", "b", "a", "c")
        for number in range(3):
            await settled()
            executed.end(number)
        await asyncio.gather(*tasks)
    assert executed.batches == [["first"], ["a", "b"], ["a", "c"]]


async def test_an_error_is_everybodys_of_its_batch_and_nobody_elses() -> None:
    executed = Executed()
    async with running(executed) as commits:
        first, failing, too, _ = submit(commits, "first", "a", "b", "a")
        await settled()
        executed.end(0)
        await settled()
        executed.end(1, ValueError("broken"))
        for task in (failing, too):
            with pytest.raises(ValueError, match="broken"):
                await task
        assert (await first).key == "first"
        await settled()
        assert executed.batches == [["first"], ["a", "b"], ["a"]]


async def test_who_gave_up_is_left_out() -> None:
    executed = Executed()
    async with running(executed) as commits:
        first, gone, stays = submit(commits, "first", "gone", "stays")
        await settled()
        gone.cancel()
        await settled()
        executed.end(0)
        await settled()
        executed.end(1)
        await asyncio.gather(first, stays)
    assert executed.batches == [["first"], ["stays"]]


async def test_the_end_cancels_who_waits() -> None:
    executed = Executed()
    async with running(executed) as commits:
        tasks = submit(commits, "first", "in flight")
        await settled()
        executed.end(0)
        await settled()
        tasks += submit(commits, "queued")
        await settled()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in ended] == [
        Outcome,
        asyncio.CancelledError,
        asyncio.CancelledError,
    ]
