"""Bodies to which nothing refers that anybody can go back to, and what becomes of them.

A body that a change refers to is locked by its row (`bodies.claim_bodies`). Whoever gives one up
takes the same lock and looks once more. So either the change is seen, or it is refused.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from adapters.postgres.appending import append_last, encode_events
from adapters.postgres.bodies import refuse_never_again
from adapters.postgres.connection import NO_IDLE_TIMEOUT, NO_TIMEOUT, Database
from adapters.postgres.wakeups import Wakeups
from domain.model.aggregate import Context, pending_events
from domain.model.bodies import address_of
from domain.model.errors import BodyErased
from domain.model.retention import Sweep
from domain.ports import Objects

BODIES_AT_ONCE = 1000
LAST = 2**63 - 1
"""The largest position that there can be."""

_TIMEOUT = 3600.0  # seconds, as all heads are looked at

# Bodies of versions to which somebody can go back. A collection that is gone is its last version;
# of one that is there, what it is now counts in any case.
_NEEDED = """
SELECT h.body FROM heads h JOIN generations g USING (gid)
WHERE h.hash IS NOT NULL AND ({these}) AND (
    NOT g.gone OR g.recorded > g.archived_before
    OR EXISTS (SELECT FROM unnest(g.kept_versions) k WHERE k >= h.version)
)
UNION
SELECT h.body FROM past_heads h JOIN generations g USING (gid)
WHERE ({these}) AND (
    h.until > g.archived_before
    OR EXISTS (SELECT FROM unnest(g.kept_versions) k WHERE k >= h.version AND k < h.until)
)
"""

# Where the past of heads is not complete, nobody knows what is referred to.
_COMPLETE = "SELECT NOT EXISTS (SELECT FROM generations WHERE NOT has_past)"

# Condemn what is not needed. In the order of addresses, like everybody who locks bodies.
_CONDEMN = f"""
WITH locked AS (
    SELECT id FROM bodies
    WHERE fate IS NULL
        AND NOT EXISTS (SELECT FROM ({_NEEDED.format(these="true")}) n WHERE n.body = bodies.id)
    ORDER BY address FOR NO KEY UPDATE
)
UPDATE bodies b SET fate = 'condemned', fate_at = clock_timestamp()
FROM locked WHERE b.id = locked.id
"""  # noqa: S608

# When the oldest change was recorded that a store has not applied yet: it may name bodies that were
# condemned since.
_UNAPPLIED = """
coalesce((
    SELECT min(e.recorded_at)
    FROM generations g
    JOIN applications a ON a.generation = g.stream AND a.applied < g.recorded
    JOIN events e ON e.stream = g.stream AND e.version = a.applied + 1
), 'infinity')
"""

# Bodies that were condemned for long enough, and since then.
_SINCE = f"""
SELECT id, fate_at FROM bodies
WHERE fate = 'condemned' AND NOT erasing AND fate_at <= clock_timestamp() - $1::interval
    AND fate_at >= {_UNAPPLIED}
