"""Bodies of change sets: decoded once and kept for a while, never made again where erased."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from domain.model.bodies import address_of, decode_body, encode_body
from domain.model.points import PointBatch
from domain.ports import Ledger, Objects
from domain.use_cases.concurrently import concurrently

CACHE_BYTES = 32 * 2**20
BODIES_AT_ONCE = 4
"""Bodies that are read for one batch at a time."""


class BodyCache:
    """Decoded bodies by address, least recently used out first, bounded by their encoded size."""

    def __init__(self, objects: Objects, capacity: int = CACHE_BYTES) -> None:
        self._objects = objects
        self._capacity = capacity
        self._size = 0
        self._bodies: OrderedDict[str, tuple[PointBatch, int]] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, address: str) -> PointBatch:
        """The points of a body; concurrent callers of one address share the work.

        Raises:
            Corrupt: the object is missing, or not what the address says.
        """
        lock = self._locks.setdefault(address, asyncio.Lock())
        try:
            async with lock:
                if address not in self._bodies:
                    content = await self._objects.get(address)
                    self._keep(address, await asyncio.to_thread(decode_body, content), len(content))
                self._bodies.move_to_end(address)
                return self._bodies[address][0]
        finally:
            if not lock.locked():
                self._locks.pop(address, None)

    async def points(self, wanted: Mapping[str, Sequence[int]]) -> PointBatch:
        """The points at these rows of these bodies, without those that were erased.

        Raises:
            Corrupt: an object is missing, or not what its address says.
        """

        async def some(address: str, rows: Sequence[int]) -> PointBatch:
            return (await self.get(address)).take(rows).there()

        parts = (some(address, rows) for address, rows in wanted.items())
        return PointBatch.concatenate(await concurrently(parts, BODIES_AT_ONCE))

    def _keep(self, address: str, body: PointBatch, size: int) -> None:
        self._bodies[address] = body, size
        self._size += size
        while self._size > self._capacity and len(self._bodies) > 1:
            _, (_, freed) = self._bodies.popitem(last=False)
            self._size -= freed


async def never_erased(ledger: Ledger, page: PointBatch, content: bytes) -> bytes:
    """The encoded body of points, or another one where that was erased: they were there again."""
    address = address_of(content)
    while await ledger.unusable([address]):
        content = await asyncio.to_thread(encode_body, page, instead_of=address)
        address = address_of(content)
    return content
