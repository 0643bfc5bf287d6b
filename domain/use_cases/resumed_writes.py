"""Writes that leave out what an earlier try has done.

A store that takes so many points a minute would otherwise take the same ones again and again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.model.errors import Throttled
from domain.model.points import PointBatch
from domain.model.recorded import Recorded
from domain.ports import Lease, VectorStore


@dataclass(frozen=True)
class Begun:
    """An effect that the store throttled in the middle.

    Attributes:
        lease: under which it was begun; under another one it is done from its beginning, because
            somebody else may have written meanwhile.
        first: version of its first change.
        through: version of its last change.
        done: how many of its points the store has.
    """

    lease: Lease
    first: int
    through: int
    done: int

    def within(self, lease: Lease, events: list[Recorded]) -> list[Recorded]:
        """The events of this effect, if that is what comes next; else all of them."""
        if self.lease is not lease or self.first != events[0].version:
            return events
        return [recorded for recorded in events if recorded.version <= self.through]

    def done_of(self, lease: Lease, batch: Sequence[Recorded]) -> int:
        """How much of a batch is done."""
        same = (batch[0].version, batch[-1].version) == (self.first, self.through)
        return self.done if same and self.lease is lease else 0


class ResumedWrites:
    """The writes of one effect, in the same order at every try.

    Args:
        store: where to.
        done: of the points of all writes, how many, from the first, the store has already.
    """

    def __init__(self, store: VectorStore, done: int) -> None:
        self._store = store
        self._done = done
        self._passed = 0

    async def upsert(self, name: str, points: PointBatch) -> None:
        """Write points.

        Raises:
            Throttled: with what is done of all writes.
        """
        first = self._first(len(points))
        try:
            if first < len(points):
                await self._store.upsert(name, points.take(range(first, len(points))))
        except Throttled as error:
            raise self._stopped(error, first) from error
        self._passed += len(points)

    async def delete(self, name: str, keys: Sequence[bytes]) -> None:
        """Delete points.

        Raises:
            Throttled: with what is done of all writes.
        """
        first = self._first(len(keys))
        try:
            if first < len(keys):
                await self._store.delete(name, sorted(keys)[first:])
        except Throttled as error:
            raise self._stopped(error, first) from error
        self._passed += len(keys)

    def _first(self, size: int) -> int:
        return min(max(self._done - self._passed, 0), size)

    def _stopped(self, error: Throttled, first: int) -> Throttled:
        return Throttled(str(error), error.wait, self._passed + first + error.done)
