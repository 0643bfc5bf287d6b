"""The table of bodies: their numbers, by which heads name them, and what is to become of them."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from domain.model.errors import BodyCollected

# Numbers of bodies that have one.
_KNOWN = "SELECT id, address FROM bodies WHERE address = ANY($1::bytea[])"

# The same, and what is to become of them; nobody gives them up before this transaction ends.
_CLAIM = """
SELECT id, address, fate FROM bodies WHERE address = ANY($1::bytea[])
ORDER BY address FOR KEY SHARE
"""

# Numbers for new bodies, in the order of addresses, so that writers never wait in a circle.
_NEW = "INSERT INTO bodies (address) SELECT unnest($1::bytea[]) ON CONFLICT (address) DO NOTHING"

# Bodies that something refers to again.
_KEEP = """
WITH locked AS (
    SELECT id FROM bodies WHERE id = ANY($1::int[]) ORDER BY id FOR NO KEY UPDATE
)
UPDATE bodies b SET fate = NULL, fate_at = NULL FROM locked WHERE b.id = locked.id
"""


async def number_bodies(connection: Any, addresses: Iterable[str]) -> dict[str, int]:
    """The numbers of bodies, new ones where they have none; whatever is to become of them."""
    rows = await _numbered(connection, _KNOWN, _sorted(addresses))
    return {row["address"].hex(): row["id"] for row in rows}


async def claim_bodies(
    connection: Any, addresses: Iterable[str], *, given: Collection[str] = ()
) -> dict[str, int]:
    """The numbers of bodies that are about to be referred to; they stay from here on.

    Args:
        connection: in the transaction that refers to them.
        addresses: of the bodies.
        given: those of them whose objects are written in the same transaction.

    Raises:
        BodyCollected: one was given up already.
    """
    rows = await _numbered(connection, _CLAIM, _sorted(addresses))
    condemned = []
    for row in rows:
        if row["fate"] in {"collected", "deleted"} and row["address"].hex() not in given:
            raise BodyCollected(row["address"].hex())
        if row["fate"] is not None:
            condemned.append(row["id"])
    if condemned:
        await connection.execute(_KEEP, condemned)
    return {row["address"].hex(): row["id"] for row in rows}


def _sorted(addresses: Iterable[str]) -> list[bytes]:
    return sorted({bytes.fromhex(address) for address in addresses})


async def _numbered(connection: Any, query: str, wanted: Sequence[bytes]) -> list[Any]:
    rows: list[Any] = await connection.fetch(query, wanted)
    known = {row["address"] for row in rows}
    missing = [address for address in wanted if address not in known]
    if missing:
        await connection.execute(_NEW, missing)
        rows += await connection.fetch(query, missing)
    return rows
