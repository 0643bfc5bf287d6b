"""Read models: documents by key, in builds of which one is live."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from adapters.postgres.connection import Database
from domain.model.errors import Conflict
from domain.model.recorded import Cursor
from domain.ports import Build, Document

# One process at a time opens builds of a read model.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('migration_ledger.views'), hashtext($1))"

# The build to go on with: the live one before the newest of the others.
_OPEN = """
SELECT number, live, position, hash FROM view_builds WHERE name = $1 AND shape = $2
ORDER BY live DESC, number DESC LIMIT 1
"""

# A new, empty build.
_NEW = """
INSERT INTO view_builds (name, shape) VALUES ($1, $2) RETURNING number, live, position, hash
"""

# Documents of a build by key.
_LOAD = "SELECT key, document FROM views WHERE build = $1 AND key = ANY($2::text[])"

# Move a build on, if it is still where its projector left it, and with it write documents and
# delete others. Documents come as text: an array of jsonb is read at half the speed.
_STORE = """
WITH moved AS (
    UPDATE view_builds SET position = $4, hash = $5
    WHERE number = $1 AND position = $2 AND hash = $3
    RETURNING number
), deleted AS (
    DELETE FROM views WHERE build = (SELECT number FROM moved) AND key = ANY($6::text[])
), written AS (
    INSERT INTO views (build, key, document)
    SELECT moved.number, u.key, u.document::jsonb
    FROM moved, unnest($7::text[], $8::text[]) AS u (key, document)
    ON CONFLICT (build, key) DO UPDATE SET document = excluded.document
)
SELECT number FROM moved
"""

# Builds that this one takes the place of: the live one, and older ones that were given up.
_REPLACED = """
DELETE FROM view_builds WHERE name = $1 AND number <> $2 AND (live OR number < $2)
RETURNING number
"""

# The documents of those builds.
_DELETE_REPLACED = "DELETE FROM views WHERE build = ANY($1::int[])"

# Let readers see a build.
_PUBLISH = """
UPDATE view_builds SET live = true WHERE number = $1 RETURNING number, live, position, hash
"""

# A document of the live build.
_GET = """
SELECT v.document FROM views v JOIN view_builds b ON b.number = v.build
WHERE b.name = $1 AND b.live AND v.key = $2
"""

# Documents of the live build in key order, optionally those that contain another document.
_FIND = """
SELECT key, document FROM views
WHERE build = (SELECT number FROM view_builds WHERE name = $1 AND live) AND key > $2
    AND ($4::jsonb IS NULL OR document @> $4)
ORDER BY key LIMIT $3
"""

# How far the live build has come.
_CURSOR = "SELECT position, hash FROM view_builds WHERE name = $1 AND live"

# All builds.
_BUILDS = "SELECT name, number, live, position, hash FROM view_builds ORDER BY name, number"

# A shape that no projection has: whoever opens the read model makes a new build beside this one.
# At the beginning, because nobody can say any more how far it has come.
_RETIRE = """
UPDATE view_builds SET shape = 0, position = 0, hash = decode(repeat('00', 32), 'hex')
WHERE number = $1
"""


class PostgresViews:
    """Implements `domain.ports.Views`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, name: str, shape: int) -> Build:
        """The build to go on with: the live one if it has this shape, else a new one beside it."""
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK, name)
            row = await connection.fetchrow(_OPEN, name, shape)
            if row is None:
                row = await connection.fetchrow(_NEW, name, shape)
        return _build(name, row)

    async def rebuild(self, name: str, shape: int) -> Build:
        """A new, empty build beside the live one."""
        async with self._database.connection() as connection:
            return _build(name, await connection.fetchrow(_NEW, name, shape))

    async def load(self, build: Build, keys: Sequence[str]) -> dict[str, Document]:
        """The documents of a build that exist under these keys."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_LOAD, build.number, keys)
        return {row["key"]: orjson.loads(row["document"]) for row in rows}

    async def store(
        self, build: Build, documents: Mapping[str, Document | None], cursor: Cursor
    ) -> Build:
        """Write documents (None deletes) and the cursor in one statement.

        Raises:
            Conflict: another projector moved the build, or replaced it.
        """
        written = {
            key: orjson.dumps(document).decode()
            for key, document in sorted(documents.items())
            if document is not None
        }
        deleted = [key for key, document in documents.items() if document is None]
        at = build.cursor
        async with self._database.connection() as connection:
            moved = await connection.fetchval(
                _STORE,
                *(build.number, at.position, at.hash, cursor.position, cursor.hash),
                *(deleted, list(written), list(written.values())),
            )
        if moved is None:
            raise Conflict(
                f"another projector moved build {build.number} of {build.name} "
                f"from position {at.position}"
            )
        return replace(build, cursor=cursor)

    async def publish(self, build: Build) -> Build:
        """Let readers see this build instead of the live one, which is deleted, in one step.

        Raises:
            Conflict: the build was replaced by a newer one meanwhile.
        """
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK, build.name)
            rows = await connection.fetch(_REPLACED, build.name, build.number)
            row = await connection.fetchrow(_PUBLISH, build.number)
            if row is None:
                raise Conflict(f"build {build.number} of {build.name} was replaced meanwhile")
            await connection.execute(_DELETE_REPLACED, [row["number"] for row in rows])
        return _build(build.name, row)

    async def get(self, name: str, key: str) -> Document | None:
        """A document of the live build."""
        async with self._database.connection() as connection:
            document = await connection.fetchval(_GET, name, key)
        return None if document is None else orjson.loads(document)

    async def find(
        self, name: str, *, after: str = "", limit: int = 100, match: Document | None = None
    ) -> list[tuple[str, Document]]:
        """Documents of the live build in key order, optionally those that contain `match`."""
        contained = None if match is None else orjson.dumps(match).decode()
        async with self._database.connection() as connection:
            rows = await connection.fetch(_FIND, name, after, limit, contained)
        return [(row["key"], orjson.loads(row["document"])) for row in rows]

    async def cursor(self, name: str) -> Cursor:
        """How far the live build has come; the beginning if there is none."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_CURSOR, name)
        return Cursor() if row is None else Cursor(row["position"], row["hash"])

    async def builds(self) -> list[Build]:
        """All builds of all read models."""
        async with self._database.connection() as connection:
            return [_build(row["name"], row) for row in await connection.fetch(_BUILDS)]

    async def retire(self, build: Build) -> None:
        """Let no projector go on with a build; if it is live, readers have it until another is."""
        async with self._database.connection() as connection:
            await connection.execute(_RETIRE, build.number)


def _build(name: str, row: Any) -> Build:
    return Build(name, row["number"], row["live"], Cursor(row["position"], row["hash"]))
