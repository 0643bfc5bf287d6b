"""What erasures do to heads and bodies, in the transaction of their events or made from them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from eventsourcing.domain import AggregateEvent

from adapters.postgres.bodies import HAS_ERASED, Claimed
from adapters.postgres.change_sets import HeadChanges
from adapters.postgres.connection import Database
from adapters.postgres.generations import LockedGeneration
from adapters.postgres.mapper import COLUMNS, plain_uuid, to_recorded
from domain.model.erasure import Erasure, Holding, Subject, together
from domain.model.errors import BodyErased, ChangedMeanwhile, Rejected
from domain.model.points import id_of, key_of
from domain.model.recorded import Recorded

_FOR_EVER = 2**31 - 1

# Everything that generations have and had of some points. Bodies that are deleted are among it: one
# may be all that a copy has in common with what it was copied from.
_HOLDINGS = """
SELECT g.stream, w.id, bool_or(w.there) AS there,
    array_agg(b.address) AS addresses, array_agg(w."row") AS rows,
    array_agg(b.address) FILTER (WHERE b.fate = 'deleted') AS deleted
FROM generations g CROSS JOIN unnest($1::bytea[]) AS k (id) CROSS JOIN LATERAL (
    SELECT h.id, true AS there, h.body, h."row"
    FROM heads h WHERE h.gid = g.gid AND h.id = k.id AND h.hash IS NOT NULL
    UNION ALL
    SELECT p.id, false, p.body, p."row" FROM past_heads p WHERE p.gid = g.gid AND p.id = k.id
    UNION ALL
    SELECT l.id, false, l.body, l."row"
    FROM left_rows l WHERE l.gid = g.gid AND l.id = k.id AND NOT l.erased
) w JOIN bodies b ON b.id = w.body
GROUP BY g.stream, w.id
"""

# Lock the bodies of some points, in the order in which what is recorded locks them.
_LOCK_BODIES = """
WITH s AS (SELECT * FROM unnest($1::int[], $2::bytea[]) AS s (gid, id))
SELECT b.id FROM bodies b
WHERE b.id IN (
    SELECT h.body FROM heads h JOIN s ON h.gid = s.gid AND h.id = s.id WHERE h.body IS NOT NULL
    UNION ALL
    SELECT p.body FROM past_heads p JOIN s ON p.gid = s.gid AND p.id = s.id
    UNION ALL
    SELECT l.body FROM left_rows l JOIN s ON l.gid = s.gid AND l.id = s.id
)
ORDER BY b.address FOR UPDATE
"""

# Whether a collection still has one of these points.
_THERE = """
SELECT EXISTS (
    SELECT FROM unnest($1::int[], $2::bytea[]) AS s (gid, id)
    JOIN heads h ON h.gid = s.gid AND h.id = s.id
    JOIN generations g ON g.gid = s.gid
    WHERE h.hash IS NOT NULL AND NOT g.gone
)
"""

# Heads of points up to a version of their generation go; those that are left over, because their
# generation is gone, become tombstones.
_ERASE_HEADS = """
WITH s AS (
    SELECT * FROM unnest($1::int[], $2::bytea[], $3::int[]) AS s (gid, id, through)
), past AS (
    DELETE FROM past_heads p USING s
    WHERE p.gid = s.gid AND p.id = s.id AND p.version <= s.through
    RETURNING p.gid, p.id, p.version, p.until, p.hash, p.body, p."row"
), last AS (
    SELECT h.gid, h.id, h.version, $4::int AS until, h.hash, h.body, h."row"
    FROM heads h JOIN s ON h.gid = s.gid AND h.id = s.id
    WHERE h.hash IS NOT NULL AND h.version <= s.through
), buried AS (
    UPDATE heads h SET hash = NULL, body = NULL, "row" = NULL
    FROM last WHERE h.gid = last.gid AND h.id = last.id
), moved AS (
    INSERT INTO erased (gid, id, version, until, hash, body, "row")
    SELECT * FROM past UNION ALL SELECT * FROM last
    RETURNING body
), left_behind AS (
    UPDATE left_rows l SET erased = true FROM s
    WHERE l.gid = s.gid AND l.id = s.id AND l.version <= s.through AND NOT l.erased
    RETURNING l.body
)
SELECT body FROM moved UNION SELECT body FROM left_behind
"""

# Bodies that are to be rewritten, unless they are given up: then they are deleted as they are.
_MARK = """
UPDATE bodies SET erasing = true
WHERE id = ANY($1::int[]) AND address <> ALL($2::bytea[])
    AND (fate IS NULL OR fate = 'condemned')