"""  # noqa: S608

# Those of some bodies that a change names. What a change wrote is in one of these tables for ever,
# whatever came of its points: overwritten, packed, left as they were, or erased.
_NAMED = """
SELECT body FROM heads WHERE body = ANY($1::int[])
UNION
SELECT body FROM past_heads WHERE body = ANY($1::int[])
UNION
SELECT body FROM left_rows WHERE body = ANY($1::int[])
UNION
SELECT body FROM erased WHERE body = ANY($1::int[])
"""

# Bodies that were condemned for long enough, locked against whoever would refer to them. Those that
# a change may name which no store has applied yet are left out, but for some that none names; a
# body that was condemned again is not one of these any more.
_LOCK = f"""
SELECT id, address FROM bodies WHERE fate = 'condemned' AND NOT erasing AND id IN (
    SELECT id FROM bodies
    WHERE fate = 'condemned' AND NOT erasing AND fate_at <= clock_timestamp() - $1::interval
        AND (
            fate_at < {_UNAPPLIED}
            OR (id, fate_at) IN (SELECT * FROM unnest($3::int[], $4::timestamptz[]))
        )
    ORDER BY fate_at, id LIMIT $2
)
ORDER BY address FOR UPDATE
"""  # noqa: S608

# Those of some bodies that are needed.
_STILL = _NEEDED.format(these="h.body = ANY($1::int[])")

# What is to become of some bodies.
_DECIDE = "UPDATE bodies SET fate = $2, fate_at = clock_timestamp() WHERE id = ANY($1::int[])"

# Bodies that were given up, locked against whoever would write them again.
_GIVEN_UP = """
SELECT id, address FROM bodies WHERE fate = 'collected' AND id IN (
    SELECT id FROM bodies WHERE fate = 'collected' ORDER BY fate_at, id LIMIT $1
)
ORDER BY address FOR UPDATE
"""

# Bodies whose objects are deleted.
_DELETED = "SELECT address FROM bodies WHERE fate = 'deleted' ORDER BY id"

# A body that is about to be written, and that nothing may ever refer to; waits for whoever is
# deleting its object, or rewriting it.
_SPARE = """
INSERT INTO bodies AS b (address, fate, fate_at) VALUES ($1, 'condemned', clock_timestamp())
ON CONFLICT (address) DO UPDATE SET fate = 'condemned', fate_at = clock_timestamp()
WHERE b.fate IS NOT NULL
"""

# Events by which bodies were given up, up to a position.
_SWEPT = f"""
SELECT state FROM events WHERE topic = '{Sweep.Created.TOPIC}' AND position <= $1 ORDER BY position
"""  # noqa: S608

# Those of some bodies that nothing needs are given up; an archive may have had their objects.
_MARK = f"""
UPDATE bodies SET fate = 'collected', fate_at = clock_timestamp(), erasing = false
WHERE address = ANY($1::bytea[])
    AND NOT EXISTS (SELECT FROM ({_NEEDED.format(these="true")}) n WHERE n.body = bodies.id)
