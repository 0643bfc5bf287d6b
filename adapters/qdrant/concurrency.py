"""Several calls at once, and one page ahead."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from domain.model.errors import Throttled

T = TypeVar("T")
S = TypeVar("S")


async def gather(do: Callable[[T], Awaitable[S]], items: Iterable[T], *, in_flight: int) -> list[S]:
    """Results of `do` for each item, in order, with so many at once; the first error ends all.

    An item is taken when its turn comes, so that only those in flight are in memory.
    """
    results: dict[int, S] = {}
    waiting = enumerate(items)

    async def work() -> None:
        for number, item in waiting:
            results[number] = await do(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(work())
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__
    return [results[number] for number in sorted(results)]


async def in_order(
    write: Callable[[range], Awaitable[None]], runs: Iterable[range], *, in_flight: int
) -> None:
    """Write runs of rows that follow each other, several at once.

    Raises:
        Throttled: with how many rows, from the first, are written.
    """
    written: dict[int, int] = {}

    async def one(rows: range) -> None:
        await write(rows)
        written[rows.start] = rows.stop

    try:
        await gather(one, runs, in_flight=in_flight)
    except Throttled as error:
        done = 0
        while done in written:
            done = written[done]
        raise Throttled(str(error), error.wait, done) from error


async def prefetched(
    fetch: Callable[[S], Awaitable[tuple[T, S | None]]], first: S
) -> AsyncGenerator[T, None]:
    """Pages that follow each other; while the caller works on one, the next is fetched.

    The fetch in flight is cancelled, and waited for, when the caller stops early.

    Args:
        fetch: a page and where the next begins, or None at the end.
        first: where the first page begins.
    """
    ahead = asyncio.ensure_future(fetch(first))
    try:
        while True:
            page, following = await ahead
            if following is None:
                yield page
                return
            ahead = asyncio.ensure_future(fetch(following))
            yield page
    finally:
        ahead.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await ahead
