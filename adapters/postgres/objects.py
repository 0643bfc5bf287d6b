"""Small objects as rows, under the same addresses as in object storage."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.postgres.connection import Database
from domain.model.bodies import Manifest, address_of, decode_manifest
from domain.model.errors import Corrupt, ObjectMissing

# Keep objects that are not there yet; in the order of addresses, so that two writers of the same
# objects wait for each other and never in a circle.
_PUT = """
INSERT INTO objects (address, content)
SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT (address) DO NOTHING
"""

# Objects by address.
_GET = "SELECT address, content FROM objects WHERE address = ANY($1::bytea[])"

# Which of these addresses have an object.
_THERE = "SELECT address FROM objects WHERE address = ANY($1::bytea[])"

# Where bodies are that were rewritten.
_PRESENT = """
SELECT r.address AS was, b.address FROM rewritten r JOIN bodies b ON b.id = r.body
WHERE r.address = ANY($1::bytea[])
"""

# Objects that go.
_DELETE = "DELETE FROM objects WHERE address = ANY($1::bytea[])"


class PostgresObjects:
    """Content-addressed bytes in a table; implements `domain.ports.Objects`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, content: bytes) -> str:
        """Keep bytes and return their address."""
        address = address_of(content)
        async with self._database.connection() as connection:
            await put_objects(connection, {address: content})
        return address

    async def get(self, address: str) -> bytes:
        """The bytes of an address, checked.

        Raises:
            Corrupt: they are missing, or not what the address says.
        """
        async with self._database.connection() as connection:
            return (await get_objects(connection, [address]))[address]

    async def missing(self, addresses: Sequence[str]) -> set[str]:
        """Those of these addresses that have no row."""
        wanted = [bytes.fromhex(address) for address in addresses]
        async with self._database.connection() as connection:
            there = await connection.fetch(_THERE, wanted)
        return set(addresses) - {row["address"].hex() for row in there}

    async def delete(self, addresses: Sequence[str]) -> None:
        """Delete the rows of these addresses; none is no error."""
        async with self._database.connection() as connection:
            await connection.execute(_DELETE, [bytes.fromhex(address) for address in addresses])


async def put_objects(connection: Any, contents: Mapping[str, bytes]) -> None:
    """Keep objects by address, within the connection's transaction."""
    addresses = sorted(contents)
    await connection.execute(
        _PUT,
        [bytes.fromhex(address) for address in addresses],
        [contents[address] for address in addresses],
    )


async def stored_rows(connection: Any, addresses: Sequence[str]) -> dict[str, bytes]:
    """Those of these objects that are there, by address; unchecked."""
    rows = await connection.fetch(_GET, [bytes.fromhex(address) for address in addresses])
    return {row["address"].hex(): row["content"] for row in rows}


async def get_objects(connection: Any, addresses: Sequence[str]) -> dict[str, bytes]:
    """Objects by address, checked.

    Raises:
        Corrupt: one is missing, or not what its address says.
    """
    found = await stored_rows(connection, addresses)
    for address in addresses:
        if address not in found:
            raise ObjectMissing(f"object {address} is missing")
        if address_of(found[address]) != address:
            raise Corrupt(f"object {address} has other content than its address says")
    return found


async def get_manifests(database: Database, addresses: Sequence[str]) -> dict[str, Manifest]:
    """What changes by manifests, checked; bodies that were rewritten are named where they are now.

    Raises:
        Corrupt: one is missing, or not what its address says.
    """
    async with database.connection() as connection:
        found = await get_objects(connection, addresses)
        manifests = {one: decode_manifest(content).changing() for one, content in found.items()}
        named = {one for manifest in manifests.values() for one in manifest.objects}
        moved = await present_addresses(connection, named)
    return {
        address: replace(manifest, objects=[moved.get(one, one) for one in manifest.objects])
        for address, manifest in manifests.items()
    }


async def present_addresses(connection: Any, addresses: Iterable[str]) -> dict[str, str]:
    """Where bodies are that were rewritten, by the addresses that they had before."""
    wanted = [bytes.fromhex(address) for address in addresses]
    rows = await connection.fetch(_PRESENT, wanted) if wanted else []
    return {row["was"].hex(): row["address"].hex() for row in rows}
