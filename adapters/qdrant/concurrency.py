"""Several writes at once, and one page ahead."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from domain.model.errors import Throttled
from domain.use_cases.concurrently import concurrently

T = TypeVar("T")
S = TypeVar("S")


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
        await concurrently((one(rows) for rows in runs), in_flight)
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
