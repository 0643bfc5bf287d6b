"""Read points by their heads, in the order of ids, with bounded memory.

Ids are taken in partitions. For each, every body that it refers to is read once, and only the rows
that count are kept. So reading costs as many bodies as the points of a partition lie in: few where
bodies are packed, see `pack`, and up to all of a history where they are scattered.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from domain.model.bodies import decode_rows
from domain.model.errors import Corrupt
from domain.model.points import PointBatch, id_of
from domain.model.recorded import Heads
from domain.use_cases.concurrently import concurrently
from domain.use_cases.tools import Tools

PARTITION_BYTES = 16 * 2**20
MOST_POINTS = 10_000
FIRST_POINTS = 500
"""Points that are read before it is known how large they are."""

BODIES_AT_ONCE = 4


class Gathering:
    """Reads the points of a generation, now or at a version.

    Args:
        tools: the ports.
        generation: its stream.
        at: version of the generation's stream; None for now.
    """

    def __init__(self, tools: Tools, generation: UUID, at: int | None = None) -> None:
        self._tools = tools
        self._generation = generation
        self._at = at
        self._limit = min(FIRST_POINTS, MOST_POINTS)

    async def measure(self) -> None:
        """Look at the points of one body, so that the first partition is not too large."""
        heads = await self._tools.ledger.heads(
            self._generation, after=b"", limit=self._limit, at=self._at
        )
        pairs = zip(heads.keys, heads.objects, strict=True)
        await self.points(heads.only({key for key, body in pairs if body == heads.objects[0]}))
        self._limit = min(self._limit, FIRST_POINTS)

    async def partitions(self) -> AsyncIterator[Heads]:
        """Heads in the order of ids, so many at a time as their points may be in memory."""
        after = b""
        while True:
            limit = self._limit
            heads = await self._tools.ledger.heads(
                self._generation, after=after, limit=limit, at=self._at
            )
            if len(heads):
                yield heads
            if len(heads) < limit:
                return
            after = heads.keys[-1]

    async def points(self, heads: Heads) -> tuple[Heads, PointBatch]:
        """The points of a partition in its order; with fewer heads if some were erased meanwhile.

        Raises:
            Corrupt: a body is missing, altered, or holds something else than is recorded.
        """
        while True:
            try:
                return heads, await self._points(heads)
            except Corrupt:
                now = await self._tools.ledger.heads_of(self._generation, heads.keys, at=self._at)
                if now == heads:
                    raise
                heads = now

    async def _points(self, heads: Heads) -> PointBatch:
        if not len(heads):
            return PointBatch([], [])
        wanted = heads.bodies().items()
        parts = await concurrently((self._rows(*one) for one in wanted), BODIES_AT_ONCE)
        read = PointBatch.concatenate(parts).there()
        place = {key: row for row, key in enumerate(read.keys)}
        points = read.take([place[key] for key in heads.keys if key in place])
        found = dict(zip(points.keys, points.hashes(), strict=True))
        for key, hash_ in zip(heads.keys, heads.hashes, strict=True):
            if found.get(key) != hash_:
                raise Corrupt(
                    f"the body of point {id_of(key)} does not hold what is recorded of it"
                )
        size = max(1, points.size() // len(points))
        self._limit = max(1, min(MOST_POINTS, PARTITION_BYTES // size))
        return points

    async def _rows(self, address: str, rows: Sequence[int]) -> PointBatch:
        content = await self._tools.objects.get(address)
        return await asyncio.to_thread(decode_rows, content, rows)
