"""Writes of applications: recorded first, then applied like every other change.

A write is one change set, in one transaction. Its idempotency key makes it safe to send again: the
same key and write get the first answer, whatever came in between.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.model.aggregate import Context
from domain.model.bodies import address_of, encode_body
from domain.model.canonical import refuse_lossy
from domain.model.errors import (
    BodyErased,
    ChangedMeanwhile,
    Corrupt,
    NotFound,
    ObjectMissing,
)
from domain.model.generation import Generation
from domain.model.points import PointBatch, decode_payload, encode_payload, id_of
from domain.model.recorded import Answer, ChangeSetDraft, Heads
from domain.model.schema import CollectionSchema
from domain.ports import SMALL_OBJECT, GenerationStatus
from domain.use_cases.bodies import BodyCache
from domain.use_cases.names import physical_name
from domain.use_cases.tools import Tools, recorded_schema, unless_changed
from domain.use_cases.verify import ready

NAMED = 5
INLINE_BYTES = 64 * 2**10
"""Bodies up to about this size are encoded where they are made; a thread would take longer."""


@dataclass(frozen=True)
class Upsert:
    """Whole points, new or in place of those with the same ids; each id once."""

    points: PointBatch

    def content(self) -> list[bytes]:
        """What makes two of these the same."""
        return [b"upsert", *self.points.hashes()]


@dataclass(frozen=True)
class Delete:
    """Points that are to be gone; ids that are not there change nothing."""

    keys: list[bytes]

    def content(self) -> list[bytes]:
        """What makes two of these the same."""
        return [b"delete", *self.keys]


@dataclass(frozen=True)
class SetPayload:
    """Payload fields by key of the point; the other fields and the vectors stay as they are."""

    payloads: Mapping[bytes, Mapping[str, Any]]

    def content(self) -> list[bytes]:
        """What makes two of these the same."""
        fields = [key + encode_payload(fields) for key, fields in self.payloads.items()]
        return [b"set-payload", *fields]


Write = Upsert | Delete | SetPayload


@dataclass(frozen=True)
class Written:
    """A write that is recorded.

    Attributes:
        generation: stream of the generation that it went to.
        position: in the ledger.
        through: version of the generation's stream; it is readable when that is applied.
        upserts: points that are new or changed by it.
        deletes: points that it deleted.
        given: points that it named.
        repeated: this is the first answer to a write that was sent again.
    """

    generation: UUID
    position: int
    through: int
    upserts: int
    deletes: int
    given: int
    repeated: bool

    @property
    def unchanged(self) -> int:
        """Points that were as it says already."""
        return self.given - self.upserts - self.deletes


class LiveCollection:
    """A collection that an application writes to.

    Args:
        tools: the ports.
        status: of the generation that serves it.
        schema: that it was created with.
    """

    def __init__(self, tools: Tools, status: GenerationStatus, schema: CollectionSchema) -> None:
        self._tools = tools
        self.status = status
        self.schema = schema
        self._bodies = BodyCache(tools.objects)

    async def write(self, write: Write, key: str, context: Context) -> Written:
        """Record a write; when this returns it is durable.

        Args:
            write: what is to become of which points.
            key: idempotency key.
            context: who, and why.

        Raises:
            NotFound: a payload is to be set of points that are not there.
            WritesHeld: a migration is at work on the collection.
            KeyReused: the key was used for another write.
            Rejected: the collection was dropped or released.
        """
        content = b"".join(
            len(part).to_bytes(4, "big") + part
            for part in (
                self.status.store.encode(),
                self.status.collection.encode(),
                *write.content(),
            )
        )
        instead_of = ""

        async def record() -> Answer:
            nonlocal instead_of
            try:
                return await self._record(write, key, context, content, instead_of)
            except BodyErased as error:
                # The same points were written before and erased. To write them again is a new
                # write, so they get a body of their own.
                instead_of = error.address
                if error.gone:
                    await self._tools.objects.delete([error.address])
                raise

        return await self._written(await unless_changed(record))

    async def _record(
        self, write: Write, key: str, context: Context, content: bytes, instead_of: str
    ) -> Answer:
        bodies: dict[str, bytes] = {}
        if isinstance(write, Delete):
            source = {"write": "delete", "given": len(write.keys)}
            draft = ChangeSetDraft.tombstones(
                self.status.generation, write.keys, source=source, live=True
            )
        elif isinstance(write, Upsert):
            draft = await self._images(write.points, "upsert", bodies, instead_of)
        else:
            points, based_on = await self._with_payloads(write.payloads, key)
            draft = await self._images(points, "set-payload", bodies, instead_of, based_on)
        small = {address: body for address, body in bodies.items() if len(body) <= SMALL_OBJECT}
        large = bodies.keys() - small.keys()
        # What was answered before is only answered again: of points that were erased since, nothing
        # may be kept that no change will name.
        if large and await self._tools.ledger.answer(key) is None:
            for address in large:
                await self._tools.objects.put(bodies[address])
        return await self._tools.ledger.record(key, context, [draft], bodies=small, content=content)

    async def _images(
        self,
        points: PointBatch,
        kind: str,
        bodies: dict[str, bytes],
        instead_of: str,
        based_on: list[bytes | None] | None = None,
    ) -> ChangeSetDraft:
        """Full images as a draft, whose body is put among `bodies`."""

        def encoded() -> tuple[bytes, str, list[bytes]]:
            body = encode_body(points, instead_of=instead_of)
            return body, address_of(body), points.hashes()

        inline = points.size() <= INLINE_BYTES
        body, address, hashes = encoded() if inline else await asyncio.to_thread(encoded)
        bodies[address] = body
        return ChangeSetDraft.images(
            self.status.generation,
            points.keys,
            hashes,
            address,
            source={"write": kind, "given": len(points)},
            based_on=based_on,
            live=True,
        )

    async def _with_payloads(
        self, payloads: Mapping[bytes, Mapping[str, Any]], key: str
    ) -> tuple[PointBatch, list[bytes | None]]:
        """Points as they are with these fields set, and the hash that each had."""
        heads = await self._tools.ledger.heads_of(self.status.generation, sorted(payloads))
        missing = payloads.keys() - set(heads.keys)
        if missing and await self._tools.ledger.answer(key) is None:
            raise NotFound(_not_there(self.status.physical, sorted(missing)))
        found = await self._points(heads)
        merged = [
            encode_payload({**decode_payload(payload), **payloads[point]})
            for point, payload in zip(found.keys, found.payloads, strict=True)
        ]
        hashes = dict(zip(heads.keys, heads.hashes, strict=True))
        return PointBatch(found.keys, merged, found.vectors), [hashes[k] for k in found.keys]

    async def _points(self, heads: Heads) -> PointBatch:
        """What the points are.

        Raises:
            ChangedMeanwhile: one was erased after its head was read.
        """
        try:
            found = await self._bodies.points(heads.bodies())
        except ObjectMissing as error:
            now = await self._tools.ledger.heads_of(self.status.generation, heads.keys)
            if now == heads:
                raise
            raise ChangedMeanwhile("points were erased meanwhile; read them again") from error
        if len(found) < len(heads):
            raise ChangedMeanwhile("points were erased meanwhile; read them again")
        return found

    async def _written(self, answer: Answer) -> Written:
        (recorded,) = await self._tools.ledger.read(answer.position - 1, 1)
        event = recorded.event
        if not isinstance(event, Generation.ChangeSetRecorded):
            raise Corrupt(f"event {recorded.position} is no write of points")
        return Written(
            generation=recorded.stream,
            position=recorded.position,
            through=recorded.version,
            upserts=event.upserts,
            deletes=event.deletes,
            given=event.source["given"],
            repeated=answer.repeated,
        )


async def open_live(tools: Tools, store: str, name: str) -> LiveCollection:
    """A collection that an application is about to write to, by its name or alias.

    Raises:
        NotFound: the ledger does not look after it.
        Conflict: it is being adopted, and the ledger does not know all of its points yet.
        Rejected: it does not keep the vectors that are written to it.
    """
    status = await ready(tools, store, await physical_name(tools, store, name))
    schema = await recorded_schema(tools.ledger, status.generation)
    refuse_lossy(schema)
    return LiveCollection(tools, status, schema)


def _not_there(physical: str, keys: Sequence[bytes]) -> str:
    named = ", ".join(str(id_of(key)) for key in keys[:NAMED])
    more = f" and {len(keys) - NAMED:,} more" if len(keys) > NAMED else ""
    return (
        f"collection {physical!r} has no point {named}{more}, so no payload can be set; nothing of "
        "this write was recorded. Upsert whole points, or leave these ids out"
    )
