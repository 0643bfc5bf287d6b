"""Bodies that versions of a generation refer to."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from adapters.postgres.connection import NO_IDLE_TIMEOUT, NO_TIMEOUT, Database

PAGE = 20_000
_TIMEOUT = 3600.0  # seconds

# Every body that any version of a generation refers to, but those that only archived ones did.
_BODIES = """
WITH g AS (SELECT gid FROM generations WHERE stream = $1), used AS (
    SELECT body FROM heads WHERE gid = (SELECT gid FROM g) AND body IS NOT NULL
    UNION
    SELECT body FROM past_heads WHERE gid = (SELECT gid FROM g)
)
SELECT b.address FROM used JOIN bodies b ON b.id = used.body
WHERE b.fate IS DISTINCT FROM 'deleted'
"""

# How many bodies the points of a generation lie in now.
_COUNT = """
SELECT count(DISTINCT body) FROM heads WHERE gid = (SELECT gid FROM generations WHERE stream = $1)
"""

# How many points of a version have one of these bodies.
_POINTS_IN = """
WITH g AS (SELECT gid FROM generations WHERE stream = $1),
    b AS (SELECT id FROM bodies WHERE address = ANY($2::bytea[]))
SELECT (
    SELECT count(*) FROM heads
    WHERE gid = (SELECT gid FROM g) AND body IN (SELECT id FROM b) AND version <= $3
) + (
    SELECT count(*) FROM past_heads
    WHERE gid = (SELECT gid FROM g) AND body IN (SELECT id FROM b)
        AND version <= $3 AND until > $3
)
"""


async def read_bodies(database: Database, generation: UUID) -> AsyncIterator[list[str]]:
    """Addresses of all bodies that any version of a generation refers to, a page at a time.

    One scan of its heads; a connection is held until the last page.
    """
    async with database.transaction() as connection:
        await connection.execute(NO_TIMEOUT)
        await connection.execute(NO_IDLE_TIMEOUT)  # it waits for who reads a page of bodies
        cursor = await connection.cursor(_BODIES, generation, timeout=_TIMEOUT)
        while rows := await cursor.fetch(PAGE, timeout=_TIMEOUT):
            yield [row["address"].hex() for row in rows]


async def count_bodies(database: Database, generation: UUID) -> int:
    """How many bodies the points of a generation lie in now."""
    async with database.connection() as connection:
        count: int = await connection.fetchval(_COUNT, generation)
    return count


async def count_points_in(
    database: Database, generation: UUID, addresses: Sequence[str], at: int
) -> int:
    """How many points of a version have one of these bodies."""
    wanted = [bytes.fromhex(address) for address in addresses]
    async with database.connection() as connection:
        count: int = await connection.fetchval(_POINTS_IN, generation, wanted, at)
    return count
