"""Bodies that versions of a generation refer to."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from adapters.postgres.connection import Database

PAGE = 20_000

# The next bodies that any version of a generation refers to, by number.
_BODIES = """
WITH g AS (SELECT gid FROM generations WHERE stream = $1), used AS (
    SELECT body FROM heads WHERE gid = (SELECT gid FROM g) AND body > $2
    UNION
    SELECT body FROM past_heads WHERE gid = (SELECT gid FROM g) AND body > $2
)
SELECT b.id, b.address FROM used JOIN bodies b ON b.id = used.body ORDER BY b.id LIMIT $3
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
    """Addresses of all bodies that any version of a generation refers to, a page at a time."""
    after = 0
    while True:
        async with database.connection() as connection:
            rows = await connection.fetch(_BODIES, generation, after, PAGE)
        if rows:
            yield [row["address"].hex() for row in rows]
        if len(rows) < PAGE:
            return
        after = rows[-1]["id"]


async def count_points_in(
    database: Database, generation: UUID, addresses: Sequence[str], at: int
) -> int:
    """How many points of a version have one of these bodies."""
    wanted = [bytes.fromhex(address) for address in addresses]
    async with database.connection() as connection:
        count: int = await connection.fetchval(_POINTS_IN, generation, wanted, at)
    return count
