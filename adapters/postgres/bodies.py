"""The table of bodies: their numbers, by which heads name them, and what is to become of them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from domain.model.errors import BodyCollected, BodyErased

# Numbers of bodies that have one.
_KNOWN = "SELECT id, address FROM bodies WHERE address = ANY($1::bytea[])"

# The same, and what is to become of them. The lock is for who makes something else of a body, or
# gives it up: either that waits until what refers to it is committed, or this does and sees it. In
# the order of addresses, so that nobody waits in a circle.
_CLAIM = """
SELECT id, address, fate, erasing FROM bodies WHERE address = ANY($1::bytea[])
ORDER BY address FOR KEY SHARE
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
        BodyErased: one was rewritten.
    """
    rows, former = await _numbered(connection, _CLAIM, addresses)
    for row in former:
        raise BodyErased(row["address"].hex(), gone=True)
    condemned = []
    for row in rows:
        if row["fate"] in {"collected", "deleted"} and row["address"].hex() not in given:
            raise BodyCollected(row["address"].hex())
        if row["fate"] is not None:
            condemned.append(row["id"])
    if condemned:
        await connection.execute(_KEEP, condemned)
    return Claimed(
        numbers={row["address"].hex(): row["id"] for row in rows},
        erasing=frozenset(row["address"].hex() for row in rows if row["erasing"]),
    )


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