"""

# Some of them, with all of their rows that are erased.
_ERASING = """
SELECT b.address, array_agg(DISTINCT e."row") AS rows
FROM (
    SELECT id, address FROM bodies WHERE erasing AND address <> ALL($2::bytea[])
    ORDER BY id LIMIT $1
) b
JOIN (
    SELECT body, "row" FROM erased UNION ALL SELECT body, "row" FROM left_rows WHERE erased
) e ON e.body = b.id
GROUP BY b.id, b.address ORDER BY b.id
"""

# A body whose row is erased, of rows that somebody refers to.
_ERASED_ROW = """
SELECT b.address
FROM unnest($1::int[], $2::int[]) AS u (body, "row")
JOIN bodies b ON b.id = u.body
WHERE EXISTS (SELECT FROM erased e WHERE e.body = u.body AND e."row" = u."row")
    OR EXISTS (SELECT FROM left_rows l WHERE l.body = u.body AND l."row" = u."row" AND l.erased)
LIMIT 1
"""

# Which of some points that a generation had were erased, and are not the same again.
_GONE = """
SELECT u.id FROM unnest($2::bytea[], $3::bytea[]) AS u (id, hash)
WHERE EXISTS (SELECT FROM erased e WHERE e.gid = $1 AND e.id = u.id)
    AND NOT EXISTS (SELECT FROM heads h WHERE h.gid = $1 AND h.id = u.id AND h.hash = u.hash)
