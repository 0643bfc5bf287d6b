"""Heads and what they were before, made anew from the change sets of a generation."""

from typing import Any
from uuid import UUID

from adapters.postgres.change_sets import HeadChanges
from adapters.postgres.connection import NO_TIMEOUT, Database
from adapters.postgres.erasures import erase_again, recorded_erasures
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

# The number of a generation, locked against writers, unless somebody was faster.
_LOCK = "SELECT gid FROM generations WHERE stream = $1 AND NOT has_past FOR UPDATE"

# What is there of its heads goes.
_NO_HEADS = "DELETE FROM heads WHERE gid = $1"
_NO_PAST = "DELETE FROM past_heads WHERE gid = $1"
_NOTHING_ERASED = "DELETE FROM erased WHERE gid = $1"

# Everything is there again.
_HAS_PAST = "UPDATE generations SET has_past = true WHERE stream = $1"


async def complete_pasts(database: Database) -> None:
    """Give every generation the past of its heads that lacks it; one transaction for each."""
    async with database.connection() as connection:
        rows = await connection.fetch(_WITHOUT_PAST)
        erasures = await recorded_erasures(connection) if rows else []
    for row in rows:
        async with database.transaction() as connection:
            gid = await connection.fetchval(_LOCK, row["stream"])
            if gid is not None:
                await _make_heads_anew(connection, row["stream"], gid)
                for erasure in erasures:
                    await erase_again(connection, erasure, row["stream"], gid)


async def _make_heads_anew(connection: Any, generation: UUID, gid: int) -> None:
    """Make heads and past heads of a generation that is locked from its manifests.

    Raises:
        Corrupt: a manifest is missing, or has other content than its address says.
    """
    await connection.execute(NO_TIMEOUT)
    await connection.execute(_NO_HEADS, gid, timeout=_TIMEOUT)
    await connection.execute(_NO_PAST, gid, timeout=_TIMEOUT)
    await connection.execute(_NOTHING_ERASED, gid, timeout=_TIMEOUT)
    version = 0
    while rows := await connection.fetch(_CHANGE_SETS, generation, version, _PAGE):
        addresses = [vars(to_recorded(row).event)["manifest"] for row in rows]
        contents = await get_objects(connection, addresses)
        changes = HeadChanges()
        for row, address in zip(rows, addresses, strict=True):
            changes.add(decode_manifest(contents[address]), row["version"])
        existing = await known_heads(connection, gid, changes.heads)
        bodies = await number_bodies(connection, changes.bodies())
        await write_heads(connection, gid, changes, existing, bodies.numbers | bodies.rewritten)
        version = rows[-1]["version"]
    await connection.execute(_HAS_PAST, generation)
