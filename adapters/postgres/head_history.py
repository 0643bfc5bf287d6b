"""Heads and what they were before, made anew from the change sets of a generation."""

from typing import Any
from uuid import UUID

from adapters.postgres.change_sets import HeadChanges
from adapters.postgres.connection import Database
from adapters.postgres.generations import lock_generations
from adapters.postgres.heads import known_heads, number_bodies, write_heads
from adapters.postgres.mapper import COLUMNS, to_recorded
from adapters.postgres.objects import get_objects
from domain.model.bodies import decode_manifest
from domain.model.generation import Generation

_PAGE = 64
_TIMEOUT = 3600.0  # seconds, as a generation may have millions of points

# Generations whose heads were written by a program that kept no past of them.
_WITHOUT_PAST = "SELECT stream FROM generations WHERE NOT has_past ORDER BY stream"

# Whether there is one.
LACKS_PAST = "SELECT EXISTS (SELECT FROM generations WHERE NOT has_past)"

# The next change sets of a generation.
_CHANGE_SETS = f"""
SELECT {COLUMNS} FROM events
WHERE stream = $1 AND version > $2 AND topic = '{Generation.ChangeSetRecorded.TOPIC}'
ORDER BY version LIMIT $3
"""  # noqa: S608

_NO_TIMEOUT = "SET LOCAL statement_timeout = 0"

_STILL_LACKS_PAST = "SELECT NOT has_past FROM generations WHERE stream = $1 FOR UPDATE"
_NO_HEADS = "DELETE FROM heads WHERE gid = $1"
_NO_PAST = "DELETE FROM past_heads WHERE gid = $1"
_HAS_PAST = "UPDATE generations SET has_past = true WHERE stream = $1"


async def complete_pasts(database: Database) -> None:
    """Give every generation the past of its heads that lacks it; one transaction for each."""
    async with database.connection() as connection:
        rows = await connection.fetch(_WITHOUT_PAST)
    for row in rows:
        async with database.transaction() as connection:
            if await connection.fetchval(_STILL_LACKS_PAST, row["stream"]):
                await make_heads_anew(connection, row["stream"])


async def make_heads_anew(connection: Any, generation: UUID) -> None:
    """Make heads and past heads of a generation from its manifests, in one transaction.

    Raises:
        Corrupt: a manifest is missing, or has other content than its address says.
    """
    gid = (await lock_generations(connection, [generation]))[generation].gid
    await connection.execute(_NO_TIMEOUT)
    await connection.execute(_NO_HEADS, gid, timeout=_TIMEOUT)
    await connection.execute(_NO_PAST, gid, timeout=_TIMEOUT)
    version = 0
    while rows := await connection.fetch(_CHANGE_SETS, generation, version, _PAGE):
        for row in rows:
            recorded = to_recorded(row)
            address = vars(recorded.event)["manifest"]
            content = (await get_objects(connection, [address]))[address]
            changes = HeadChanges()
            changes.add(decode_manifest(content), recorded.version)
            existing = await known_heads(connection, gid, changes.heads)
            bodies = await number_bodies(connection, changes.bodies())
            await write_heads(connection, gid, changes, existing, bodies)
        version = rows[-1]["version"]
    await connection.execute(_HAS_PAST, generation)
