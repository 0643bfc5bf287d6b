"""What each change of a generation does to its store."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from uuid import UUID

from domain.model.bodies import Manifest
from domain.model.errors import NotFound, Rejected
from domain.model.generation import Generation
from domain.model.recorded import Recorded
from domain.model.schema import CollectionSchema
from domain.ports import GenerationStatus, VectorStore
from domain.use_cases.bodies import BodyCache
from domain.use_cases.resumed_writes import ResumedWrites
from domain.use_cases.tools import Tools, given_up
from domain.use_cases.witnesses import Witnesses

POINTS_AT_ONCE = 2000
WRITES_AT_ONCE = 6
"""Batches in memory at a time, whatever the number of collections."""

WINDOW = 64
"""Events that are read and applied at a time; so many a paused applier may write late."""

POINTS_VERIFIED = 500


class Effects:
    """Applies changes; applying one again changes nothing.

    Attributes:
        witnesses: is told of every collection that changes.
    """

    def __init__(self, tools: Tools, bodies: BodyCache) -> None:
        self._tools = tools
        self._bodies = bodies
        self._writing = asyncio.Semaphore(WRITES_AT_ONCE)
        self.witnesses = Witnesses(tools.ledger, tools.stores)

    def batches(self, events: Sequence[Recorded]) -> Iterator[list[Recorded]]:
        """Runs of events that one effect covers: small change sets together, others alone."""
        run: list[Recorded] = []
        points = 0
        for recorded in events:
            size = _points(recorded)
            if run and (size == 0 or points == 0 or points + size > POINTS_AT_ONCE):
                yield run
                run, points = [], 0
            run.append(recorded)
            points += size
        if run:
            yield run

    async def apply(
        self, store_name: str, physical: str, batch: Sequence[Recorded], done: int = 0
    ) -> int:
        """Let the store have these changes; returns how many points were written or deleted.

        Args:
            store_name: the store.
            physical: the collection.
            batch: changes that one effect covers.
            done: as an earlier try of the same batch said when the store throttled it.

        Raises:
            Rejected: the store refuses a change.
            Corrupt: an object is missing or altered.
            Throttled: the store takes no more for now.
        """
        store = self._tools.stores.store(store_name)
        event = batch[0].event
        if isinstance(event, Generation.Dropped | Generation.Released):
            self.witnesses.gone(batch[0].stream)
        else:
            self.witnesses.changed(store_name, physical, batch[-1])
        if isinstance(event, Generation.ChangeSetRecorded):
            if event.captured:
                return 0
            async with self._writing:
                return await self._write(ResumedWrites(store, done), physical, batch)
        if isinstance(event, Generation.Created | Generation.SchemaRestored):
            await _create(store, physical, event)
        elif isinstance(event, Generation.AliasPointed):
            await store.point_alias(event.alias, physical)
        elif isinstance(event, Generation.AliasRemoved):
            await _remove_alias(store, physical, event)
        elif isinstance(event, Generation.Dropped):
            if not await given_up(self._tools.ledger, batch[0].stream):
                await store.drop(physical)
        elif isinstance(event, Generation.Released):
            with suppress(NotFound):
                await store.write_witness(physical, None)
        return 0

    async def needless(self, status: GenerationStatus, batch: Sequence[Recorded]) -> bool:
        """Whether points are to be written to a collection that is dropped afterwards.

        On a full disk they could not be, and the drop that makes room would wait for them.
        """
        if not status.gone or not isinstance(batch[0].event, Generation.ChangeSetRecorded):
            return False
        (last,) = await self._tools.ledger.events(
            status.generation, after=status.recorded - 1, through=status.recorded
        )
        return isinstance(last.event, Generation.Dropped)

    async def _write(self, store: ResumedWrites, physical: str, batch: Sequence[Recorded]) -> int:
        manifests = await self._manifests(batch)
        last: dict[bytes, tuple[Manifest, int]] = {}
        for manifest in manifests:
            for row, key in enumerate(manifest.keys):
                last[key] = manifest, row
        deleted = {key for key, (manifest, row) in last.items() if manifest.hashes[row] is None}
        bodies: dict[str, list[int]] = defaultdict(list)
        for manifest, row in last.values():
            if manifest.hashes[row] is not None:
                bodies[manifest.objects[manifest.object_index[row]]].append(manifest.rows[row])
        if bodies:
            points = await self._bodies.points(bodies)
            await store.upsert(physical, points)
            erased = last.keys() - deleted - set(points.keys)
            deleted |= erased
        if deleted:
            await store.delete(physical, sorted(deleted))
        return len(last)

    async def _manifests(self, batch: Sequence[Recorded]) -> list[Manifest]:
        addresses = [
            recorded.event.manifest
            for recorded in batch
            if isinstance(recorded.event, Generation.ChangeSetRecorded)
        ]
        found = await self._tools.ledger.manifests(addresses)
        return [found[address] for address in addresses]

    async def verify_last_window(
        self, generation: UUID, applied: int, at: int | None = None
    ) -> None:
        """After a takeover: points that the former applier may have written late are put right.

        The store cannot fence a paused applier, so the ids of the last changes before the applied
        position are read back and compared with the heads.

        Args:
            generation: its stream.
            applied: the applied position.
            at: the applied position of the takeover, if that is a while ago. The changes behind it
                are verified too: the former applier may have been at them.
        """
        at = applied if at is None else at
        events = await self._tools.ledger.events(
            generation, after=max(0, at - WINDOW), through=min(at + WINDOW, applied)
        )
        status = await self._tools.applications.status(generation)
        if status is None or status.gone:
            return
        for recorded in events:
            event = recorded.event
            if isinstance(event, Generation.ChangeSetRecorded) and not event.captured:
                (manifest,) = await self._manifests([recorded])
                for start in range(0, len(manifest), POINTS_VERIFIED):
                    keys = sorted(manifest.keys[start : start + POINTS_VERIFIED])
                    await self._put_right(status, keys, applied)

    async def _put_right(
        self, status: GenerationStatus, keys: Sequence[bytes], applied: int
    ) -> None:
        """Compare some points of a store with their heads, and write those that differ again."""
        heads = await self._tools.ledger.heads_of(status.generation, keys)
        store = self._tools.stores.store(status.store)
        stored = await store.retrieve(status.physical, keys)
        there = dict(zip(stored.keys, stored.hashes(), strict=True))
        deleted = there.keys() - set(heads.keys)
        if deleted:
            await store.delete(status.physical, sorted(deleted))
        wrong: dict[str, list[int]] = defaultdict(list)
        for index, key in enumerate(heads.keys):
            if heads.versions[index] <= applied and there.get(key) != heads.hashes[index]:
                wrong[heads.objects[index]].append(heads.rows[index])
        if wrong:
            await store.upsert(status.physical, await self._bodies.points(wrong))


def _points(recorded: Recorded) -> int:
    """Points that a change writes; 0 for changes that are applied alone."""
    event = recorded.event
    if isinstance(event, Generation.ChangeSetRecorded) and not event.captured:
        return event.upserts + event.deletes
    return 0


async def _create(
    store: VectorStore, physical: str, event: Generation.Created | Generation.SchemaRestored
) -> None:
    schema = CollectionSchema.from_json(event.schema)
    if isinstance(event, Generation.SchemaRestored):
        await store.create(physical, schema)
        return
    description = await store.describe(physical)
    if event.origin == "created":
        if description is not None and description.points:
            raise Rejected(
                f"collection {physical!r} exists already and holds {description.points} points, "
                "which are not ours"
            )
        await store.create(physical, schema)
        return
    if description is None:
        raise NotFound(f"collection {physical!r} was there when it was recorded, and is gone")
    differences = description.schema.differences(schema)
    if differences:
        raise Rejected(f"collection {physical!r} has another shape: {'; '.join(differences)}")
    if event.origin == "existing":
        await store.create(physical, schema)  # adds the indexes that it lacks


async def _remove_alias(store: VectorStore, physical: str, event: Generation.AliasRemoved) -> None:
    """Put an alias back, unless somebody has pointed it elsewhere since."""
    if (await store.aliases()).get(event.alias) != physical:
        return
    if event.restore is None:
        await store.remove_alias(event.alias)
    else:
        await store.point_alias(event.alias, event.restore)
