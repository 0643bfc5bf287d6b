"""What goes into the ledger, and what comes out of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import orjson
from eventsourcing.domain import AggregateEvent

from domain.model.aggregate import Context

GENESIS_HASH = bytes(32)


@dataclass(frozen=True)
class Recorded:
    """An event as the ledger has it.

    Attributes:
        position: dense number in the whole ledger, from 1.
        stream: id of the aggregate.
        version: number in the stream, from 1.
        topic: what kind of event.
        event: the event itself, its timestamp the database's.
        context: who, why, in answer to what.
        hash: SHA-256 of its canonical form, chained to the previous event's.
    """

    position: int
    stream: UUID
    version: int
    topic: str
    event: AggregateEvent
    context: Context
    hash: bytes

    @property
    def recorded_at(self) -> datetime:
        """The database's time, never decreasing with the position."""
        return self.event.timestamp

    @cached_property
    def at(self) -> str:
        """That time as ISO 8601 text; `datetime.isoformat` takes four times as long."""
        return orjson.dumps(self.event.timestamp)[1:-1].decode()


@dataclass(frozen=True)
class Command:
    """Events to be recorded together or not at all.

    Attributes:
        key: idempotency key; the same key with the same content gets the first answer.
        events: of one or more streams; the version of each says what its writer expects.
        context: who, why, in answer to what.
    """

    key: str
    events: Sequence[AggregateEvent]
    context: Context


@dataclass(frozen=True)
class Answer:
    """Where a command's events are.

    Attributes:
        position: of its first event; 0 if it has none.
        count: number of its events.
        repeated: whether the key had been recorded before, and this is that first answer.
    """

    position: int
    count: int
    repeated: bool


@dataclass(frozen=True)
class ChangeSetDraft:
    """A change set before it has a place in its generation's stream; columns, one row a point.

    Rows whose head has the same hash already are dropped when it is recorded, and so are captured
    rows whose head changed after `captured_at`. Of a repair, those are kept whose head still has
    this hash. A draft without rows left makes no event, unless it is live.

    Attributes:
        generation: stream of the generation that it changes.
        keys: id keys, each once.
        hashes: point hashes; None deletes the point.
        objects: addresses of bodies.
        object_index: which of `objects` holds the point's body.
        rows: row in that body.
        captured: the store holds these points already.
        captured_at: version of the generation's stream when the rows were read; None for a
            write that wins over what is there.
        source: what made it, for the event.
        found: what the store was found to hold instead; this makes it a repair.
        based_on: hash that each point had when the rows were made of it (None where there was
            none); another one by now is a conflict.
        unless_in: generations that by now may not have one of these points with other content: that
            is a conflict, too.
        live: a write of an application. It waits while writes are held, and makes an event even if
            it changes nothing: somebody asked for it.
    """

    generation: UUID
    keys: list[bytes]
    hashes: list[bytes | None]
    objects: list[str]
    object_index: list[int]
    rows: list[int]
    captured: bool = False
    captured_at: int | None = None
    source: dict[str, Any] = field(default_factory=dict)
    found: list[bytes | None] | None = None
    based_on: list[bytes | None] | None = None
    unless_in: Sequence[UUID] = ()
    live: bool = False

    @classmethod
    def images(
        cls,
        generation: UUID,
        keys: list[bytes],
        hashes: Sequence[bytes],
        body: str,
        **more: Any,
    ) -> "ChangeSetDraft":
        """A change set that writes all points of a body, in its order.

        Args:
            generation: its stream.
            keys: of the points.
            hashes: of the points.
            body: its address.
            more: other fields of the draft.
        """
        return cls(
            generation=generation,
            keys=keys,
            hashes=list(hashes),
            objects=[body],
            object_index=[0] * len(keys),
            rows=list(range(len(keys))),
            **more,
        )

    @classmethod
    def tombstones(cls, generation: UUID, keys: list[bytes], **more: Any) -> "ChangeSetDraft":
        """A change set that deletes points.

        Args:
            generation: its stream.
            keys: of the points.
            more: other fields of the draft.
        """
        nothing = [0] * len(keys)
        return cls(generation, keys, [None] * len(keys), [], nothing, nothing, **more)


@dataclass(frozen=True)
class Heads:
    """What the ledger says some points of a generation are now; columns, in key order.

    Attributes:
        keys: id keys.
        hashes: point hashes, never None: deleted points have no head here.
        objects: address of each point's body.
        rows: row in that body.
        versions: version of the generation's stream that set the head.
    """

    keys: list[bytes]
    hashes: list[bytes]
    objects: list[str]
    rows: list[int]
    versions: list[int]

    def __len__(self) -> int:
        return len(self.keys)

    def bodies(self) -> dict[str, list[int]]:
        """The rows of each body, by its address."""
        found: dict[str, list[int]] = {}
        for address, row in zip(self.objects, self.rows, strict=True):
            found.setdefault(address, []).append(row)
        return found

    def only(self, keys: Collection[bytes]) -> "Heads":
        """The heads of these points."""
        kept = [row for row, key in enumerate(self.keys) if key in keys]
        return Heads(
            keys=[self.keys[row] for row in kept],
            hashes=[self.hashes[row] for row in kept],
            objects=[self.objects[row] for row in kept],
            rows=[self.rows[row] for row in kept],
            versions=[self.versions[row] for row in kept],
        )

    def draft(self, generation: UUID, keys: Sequence[bytes], **more: Any) -> ChangeSetDraft:
        """A change set that makes points of a generation what these heads say.

        They refer to the same bodies; points without a head are deleted.

        Args:
            generation: its stream.
            keys: of the points, each once.
            more: other fields of the draft.
        """
        row_of = {key: row for row, key in enumerate(self.keys)}
        there = [row_of.get(key) for key in keys]
        objects = sorted({self.objects[row] for row in there if row is not None})
        place = {address: index for index, address in enumerate(objects)}
        return ChangeSetDraft(
            generation=generation,
            keys=list(keys),
            hashes=[None if row is None else self.hashes[row] for row in there],
            objects=objects,
            object_index=[0 if row is None else place[self.objects[row]] for row in there],
            rows=[0 if row is None else self.rows[row] for row in there],
            **more,
        )


@dataclass(frozen=True)
class Cursor:
    """How far a reader of the ledger has come.

    Attributes:
        position: of the last event that it handled; 0 at the beginning.
        hash: that event's hash, so that another history is noticed.
    """

    position: int = 0
    hash: bytes = GENESIS_HASH
