"""One open collection: the engine's shard, one writer at a time, and when it is flushed."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import qdrant_edge as edge

from adapters.embedded.node.disk import GROWTH, Disk
from adapters.embedded.node.errors import no_collection, no_point
from adapters.embedded.node.ids import PointId
from adapters.embedded.node.rpc import Call
from adapters.embedded.node.vectors import Layout

FLUSH_AFTER_BYTES = 64 * 2**20
"""The engine truncates its write-ahead log only when flushed, and re-reads all of it at a start."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Change:
    """Checked operations, to be applied together.

    Attributes:
        operations: what the engine is to do, each small enough not to stop the process for long.
        must_exist: points without which nothing is applied. The engine would apply the rest and
            raise afterwards.
        filtered: what it does depends on a filter. Replaying it over later states could change
            other points, so it does not stay in the write-ahead log.
    """

    operations: Sequence[edge.UpdateOperation]
    must_exist: Sequence[PointId] = ()
    filtered: bool = False


class Shard:
    """An open collection.

    Attributes:
        name: of the collection, for messages.
        layout: its vectors.
    """

    def __init__(self, name: str, layout: Layout, shard: edge.EdgeShard, disk: Disk) -> None:
        self.name = name
        self.layout = layout
        self._shard = shard
        self._disk = disk
        self._writing = threading.Lock()
        self._unflushed = 0
        self._closed = False

    def read(self, ask: Callable[[edge.EdgeShard], Answer]) -> Answer:
        """Ask the engine something.

        Raises:
            RefusalError: the collection was deleted meanwhile.
        """
        asked = self._shard
        try:
            return ask(asked)
        except Exception:
            if self._closed:
                raise no_collection(self.name) from None
            if asked is not self._shard:  # it was replaced, and closed, meanwhile
                return ask(self._shard)
            raise

    def write(self, changes: Sequence[Change], size: int, call: Call) -> None:
        """Apply changes in order; they are visible and logged when this returns.

        Args:
            changes: applied until one is refused; those before it stay.
            size: bytes that the request had.
            call: not applied if its deadline passes while other writers are at work.

        Raises:
            RefusalError: a point is missing, the deadline is over, the disk is full, or the
                collection is gone.
        """
        with self._writing, self._disk.room(GROWTH * size):
            call.ensure_live()
            if self._closed:
                raise no_collection(self.name)
            try:
                for change in changes:
                    self._apply(change)
            finally:
                self._unflushed += size
                if self._unflushed >= FLUSH_AFTER_BYTES:
                    self._flush()

    def replace(self, make: Callable[[edge.EdgeShard], edge.EdgeShard]) -> None:
        """Go on with another shard of the same points; writers wait meanwhile.

        Args:
            make: makes it of the present one, which is closed then.

        Raises:
            RefusalError: the collection is gone.
        """
        with self._writing:
            if self._closed:
                raise no_collection(self.name)
            before, self._shard = self._shard, make(self._shard)
            self._unflushed = 0
            before.close()

    def close(self) -> None:
        """Flush and close; later calls answer that there is no such collection."""
        with self._writing:
            self._closed = True
            self._flush()
            self._shard.close()

    def _apply(self, change: Change) -> None:
        if change.must_exist:
            found = {
                record.id
                for record in self._shard.retrieve(
                    list(change.must_exist), with_payload=False, with_vector=False
                )
            }
            for point_id in change.must_exist:
                if point_id not in found:
                    raise no_point(point_id)
        for operation in change.operations:
            self._shard.update(operation)
        if change.filtered:
            self._flush()

    def _flush(self) -> None:
        self._shard.flush()
        self._unflushed = 0


def create(folder: Path, config: edge.EdgeConfig) -> edge.EdgeShard:
    """Make a shard in a new folder."""
    folder.mkdir(parents=True)
    shard = edge.EdgeShard.create(str(folder), config)
    shard.flush()
    return shard


def load(folder: Path, config: edge.EdgeConfig) -> edge.EdgeShard:
    """Open a shard, replaying its write-ahead log."""
    return edge.EdgeShard.load(str(folder), config)
