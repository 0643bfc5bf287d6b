"""Durable cursors of readers of the ledger."""

from adapters.postgres.connection import Database
from adapters.postgres.leaders import refuse_other
from domain.model.errors import Conflict
from domain.model.recorded import Cursor
from domain.ports import Leadership

# Where a reader is.
_GET = "SELECT position, hash FROM cursors WHERE name = $1"

# The latest epoch of a role, held until the cursor has moved.
_EPOCH = "SELECT epoch FROM leaders WHERE name = $1 FOR SHARE"

# Move forward, stay, or go back to the beginning; nothing comes back where this would be a step
# back.
_ADVANCE = """
INSERT INTO cursors AS c (name, position, hash) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET position = excluded.position, hash = excluded.hash
WHERE excluded.position >= c.position OR excluded.position = 0
RETURNING position
"""

# Move to the beginning.
_RESET = """
INSERT INTO cursors (name, position, hash) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET position = excluded.position, hash = excluded.hash
"""

# Let what was led until now be led by nobody.
_END_LEADERSHIP = "UPDATE leaders SET epoch = epoch + 1 WHERE name = $1"


class PostgresCursors:
    """Implements `domain.ports.Cursors`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> Cursor:
        """Where a reader is; the beginning if it never moved."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_GET, name)
        return Cursor() if row is None else Cursor(row["position"], row["hash"])

    async def advance(self, name: str, cursor: Cursor, leadership: Leadership | None) -> None:
        """Move a cursor forward, or back to the beginning.

        Raises:
            Conflict: `leadership` is not the latest, or the cursor is further already.
        """
        async with self._database.transaction() as connection:
            if leadership is not None:
                refuse_other(leadership, await connection.fetchval(_EPOCH, leadership.name))
            moved = await connection.fetchval(_ADVANCE, name, cursor.position, cursor.hash)
            if moved is None:
                raise Conflict(f"cursor {name} is already beyond position {cursor.position}")

    async def reset(self, name: str) -> None:
        """Move a cursor to the beginning, and end the leadership under which it was moved."""
        beginning = Cursor()
        async with self._database.transaction() as connection:
            await connection.execute(_END_LEADERSHIP, name)
            await connection.execute(_RESET, name, beginning.position, beginning.hash)