"""  # noqa: S608


def _touched(status: str) -> int:
    """How many rows a statement touched."""
    return int(status.rpartition(" ")[-1])


class PostgresGarbage:
    """Implements `domain.ports.Garbage`."""

    def __init__(self, database: Database, wakeups: Wakeups) -> None:
        self._database = database
        self._wakeups = wakeups

    async def condemn(self) -> int:
        """Condemn the bodies that nothing refers to any more; how many."""
        async with self._database.transaction() as connection:
            if not await connection.fetchval(_COMPLETE):
                return 0
            await connection.execute(NO_TIMEOUT)
            done: str = await connection.execute(_CONDEMN, timeout=_TIMEOUT)
        return _touched(done)

    async def give_up(self, grace: timedelta, context: Context) -> int:
        """Give up bodies that were condemned for so long, as events; how many."""
        unnamed, count = await self._unnamed(grace), 0
        while (given_up := await self._give_up(grace, context, unnamed)) is not None:
            count += given_up
        return count

    async def dispose(self, delete: Callable[[Sequence[str]], Awaitable[None]]) -> int:
        """Have the objects of bodies deleted that were given up; how many."""
        count = 0
        while deleted := await self._dispose(delete):
            count += deleted
        return count

    async def _unnamed(self, grace: timedelta) -> tuple[list[int], list[datetime]]:
        """Bodies that no change names, of writers that were refused or died; these need not wait.

        Their numbers, and when they were condemned.
        """
        async with self._database.transaction() as connection:
            await connection.execute(NO_TIMEOUT)
            rows = await connection.fetch(_SINCE, grace, timeout=_TIMEOUT)
            if not rows or not await connection.fetchval(_COMPLETE):
                return [], []
            since = {row["id"]: row["fate_at"] for row in rows}
            for row in await connection.fetch(_NAMED, [*since], timeout=_TIMEOUT):
                del since[row["body"]]
        return [*since.keys()], [*since.values()]

    async def _give_up(
        self, grace: timedelta, context: Context, unnamed: tuple[list[int], list[datetime]]
    ) -> int | None:
        """Decide on the next bodies; None if there are none."""
        async with self._database.transaction() as connection:
            await connection.execute(NO_TIMEOUT)
            rows = await connection.fetch(_LOCK, grace, BODIES_AT_ONCE, *unnamed, timeout=_TIMEOUT)
            if not rows:
                return None
            addresses = {row["id"]: row["address"].hex() for row in rows}
            still = await connection.fetch(_STILL, [*addresses], timeout=_TIMEOUT)
            needed = sorted(row["body"] for row in still)
            await connection.execute(_DECIDE, needed, None)
            given_up = sorted(addresses.keys() - needed)
            await connection.execute(_DECIDE, given_up, "collected")
            if not given_up:
                return 0
            events = pending_events(Sweep([addresses[one] for one in given_up]))
            outcome = await append_last(connection, encode_events(events, context))
        self._wakeups.grown(outcome.last)
        return len(given_up)

    async def _dispose(self, delete: Callable[[Sequence[str]], Awaitable[None]]) -> int:
        async with self._database.transaction() as connection:
            await connection.execute(NO_IDLE_TIMEOUT)
            rows = await connection.fetch(_GIVEN_UP, BODIES_AT_ONCE)
            if rows:
                await delete([row["address"].hex() for row in rows])
                await connection.execute(_DECIDE, [row["id"] for row in rows], "deleted")
        return len(rows)


async def deleted_bodies(database: Database) -> AsyncIterator[list[str]]:
    """Addresses of bodies whose objects are deleted, in pages."""
    async with database.transaction() as connection:
        cursor = await connection.cursor(_DELETED)
        while rows := await cursor.fetch(BODIES_AT_ONCE):
            yield [row["address"].hex() for row in rows]


class SparingObjects:
    """Objects of which none is disposed of between its writing and the change that refers to it."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database = database
        self._objects = objects

    async def put(self, content: bytes) -> str:
        """Keep bytes; as long as nothing refers to them, they stay for a grace.

        Raises:
            BodyErased: they are those of a body of which points were erased.
        """
        address = address_of(content)
        async with self._database.transaction() as connection:
            await connection.execute(_SPARE, bytes.fromhex(address))
            # A statement of its own sees what was committed while the one before waited.
            await refuse_never_again(connection, [address])
        await self._objects.put(content)
        # An erasure may have been faster, and looks for it no more; nothing else would find it.
        try:
            async with self._database.connection() as connection:
                await refuse_never_again(connection, [address])
        except BodyErased:
            await self._objects.delete([address])
            raise
        return address

    async def get(self, address: str) -> bytes:
        """The bytes of an address, checked."""
        return await self._objects.get(address)

    async def missing(self, addresses: Sequence[str]) -> set[str]:
        """Those of these addresses under which nothing is."""
        return await self._objects.missing(addresses)

    async def delete(self, addresses: Sequence[str]) -> None:
        """Remove objects; an address under which nothing is changes nothing."""
        await self._objects.delete(addresses)


async def mark_collected(database: Database) -> None:
    """After heads were made anew: bodies that were given up, and not referred to again since."""
    async with database.transaction() as connection:
        await connection.execute(NO_TIMEOUT)
        async for addresses in _swept(connection, LAST):
            await connection.execute(_MARK, [*map(bytes.fromhex, addresses)], timeout=_TIMEOUT)


async def swept(database: Database, through: int) -> AsyncIterator[list[str]]:
    """Addresses of bodies that were given up, up to a position of the ledger, in pages."""
    async with database.transaction() as connection:
        async for addresses in _swept(connection, through):
            yield addresses


async def _swept(connection: Any, through: int) -> AsyncIterator[list[str]]:
    async for row in connection.cursor(_SWEPT, through):
        yield orjson.loads(row["state"])["bodies"]
