"""Run coroutines side by side, a few at a time, and fail with the first failure itself.

`asyncio.TaskGroup` is not used for this: it wraps errors, and before Python 3.13 it leaves its
caller counted as cancelled when a task has failed. A time-out around the caller then ends in a
`CancelledError` that nobody expects (https://docs.python.org/3/whatsnew/3.13.html#asyncio).
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")
S = TypeVar("S")


async def concurrently(work: Iterable[Coroutine[Any, Any, T]], limit: int = 8) -> list[T]:
    """Results in the order of `work`, at most `limit` running at a time.

    When one fails the others are cancelled and awaited, and that error is raised.

    Args:
        work: what to run; each is taken when its turn comes, so a generator has only those in
            memory that run.
        limit: how many run at a time.
    """
    results: dict[int, T] = {}
    waiting = enumerate(work)

    async def some() -> None:
        for number, coroutine in waiting:
            results[number] = await coroutine

    await _all_of([asyncio.ensure_future(some()) for _ in range(limit)])
    return [results[number] for number in sorted(results)]


async def side_by_side(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, S]) -> tuple[T, S]:
    """The results of two coroutines that run at the same time; fails as `concurrently` does."""
    first, second = asyncio.ensure_future(one), asyncio.ensure_future(other)
    await _all_of([first, second])
    return first.result(), second.result()


async def in_pages(items: AsyncGenerator[T, None], size: int) -> AsyncGenerator[list[T], None]:
    """The items, so many at a time and the rest at the end; closes what it reads from."""
    async with aclosing(items):
        page: list[T] = []
        async for item in items:
            page.append(item)
            if len(page) == size:
                yield page
                page = []
        if page:
            yield page


async def told_to(stop: asyncio.Event, *working: asyncio.Task[Any]) -> None:
    """Wait until told to stop, while tasks of the caller's group work.

    Raises:
        RuntimeError: a task has ended before. A process that lives and does nothing would be worse
            than one that ends.
    """
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({stopping, *working}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if not stop.is_set():
        raise RuntimeError("defect: work has ended that nobody told to stop")


async def _all_of(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait for all; the first failure, or a cancellation, ends the others and is raised."""
    pending = set(tasks)
    ended: BaseException | None = None
    while pending:
        try:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError as error:
            ends: list[BaseException] = [error]
        else:
            failures = [*_failures(done)]  # all of them, or asyncio reports those that nobody saw
            ends = failures if ended is None else []
        if ends:
            ended = ends[0]
            for task in pending:
                task.cancel()
    if ended is not None:
        raise ended


def _failures(done: Iterable[asyncio.Task[Any]]) -> Iterator[BaseException]:
    for task in done:
        if task.cancelled():
            yield asyncio.CancelledError("cancelled by nobody who waits for it")
        elif (error := task.exception()) is not None:
            yield error