LIMIT 1
"""

# Bodies that are made anew have not been there before.
_KNOW = "INSERT INTO bodies (address) SELECT unnest($1::bytea[]) ON CONFLICT (address) DO NOTHING"

# Nobody who refers to them commits meanwhile.
_LOCK_OLD = "SELECT FROM bodies WHERE address = ANY($1::bytea[]) ORDER BY address FOR UPDATE"

# Objects in their place were written, and not referred to until now.
_NOT_YET = "DELETE FROM bodies WHERE address = ANY($1::bytea[]) AND fate = 'condemned'"

# Bodies that are there instead of others.
_REWRITE = """
WITH u AS (SELECT * FROM unnest($1::bytea[], $2::bytea[]) AS u (was, address)), moved AS (
    UPDATE bodies b SET address = u.address, erasing = false
    FROM u WHERE b.address = u.was RETURNING b.id, u.was
)
INSERT INTO rewritten (address, body) SELECT was, id FROM moved
"""

# Which of these addresses nobody may use again: of bodies that were rewritten, will be, or were
# given up before.
_UNUSABLE = f"""
SELECT address FROM rewritten WHERE address = ANY($1::bytea[])
UNION ALL
SELECT b.address FROM bodies b
WHERE b.address = ANY($1::bytea[]) AND (b.erasing OR {HAS_ERASED})
"""  # noqa: S608

# How many points a version had that are erased.
_COUNT = """
SELECT count(*) FROM erased
WHERE gid = (SELECT gid FROM generations WHERE stream = $1) AND version <= $2 AND until > $2
"""

# Which of some points some generation had that are erased.
_ERASED_AMONG = """
SELECT k.id FROM unnest($1::bytea[]) AS k (id)
WHERE EXISTS (
    SELECT FROM generations g JOIN erased e ON e.gid = g.gid AND e.id = k.id
)
"""

# All events of erasures.
_EVENTS = f"SELECT {COLUMNS} FROM events WHERE split_part(topic, '.', 1) = $1 ORDER BY position"  # noqa: S608

# The version that a generation had at a position.
_VERSION_AT = "SELECT max(version) FROM events WHERE stream = $1 AND position < $2"


def generations_erased_from(events: Iterable[AggregateEvent]) -> set[UUID]:
    """The generations whose points an erasure among these events erases."""
    return {generation for generation, _ in _subjects(events)}


def refuse_erasures(events: Iterable[AggregateEvent]) -> None:
    """Refuse events of erasures that come without what they do.

    Raises:
        Rejected: there is one.
    """
    if any(isinstance(event, Erasure.Event) for event in events):
        raise Rejected("erasures are recorded, not appended")


async def lock_subjects(
    connection: Any,
    events: Sequence[AggregateEvent],
    locked: Mapping[UUID, LockedGeneration],
) -> None:
    """Let nobody refer to the bodies of points that an erasure is about to erase.

    Raises:
        ChangedMeanwhile: a point was copied elsewhere since the erasure was planned.
    """
    subjects = _subjects(events)
    if not subjects:
        return
    await connection.fetch(_LOCK_BODIES, *_columns(subjects, locked))
    holdings = await _holdings(connection, {key for _, key in subjects})
    if {holding.subject for holding in together(holdings, subjects)} - subjects:
        raise ChangedMeanwhile("points that are to be erased were copied meanwhile; look again")


async def follow_erasures(
    connection: Any,
    events: Sequence[AggregateEvent],
    locked: Mapping[UUID, LockedGeneration],
) -> None:
    """Bring heads and bodies up to date with events that are about to be appended.

    Raises:
        Rejected: a collection that is looked after has one of the points.
    """
    subjects = _subjects(events)
    if subjects:
        gids, keys = _columns(subjects, locked)
        if await connection.fetchval(_THERE, gids, keys):
            raise Rejected("points that are erased have to be deleted with it")
        bodies = await _erase_heads(connection, gids, keys, [_FOR_EVER] * len(gids))
        await connection.execute(_MARK, bodies, [])
    for event in events:
        if isinstance(event, Erasure.ObjectsRewritten):
            await rewrite(connection, event.objects)


async def rewrite(connection: Any, objects: Mapping[str, str]) -> None:
    """Let bodies be others: address to address."""
    was = [bytes.fromhex(address) for address in objects]
    await connection.execute(_KNOW, was)
    await connection.fetch(_LOCK_OLD, was)
    now = [bytes.fromhex(address) for address in objects.values()]
    await connection.execute(_NOT_YET, now)
    await connection.execute(_REWRITE, was, now)


async def refuse_erased(
    connection: Any, claimed: Claimed, places: Iterable[tuple[str, int]]
) -> None:
    """Refuse to record what refers to erased rows.

    Args:
        connection: in the transaction that has claimed the bodies.
        claimed: the bodies.
        places: addresses of bodies and rows there.

    Raises:
        BodyErased: a row of a body that will be rewritten is erased.
    """
    if not claimed.erasing:
        return
    rows = {
        (claimed.numbers[address], row) for address, row in places if address in claimed.erasing
    }
    columns = [body for body, _ in rows], [row for _, row in rows]
    address = await connection.fetchval(_ERASED_ROW, *columns)
    if address is not None:
        raise BodyErased(address.hex(), gone=False)


async def refuse_gone(connection: Any, gid: int, changes: HeadChanges) -> None:
    """Refuse a body with a point that was erased after it was read; its heads are written.

    Raises:
        ChangedMeanwhile: there is one.
    """
    if not changes.left:
        return
    keys, hashes = zip(*((key, head.hash) for key, head in changes.left), strict=True)
    gone = await connection.fetchval(_GONE, gid, keys, hashes)
    if gone is not None:
        raise ChangedMeanwhile(f"point {id_of(gone)} was erased meanwhile; read it again")


async def recorded_erasures(connection: Any) -> list[tuple[int, Erasure]]:
    """All erasures that were begun, with the position where, in order."""
    begun: dict[UUID, tuple[int, Erasure]] = {}
    for row in await connection.fetch(_EVENTS, Erasure.TOPIC):
        recorded: Recorded = to_recorded(row)
        position, known = begun.get(recorded.stream, (recorded.position, None))
        grown = recorded.event.mutate(known)
        if isinstance(grown, Erasure):
            begun[recorded.stream] = position, grown
    return [*begun.values()]


async def erase_again(
    connection: Any, erasure: tuple[int, Erasure], generation: UUID, gid: int
) -> None:
    """Leave the points of an erasure out of heads that were made from manifests."""
    position, erased = erasure
    ids = erased.subjects.get(plain_uuid(generation), [])
    if not ids:
        return
    through = await connection.fetchval(_VERSION_AT, generation, position)
    keys = sorted(map(key_of, ids))
    bodies = await _erase_heads(connection, [gid] * len(keys), keys, [through] * len(keys))
    if not erased.done:
        there = [bytes.fromhex(address) for address in erased.objects.values()]
        await connection.execute(_MARK, bodies, there)


async def read_holdings(database: Database, keys: Collection[bytes]) -> list[Holding]:
    """Everything that any generation has and had of these points."""
    async with database.connection() as connection:
        return await _holdings(connection, keys)


async def read_erasing(database: Database, limit: int, but: Collection[str]) -> dict[str, set[int]]:
    """Some of the bodies that have erased rows and are not rewritten yet: address to rows."""
    others = [bytes.fromhex(address) for address in but]
    async with database.connection() as connection:
        rows = await connection.fetch(_ERASING, limit, others)
    return {row["address"].hex(): set(row["rows"]) for row in rows}


async def unusable(database: Database, addresses: Collection[str]) -> set[str]:
    """Those of these addresses under which nothing new may be kept."""
    wanted = [bytes.fromhex(address) for address in addresses]
    async with database.connection() as connection:
        rows = await connection.fetch(_UNUSABLE, wanted)
    return {row["address"].hex() for row in rows}


async def erased_among(database: Database, keys: Collection[bytes]) -> set[bytes]:
    """Those of these points that were erased from some generation."""
    async with database.connection() as connection:
        rows = await connection.fetch(_ERASED_AMONG, sorted(keys))
    return {row["id"] for row in rows}


async def count_erased(database: Database, generation: UUID, at: int) -> int:
    """How many points of a version are erased."""
    async with database.connection() as connection:
        count: int = await connection.fetchval(_COUNT, generation, at)
    return count


async def _holdings(connection: Any, keys: Collection[bytes]) -> list[Holding]:
    rows = await connection.fetch(_HOLDINGS, sorted(keys))
    return [
        Holding(
            generation=plain_uuid(row["stream"]),
            key=row["id"],
            there=row["there"],
            bodies=frozenset(
                zip((one.hex() for one in row["addresses"]), row["rows"], strict=True)
            ),
            deleted=frozenset(one.hex() for one in row["deleted"] or ()),
        )
        for row in rows
    ]


async def _erase_heads(
    connection: Any, gids: Sequence[int], keys: Sequence[bytes], through: Sequence[int]
) -> list[int]:
    """Move heads and past heads to those that are erased; returns the bodies of these."""
    rows = await connection.fetch(_ERASE_HEADS, gids, keys, through, _FOR_EVER)
    return [row["body"] for row in rows]


def _subjects(events: Iterable[AggregateEvent]) -> set[Subject]:
    return {
        (UUID(generation), key_of(point))
        for event in events
        if isinstance(event, Erasure.Created)
        for generation, ids in event.subjects.items()
        for point in ids
    }


def _columns(
    subjects: Iterable[Subject], locked: Mapping[UUID, LockedGeneration]
) -> tuple[list[int], list[bytes]]:
    """Numbers of generations and keys of points.

    Raises:
        Rejected: there is no such generation.
    """
    keys: dict[int, list[bytes]] = defaultdict(list)
    for generation, key in subjects:
        if generation not in locked:
            raise Rejected(f"generation {generation} does not exist")
        keys[locked[generation].gid].append(key)
    pairs = [(gid, key) for gid, some in sorted(keys.items()) for key in sorted(some)]
    return [gid for gid, _ in pairs], [key for _, key in pairs]
