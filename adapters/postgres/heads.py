"""The table of heads: what the ledger says each point of a generation is now."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from adapters.postgres.change_sets import Known, NewHead
from adapters.postgres.connection import SCHEMA, Database
from domain.model.recorded import Heads

# Heads of some points, tombstones too.
_KNOWN = """
SELECT id, hash, version FROM heads WHERE gid = $1 AND id = ANY($2::bytea[])
"""

# Heads that were there already, overwritten.
_UPDATE = """
UPDATE heads h SET hash = u.hash, body = u.body, "row" = u."row", version = u.version
FROM unnest($2::bytea[], $3::bytea[], $4::int[], $5::int[], $6::int[])
    AS u (id, hash, body, "row", version)
WHERE h.gid = $1 AND h.id = u.id
"""

# Numbers of bodies that have one.
_BODIES = "SELECT id, address FROM bodies WHERE address = ANY($1::bytea[])"

# Numbers for new bodies, in the order of addresses, so that writers never wait in a circle.
_NEW_BODIES = """
INSERT INTO bodies (address) SELECT unnest($1::bytea[]) ON CONFLICT (address) DO NOTHING
"""

# The next heads in key order.
_PAGE = """
SELECT h.id, h.hash, b.address, h."row", h.version
FROM heads h JOIN bodies b ON b.id = h.body
WHERE h.gid = (SELECT gid FROM generations WHERE stream = $1) AND h.id > $2 AND h.hash IS NOT NULL
ORDER BY h.id LIMIT $3
"""

# The heads of some points in key order.
_OF = """
SELECT h.id, h.hash, b.address, h."row", h.version
FROM heads h JOIN bodies b ON b.id = h.body
WHERE h.gid = (SELECT gid FROM generations WHERE stream = $1) AND h.id = ANY($2::bytea[])
    AND h.hash IS NOT NULL
ORDER BY h.id
"""

_COLUMNS = ["gid", "id", "hash", "body", "row", "version"]


async def known_heads(connection: Any, gid: int, keys: Iterable[bytes]) -> dict[bytes, Known]:
    """Hash and version of the heads that exist, tombstones too."""
    rows = await connection.fetch(_KNOWN, gid, list(keys))
    return {row["id"]: (row["hash"], row["version"]) for row in rows}


async def write_heads(
    connection: Any,
    gid: int,
    heads: Mapping[bytes, NewHead],
    existing: Iterable[bytes],
    bodies: Mapping[str, int],
) -> None:
    """Write heads of a generation that is locked.

    Args:
        connection: in the transaction that holds the lock.
        gid: the generation.
        heads: by id key.
        existing: keys that have a row already.
        bodies: number of each body.
    """
    old = heads.keys() & set(existing)
    if len(old) < len(heads):
        await connection.copy_records_to_table(
            "heads",
            schema_name=SCHEMA,
            columns=_COLUMNS,
            records=[
                (gid, key, head.hash, _body(head, bodies), head.row, head.version)
                for key in sorted(heads.keys() - old)
                for head in (heads[key],)
            ],
        )
    if old:
        keys = sorted(old)
        changed = [heads[key] for key in keys]
        await connection.execute(
            _UPDATE,
            gid,
            keys,
            [head.hash for head in changed],
            [_body(head, bodies) for head in changed],
            [head.row for head in changed],
            [head.version for head in changed],
        )


async def number_bodies(connection: Any, addresses: Iterable[str]) -> dict[str, int]:
    """The numbers of bodies, new ones where they have none."""
    wanted = sorted({bytes.fromhex(address) for address in addresses})
    numbers = await _numbers(connection, wanted)
    missing = [address for address in wanted if address.hex() not in numbers]
    if missing:
        await connection.execute(_NEW_BODIES, missing)
        numbers |= await _numbers(connection, missing)
    return numbers


async def read_heads(database: Database, generation: UUID, after: bytes, limit: int) -> Heads:
    """The next heads of a generation in key order."""
    async with database.connection() as connection:
        return _columns(await connection.fetch(_PAGE, generation, after, limit))


async def read_heads_of(database: Database, generation: UUID, keys: Sequence[bytes]) -> Heads:
    """The heads of some points in key order."""
    async with database.connection() as connection:
        return _columns(await connection.fetch(_OF, generation, keys))


async def _numbers(connection: Any, addresses: Sequence[bytes]) -> dict[str, int]:
    rows = await connection.fetch(_BODIES, addresses)
    return {row["address"].hex(): row["id"] for row in rows}


def _columns(rows: Sequence[Any]) -> Heads:
    return Heads(
        keys=[row["id"] for row in rows],
        hashes=[row["hash"] for row in rows],
        objects=[row["address"].hex() for row in rows],
        rows=[row["row"] for row in rows],
        versions=[row["version"] for row in rows],
    )


def _body(head: NewHead, bodies: Mapping[str, int]) -> int | None:
    return None if head.address is None else bodies[head.address]
