"""Coroutines that run side by side."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from domain.model.errors import Unavailable
from domain.use_cases.concurrently import concurrently, in_pages, side_by_side, told_to


async def value(number: int) -> int:
    for _ in range(10 - number):
        await asyncio.sleep(0)
    return number


async def fail() -> int:
    await asyncio.sleep(0)
    raise Unavailable("away")


class Forever:
    """Runs until it is cancelled, and takes a moment to end."""

    ended = False

    async def __call__(self) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended = True
        return 0


async def test_results_are_in_order() -> None:
    assert await concurrently(map(value, range(10)), 3) == list(range(10))
    assert await concurrently(iter(())) == []
    assert await side_by_side(value(1), value(2)) == (1, 2)


async def test_work_is_taken_when_its_turn_comes() -> None:
    running = most = 0

    async def one() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    def work() -> Iterator[Any]:
        for _ in range(20):
            assert running < 4
            yield one()

    await concurrently(work(), 4)
    assert most == 4


async def test_the_first_failure_ends_the_others() -> None:
    forever = Forever()
    with pytest.raises(Unavailable, match="away"):
        await side_by_side(forever(), fail())
    assert forever.ended


def test_no_failure_is_left_for_the_garbage_collector_to_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Unavailable):
        asyncio.run(side_by_side(fail(), fail()))
    gc.collect()
    assert caplog.records == []


async def test_a_cancelled_caller_waits_for_the_others() -> None:
    forever = Forever()
    task = asyncio.ensure_future(side_by_side(forever(), Forever()()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert forever.ended


async def test_a_result_that_was_cancelled_is_missed() -> None:
    async def cancelled() -> int:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await concurrently(iter([value(1), cancelled()]))


async def test_a_failure_does_not_count_as_a_cancellation() -> None:
    """Else a time-out that was there before cannot tell its own cancellation from another's."""

    async def limited() -> None:
        async with asyncio.timeout(None) as limit:
            with pytest.raises(Unavailable):
                await side_by_side(fail(), Forever()())
            limit.reschedule(asyncio.get_running_loop().time())
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await limited()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_work_that_ends_by_itself_is_noticed() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    stop = asyncio.Event()
    with pytest.raises(RuntimeError, match="nobody told to stop"):
        await told_to(stop, asyncio.ensure_future(cancelled()))
    stop.set()
    working = asyncio.ensure_future(Forever()())
    await told_to(stop, working)
    assert not working.done()
    working.cancel()


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3])]
)
async def test_items_come_in_pages(count: int, sizes: list[int]) -> None:
    closed = []

    async def items() -> AsyncGenerator[int, None]:
        try:
            for number in range(count):
                yield number
        finally:
            closed.append(True)

    pages = [page async for page in in_pages(items(), 3)]
    assert [len(page) for page in pages] == sizes
    assert [number for page in pages for number in page] == list(range(count))
    assert closed == [True]


async def test_who_leaves_pages_early_closes_what_they_come_from() -> None:
    closed = []

    async def items() -> AsyncGenerator[int, None]:
        try:
            for number in range(100):
                yield number
        finally:
            closed.append(True)

    async with aclosing(in_pages(items(), 3)) as pages:
        async for _ in pages:
            break
    assert closed == [True]
