"""Run coroutines side by side, a few at a time, and fail with the first failure itself."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar, cast

T = TypeVar("T")
S = TypeVar("S")


async def concurrently(work: Iterable[Coroutine[Any, Any, T]], limit: int = 8) -> list[T]:
    """Results in the order of `work`, at most `limit` running at a time.

    When one fails the others are cancelled and awaited, and that error is raised; it is not
    wrapped in an exception group, since callers handle errors by kind.
    """
    slots = asyncio.Semaphore(limit)

    async def one(coroutine: Coroutine[Any, Any, T]) -> T:
        async with slots:
            return await coroutine

    waiting = list(work)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(coroutine)) for coroutine in waiting]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures.exceptions[0].__cause__
    finally:
        for coroutine in waiting:
            coroutine.close()
    return [task.result() for task in tasks]


async def side_by_side(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, S]) -> tuple[T, S]:
    """The results of two coroutines that run at the same time; fails as `concurrently` does."""
    work: list[Coroutine[Any, Any, Any]] = [one, other]
    return cast("tuple[T, S]", tuple(await concurrently(work)))
