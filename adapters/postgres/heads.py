"""The table of heads: what the ledger says each point of a generation is now."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from adapters.postgres.change_sets import HeadChanges, Known, NewHead
from adapters.postgres.connection import SCHEMA, Database
from adapters.postgres.mapper import plain_uuid
from domain.model.bodies import Manifest
from domain.model.recorded import Heads

# Heads of some points, tombstones too.
_KNOWN = """
SELECT id, hash, version FROM heads WHERE gid = $1 AND id = ANY($2::bytea[])
"""

# Heads that were there already, overwritten; what they were goes to the past.
_UPDATE = """
WITH u AS (
    SELECT * FROM unnest($2::bytea[], $3::bytea[], $4::int[], $5::int[], $6::int[], $7::int[])
        AS u (id, hash, body, "row", version, until)
), past AS (
    INSERT INTO past_heads (gid, id, version, until, hash, body, "row")
    SELECT h.gid, h.id, h.version, u.until, h.hash, h.body, h."row"
    FROM heads h JOIN u ON h.id = u.id
    WHERE h.gid = $1 AND h.hash IS NOT NULL
)
UPDATE heads h SET hash = u.hash, body = u.body, "row" = u."row", version = u.version
FROM u WHERE h.gid = $1 AND h.id = u.id
"""

# Rows of points that no head refers to, but an erasure has to find.
_LEAVE = """
INSERT INTO left_rows (gid, id, version, body, "row")
SELECT $1, * FROM unnest($2::bytea[], $3::int[], $4::int[], $5::int[]) ON CONFLICT DO NOTHING
"""

# Heads of which the point is still the same get their body from elsewhere. Where it was is noted:
# an erasure has to find it there.
_MOVE = """
WITH u AS (
    SELECT * FROM unnest($2::bytea[], $3::bytea[], $4::int[], $5::int[])
        AS u (id, hash, body, "row")
), moved AS (
    SELECT h.id, h.version, h.body, h."row" FROM heads h JOIN u ON h.id = u.id
    WHERE h.gid = $1 AND h.hash = u.hash AND (h.body, h."row") IS DISTINCT FROM (u.body, u."row")
), noted AS (
    INSERT INTO left_rows (gid, id, version, body, "row")
    SELECT $1, id, version, body, "row" FROM moved ON CONFLICT DO NOTHING
)
UPDATE heads h SET body = u.body, "row" = u."row"
FROM u JOIN moved USING (id) WHERE h.gid = $1 AND h.id = u.id
RETURNING h.id
"""

# The next heads in key order.
_PAGE = """
SELECT h.id, h.hash, b.address, h."row", h.version
FROM heads h JOIN bodies b ON b.id = h.body
WHERE h.gid = (SELECT gid FROM generations WHERE stream = $1) AND h.id > $2 AND h.hash IS NOT NULL
ORDER BY h.id LIMIT $3
"""

# The same at a version. Every id that ever was has a head, if only a tombstone, so the past is only
# asked for the ids whose head is newer.
_AT = """
SELECT w.id, w.hash, b.address, w."row", w.version
FROM heads h CROSS JOIN LATERAL (
    SELECT h.id, h.hash, h.body, h."row", h.version
    WHERE h.version <= $3 AND h.hash IS NOT NULL
    UNION ALL
    SELECT p.id, p.hash, p.body, p."row", p.version
    FROM past_heads p
    WHERE h.version > $3 AND p.gid = h.gid AND p.id = h.id AND p.version <= $3 AND p.until > $3
) w JOIN bodies b ON b.id = w.body
WHERE h.gid = (SELECT gid FROM generations WHERE stream = $1)
"""
_PAGE_AT = f"{_AT} AND h.id > $2 ORDER BY h.id LIMIT $4"

# The heads of some points in key order.
_OF = """
SELECT h.id, h.hash, b.address, h."row", h.version
FROM heads h JOIN bodies b ON b.id = h.body
WHERE h.gid = (SELECT gid FROM generations WHERE stream = $1) AND h.id = ANY($2::bytea[])
    AND h.hash IS NOT NULL
ORDER BY h.id
"""

# The same at a version.
_OF_AT = f"{_AT} AND h.id = ANY($2::bytea[]) ORDER BY h.id"

# Which of some generations, that are there, have some points.
_AMONG = """
SELECT g.stream, h.id, h.hash
FROM generations g JOIN heads h ON h.gid = g.gid
WHERE g.stream = ANY($1::uuid[]) AND NOT g.gone
    AND h.id = ANY($2::bytea[]) AND h.hash IS NOT NULL
ORDER BY h.id, g.stream
"""

# What points were in some of the versions from $3 to $4, and for how many of these. Those that are
# erased are among them: a store may have them until it has applied that.
_BETWEEN = """
SELECT h.id, h.hash, $4 + 1 - greatest(h.version, $3) AS versions
FROM heads h
WHERE h.gid = (SELECT gid FROM generations WHERE stream = $1) AND h.id = ANY($2::bytea[])
    AND h.version <= $4 AND h.hash IS NOT NULL
UNION ALL
SELECT p.id, p.hash, least(p.until, $4 + 1) - greatest(p.version, $3) AS versions
FROM past_heads p
WHERE p.gid = (SELECT gid FROM generations WHERE stream = $1) AND p.id = ANY($2::bytea[])
    AND p.version <= $4 AND p.until > $3
