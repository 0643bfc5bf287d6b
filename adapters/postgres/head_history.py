"""Heads and what they were before, made anew from the change sets and packs of a generation."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

from adapters.postgres.bodies import number_bodies
from adapters.postgres.change_sets import HeadChanges
from adapters.postgres.connection import NO_TIMEOUT, Database
from adapters.postgres.erasures import erase_again, recorded_erasures
from adapters.postgres.heads import known_heads, move_heads, write_heads
from adapters.postgres.mapper import COLUMNS, to_recorded
from adapters.postgres.objects import get_objects
from domain.model.bodies import Manifest, decode_manifest
from domain.model.generation import Generation

_PAGE = 64
_TIMEOUT = 3600.0  # seconds, as a generation may have millions of points

# Generations whose heads were written by a program that kept no past of them.
_WITHOUT_PAST = "SELECT stream FROM generations WHERE NOT has_past ORDER BY stream"

# Whether there is one.
LACKS_PAST = "SELECT EXISTS (SELECT FROM generations WHERE NOT has_past)"

_PACKED = Generation.BodiesPacked.TOPIC
_TOPICS = [Generation.ChangeSetRecorded.TOPIC, _PACKED]

# The next events of a generation that write heads.
_WRITING = f"""
SELECT {COLUMNS} FROM events WHERE stream = $1 AND version > $2 AND topic = ANY($3)
ORDER BY version LIMIT $4
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
    while rows := await connection.fetch(_WRITING, generation, version, _TOPICS, _PAGE):
        for topic, run in groupby(rows, key=itemgetter("topic")):
            manifests = await _manifests(connection, [*run])
            if topic == _PACKED:
                for manifest in manifests.values():
                    await _move(connection, gid, manifest)
            else:
                await _write(connection, gid, manifests)
        version = rows[-1]["version"]
    await connection.execute(_HAS_PAST, generation)


async def _manifests(connection: Any, rows: Sequence[Any]) -> dict[int, Manifest]:
    """The manifests of events by their versions."""
    addresses = {row["version"]: vars(to_recorded(row).event)["manifest"] for row in rows}
    contents = await get_objects(connection, [*addresses.values()])
    return {version: decode_manifest(contents[one]) for version, one in addresses.items()}


async def _write(connection: Any, gid: int, manifests: Mapping[int, Manifest]) -> None:
    changes = HeadChanges()
    for version, manifest in manifests.items():
        changes.add(manifest, version)
    existing = await known_heads(connection, gid, changes.heads)
    bodies = await number_bodies(connection, changes.bodies())
    await write_heads(connection, gid, changes, existing, bodies)


async def _move(connection: Any, gid: int, manifest: Manifest) -> None:
    bodies = await number_bodies(connection, manifest.objects)
    await move_heads(connection, gid, manifest, bodies)
