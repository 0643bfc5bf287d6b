"""Waits until everybody has caught up with the ledger, reading past all proxies."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from projections import PROJECTIONS
from tests.faults.progress import AWAY, connected

POLL_SECONDS = 0.05

# How far the slowest of relay and read models is.
_REACHED = """
SELECT least(
    coalesce((SELECT position FROM migration_ledger.cursors WHERE name = 'relay'), 0),
    coalesce((
        SELECT min(position) FROM migration_ledger.view_builds WHERE live
        HAVING count(*) = $1
    ), 0)
)
"""

_TIP = "SELECT position FROM migration_ledger.tip"

# How far each generation must get.
_RECORDED = "SELECT stream, recorded FROM migration_ledger.generations"

_APPLIED = "SELECT generation, applied FROM migration_ledger.applications"

_RANGES = "SELECT flow, number FROM migration_ledger.flow_ranges"

# Workers that have given a sign of life.
_ALIVE = "SELECT count(*) FROM migration_ledger.workers"

T = TypeVar("T")


@dataclass(frozen=True)
class Mark:
    """What there was to do at a moment.

    Attributes:
        position: of the last event.
        recorded: last version by generation.
        ranges: of flows that were not finished.
    """

    position: int
    recorded: dict[Any, int]
    ranges: frozenset[tuple[Any, int]]


async def asked(url: str, question: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """An answer of the database, as soon as it gives one."""
    while True:
        try:
            async with connected(url) as connection:
                return await question(connection)
        except AWAY:
            await asyncio.sleep(POLL_SECONDS)


async def mark(connection: asyncpg.Connection) -> Mark:
    """What there is to do now."""
    return Mark(
        await connection.fetchval(_TIP),
        {row["stream"]: row["recorded"] for row in await connection.fetch(_RECORDED)},
        frozenset((row["flow"], row["number"]) for row in await connection.fetch(_RANGES)),
    )


async def left(connection: asyncpg.Connection, done: Mark) -> str:
    """What of a mark is not done yet; empty when it is."""
    reached = await connection.fetchval(_REACHED, len(PROJECTIONS))
    if reached < done.position:
        return f"relay or read models are at {reached} of {done.position}"
    applied = {row["generation"]: row["applied"] for row in await connection.fetch(_APPLIED)}
    for generation, recorded in done.recorded.items():
        if applied[generation] < recorded:
            return f"generation {generation} is at {applied[generation]} of {recorded}"
    ranges = {(row["flow"], row["number"]) for row in await connection.fetch(_RANGES)}
    return f"{len(ranges & done.ranges)} ranges wait" if ranges & done.ranges else ""


async def until_caught_up(url: str, seconds: float) -> None:
    """Wait until what there was to do at the beginning is done.

    Raises:
        TimeoutError: something of it was not; the message says what.
    """
    said = "the database does not answer"
    try:
        async with asyncio.timeout(seconds):
            begin = await asked(url, mark)
            while said := await asked(url, lambda connection: left(connection, begin)):
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(f"not caught up after {seconds:g} s: {said}") from error


async def until_quiet(url: str, seconds: float) -> None:
    """Wait until everything is done and nothing new comes of it.

    Raises:
        TimeoutError: it goes on.
    """
    async with asyncio.timeout(seconds):
        while True:
            before = await asked(url, mark)
            await until_caught_up(url, seconds)
            if before == await asked(url, mark):
                return


async def until_alive(url: str, workers: int, seconds: float) -> None:
    """Wait until so many workers have given a sign of life."""
    async with asyncio.timeout(seconds):
        while await asked(url, lambda connection: connection.fetchval(_ALIVE)) < workers:
            await asyncio.sleep(POLL_SECONDS)