UNION ALL
SELECT e.id, e.hash, least(e.until, $4 + 1) - greatest(e.version, $3) AS versions
FROM erased e
WHERE e.gid = (SELECT gid FROM generations WHERE stream = $1) AND e.id = ANY($2::bytea[])
    AND e.version <= $4 AND e.until > $3
"""

_COLUMNS = ["gid", "id", "hash", "body", "row", "version"]


async def known_heads(connection: Any, gid: int, keys: Iterable[bytes]) -> dict[bytes, Known]:
    """Hash and version of the heads that exist, tombstones too."""
    rows = await connection.fetch(_KNOWN, gid, list(keys))
    return {row["id"]: (row["hash"], row["version"]) for row in rows}


async def write_heads(
    connection: Any,
    gid: int,
    changes: HeadChanges,
    existing: Iterable[bytes],
    bodies: Mapping[str, int],
) -> None:
    """Write heads of a generation that is locked, and keep those that they replace.

    Args:
        connection: in the transaction that holds the lock.
        gid: the generation.
        changes: to its heads.
        existing: keys that have a row already.
        bodies: number of each body.
    """
    heads = changes.heads
    old = heads.keys() & set(existing)
    if len(old) < len(heads):
        new = sorted(heads.keys() - old)
        records = [(gid, key, *_columns_of(heads[key], bodies)) for key in new]
        await _copy(connection, "heads", _COLUMNS, records)
    if old:
        keys = sorted(old)
        hashes, numbers, rows, versions = zip(
            *(_columns_of(heads[key], bodies) for key in keys), strict=True
        )
        until = [changes.until[key] for key in keys]
        await connection.execute(_UPDATE, gid, keys, hashes, numbers, rows, versions, until)
    if changes.past:
        replaced = [
            (gid, key, *_columns_of(head, bodies), until) for key, head, until in changes.past
        ]
        await _copy(connection, "past_heads", [*_COLUMNS, "until"], replaced)
    if changes.left:
        left = [(key, head.version, *_columns_of(head, bodies)[1:3]) for key, head in changes.left]
        await connection.execute(_LEAVE, gid, *map(list, zip(*left, strict=True)))


async def move_heads(
    connection: Any, gid: int, manifest: Manifest, bodies: Mapping[str, int]
) -> int:
    """Let heads of a generation that is locked name other bodies; how many do now.

    Heads with other hashes stay as they are, and so do those that are there already.
    """
    numbers = [bodies[manifest.objects[index]] for index in manifest.object_index]
    rows = await connection.fetch(
        _MOVE, gid, manifest.keys, manifest.hashes, numbers, manifest.rows
    )
    return len(rows)


async def read_heads(
    database: Database, generation: UUID, after: bytes, limit: int, at: int | None
) -> Heads:
    """The next heads of a generation in key order, now or at a version."""
    async with database.connection() as connection:
        if at is None:
            return _columns(await connection.fetch(_PAGE, generation, after, limit))
        return _columns(await connection.fetch(_PAGE_AT, generation, after, at, limit))


async def read_heads_of(
    database: Database, generation: UUID, keys: Sequence[bytes], at: int | None
) -> Heads:
    """The heads of some points in key order, now or at a version."""
    async with database.connection() as connection:
        if at is None:
            return _columns(await connection.fetch(_OF, generation, keys))
        return _columns(await connection.fetch(_OF_AT, generation, keys, at))


async def heads_among(
    connection: Any, generations: Sequence[UUID], keys: Sequence[bytes]
) -> list[tuple[UUID, bytes, bytes]]:
    """Which of these generations have which of these points: stream, key and hash."""
    rows = await connection.fetch(_AMONG, generations, keys)
    return [(plain_uuid(row["stream"]), row["id"], row["hash"]) for row in rows]


async def read_hashes_between(
    database: Database, generation: UUID, keys: Sequence[bytes], first: int, last: int
) -> dict[bytes, set[bytes | None]]:
    """What points were from one version to another; None where they were not there."""
    async with database.connection() as connection:
        rows = await connection.fetch(_BETWEEN, generation, keys, first, last)
    found: dict[bytes, set[bytes | None]] = {key: set() for key in keys}
    absent = dict.fromkeys(keys, last + 1 - first)
    for row in rows:
        found[row["id"]].add(row["hash"])
        absent[row["id"]] -= row["versions"]
    for key, versions in absent.items():
        if versions:
            found[key].add(None)
    return found


def _columns(rows: Sequence[Any]) -> Heads:
    return Heads(
        keys=[row["id"] for row in rows],
        hashes=[row["hash"] for row in rows],
        objects=[row["address"].hex() for row in rows],
        rows=[row["row"] for row in rows],
        versions=[row["version"] for row in rows],
    )


def _columns_of(
    head: NewHead, bodies: Mapping[str, int]
) -> tuple[bytes | None, int | None, int | None, int]:
    """The columns of a head behind its id, in the order of `_COLUMNS`."""
    body = None if head.address is None else bodies[head.address]
    return head.hash, body, head.row, head.version


async def _copy(
    connection: Any, table: str, columns: Sequence[str], records: Sequence[tuple[Any, ...]]
) -> None:
    await connection.copy_records_to_table(
        table, schema_name=SCHEMA, columns=columns, records=records
    )
