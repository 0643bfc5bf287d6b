"""The table of bodies: their numbers, by which heads name them, and what is to become of them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from domain.model.errors import BodyCollected, BodyErased

# Numbers of bodies that have one.
_KNOWN = "SELECT id, address FROM bodies WHERE address = ANY($1::bytea[])"

# The same, and what is to become of them. The lock is for who makes something else of a body, or
# gives it up: either that waits until what refers to it is committed, or this does and sees it. In
# the order of addresses, so that nobody waits in a circle. Who was about to make a row while the
# body was rewritten may have made it under the former address.
_CLAIM = """
SELECT b.id, b.address, b.fate, b.erasing,
    EXISTS (SELECT FROM rewritten r WHERE r.address = b.address) AS former
FROM bodies b WHERE b.address = ANY($1::bytea[])
ORDER BY b.address FOR KEY SHARE OF b
"""

# Numbers for new bodies, in the same order. What was rewritten is never new again.
_NEW = """
INSERT INTO bodies (address)
SELECT u.address FROM unnest($1::bytea[]) AS u (address)
WHERE NOT EXISTS (SELECT FROM rewritten r WHERE r.address = u.address)
ON CONFLICT (address) DO NOTHING
"""

# Numbers of bodies that are rewritten, by their former addresses.
_REWRITTEN = "SELECT body AS id, address FROM rewritten WHERE address = ANY($1::bytea[])"

# Whether points of body `b` were erased.
HAS_ERASED = """(
    EXISTS (SELECT FROM erased e WHERE e.body = b.id)
    OR EXISTS (SELECT FROM left_rows l WHERE l.body = b.id AND l.erased)
)"""

# One of these addresses under which nothing may be any more. Points were erased of what was there:
# it was rewritten, or was given up before and is not rewritten. If it came back under this address,
# the next erasure would empty these rows, too.
_NEVER_AGAIN = f"""
SELECT address FROM rewritten WHERE address = ANY($1::bytea[])
UNION ALL
SELECT b.address FROM bodies b
WHERE b.address = ANY($1::bytea[]) AND NOT b.erasing AND {HAS_ERASED}
LIMIT 1
"""  # noqa: S608

# Bodies that something refers to again.
_KEEP = """
WITH locked AS (
    SELECT id FROM bodies WHERE id = ANY($1::int[]) ORDER BY address FOR NO KEY UPDATE
)
UPDATE bodies b SET fate = NULL, fate_at = NULL FROM locked WHERE b.id = locked.id
"""


@dataclass(frozen=True)
class Claimed:
    """Bodies that something is about to refer to.

    Attributes:
        numbers: by address.
        erasing: addresses of those that have erased rows and are not rewritten yet.
    """

    numbers: dict[str, int]
    erasing: frozenset[str]


async def number_bodies(connection: Any, addresses: Iterable[str]) -> dict[str, int]:
    """The numbers of bodies, new ones where they have none; whatever is to become of them.

    One that was rewritten has its number under its former address, too.
    """
    rows, former = await _numbered(connection, _KNOWN, addresses)
    return {row["address"].hex(): row["id"] for row in (*rows, *former)}


async def claim_bodies(
    connection: Any, addresses: Iterable[str], *, given: Collection[str] = ()
) -> Claimed:
    """The numbers of bodies that are about to be referred to; they stay from here on.

    Args:
        connection: in the transaction that refers to them.
        addresses: of the bodies.
        given: those of them whose objects are written in the same transaction.

    Raises:
        BodyCollected: one was given up already.
        BodyErased: one was rewritten, or was given up before points of it were erased.
    """
    rows, former = await _numbered(connection, _CLAIM, addresses)
    for row in (*former, *(row for row in rows if row["former"])):
        raise BodyErased(row["address"].hex(), gone=True)
    condemned, again = [], []
    for row in rows:
        if row["fate"] in {"collected", "deleted"}:
            if row["address"].hex() not in given:
                raise BodyCollected(row["address"].hex())
            again.append(row["address"].hex())
        if row["fate"] is not None:
            condemned.append(row["id"])
    if again:
        await refuse_never_again(connection, again)
    if condemned:
        await connection.execute(_KEEP, condemned)
    return Claimed(
        numbers={row["address"].hex(): row["id"] for row in rows},
        erasing=frozenset(row["address"].hex() for row in rows if row["erasing"]),
    )


async def refuse_never_again(connection: Any, addresses: Iterable[str]) -> None:
    """Refuse addresses under which points were erased.

    Raises:
        BodyErased: there is one, and nothing may be under it any more.
    """
    wanted = [bytes.fromhex(address) for address in addresses]
    address = await connection.fetchval(_NEVER_AGAIN, wanted)
    if address is not None:
        raise BodyErased(address.hex(), gone=True)


async def _numbered(
    connection: Any, query: str, addresses: Iterable[str]
) -> tuple[list[Any], Sequence[Any]]:
    """Rows of bodies, and of those that are rewritten by these addresses."""
    wanted = sorted({bytes.fromhex(address) for address in addresses})
    rows: list[Any] = await connection.fetch(query, wanted)
    missing = _without(wanted, rows)
    if missing:
        await connection.execute(_NEW, missing)
        rows += await connection.fetch(query, missing)
        missing = _without(missing, rows)
    return rows, await connection.fetch(_REWRITTEN, missing) if missing else []


def _without(wanted: Sequence[bytes], rows: Iterable[Any]) -> list[bytes]:
    known = {row["address"] for row in rows}
    return [address for address in wanted if address not in known]
