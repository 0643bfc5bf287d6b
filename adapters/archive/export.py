"""Write a ledger to an archive, or what came since the last time."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from adapters.archive.addresses import Addresses
from adapters.archive.errors import PROBLEMS_NAMED, Damaged
from adapters.archive.folder import LARGE_AT_ONCE, OBJECTS_AT_ONCE, ArchiveFolder, Pack
from adapters.archive.manifest import ANSWERS, EVENTS, OBJECTS, Lacking, Manifest, Part
from adapters.archive.pages import in_pages
from adapters.objects.store import StoredObjects
from adapters.postgres.chain import Altered, next_cursor
from adapters.postgres.connection import Database
from adapters.postgres.copying import (
    StoredAnswer,
    has,
    present_bodies,
    rewritten_bodies,
    rewritten_since,
    stored_answers,
    stored_events,
    stored_objects,
)
from adapters.postgres.garbage import deleted_bodies, swept
from adapters.postgres.reading import head as read_head
from adapters.postgres.timelines import standing
from domain.model.bodies import address_of, bodies_of
from domain.model.erasure import Erasure
from domain.model.errors import Conflict, Corrupt, ObjectMissing, Rejected
from domain.model.generation import Generation
from domain.model.recorded import Cursor
from domain.use_cases.concurrently import concurrently

MOST_LACKING = 1000
"""Objects that may be missing before this is taken for a wrong storage."""

WITH_MANIFEST = frozenset(
    kind.TOPIC
    for kind in (Generation.ChangeSetRecorded, Generation.RepairRecorded, Generation.BodiesPacked)
)
"""Kinds of events that name a manifest."""

Told = Callable[[Cursor, int], None]
"""Is told how far an export has come, and up to which position it goes."""


async def export(
    database: Database, objects: StoredObjects, folder: ArchiveFolder, told: Told
) -> Manifest:
    """Write everything of a ledger that cannot be derived, as far as the archive lacks it.

    The hash of each event is recomputed on the way. What is written counts once all of it is there,
    so an export that is killed leaves the archive as it was, and the next one goes on from there.
    Memory stays at a page of events and of objects.

    Args:
        database: of the ledger.
        objects: storage of large objects.
        folder: of the archive.
        told: see `Told`.

    Raises:
        Rejected: the archive is of another ledger, or of another history of this one.
        Conflict: another export writes to the folder, or an erasure rewrote objects meanwhile.
        Altered: an event is not what was recorded.
        Damaged: files of the archive are missing, or have another size.
    """
    with folder.writing():
        before = folder.manifest()
        ledger = (await standing(database)).ledger
        await _refuse_other(database, ledger, before, folder)
        _refuse_damaged(before, folder)
        with Addresses() as seen, Addresses() as gone, Addresses() as erased:
            for part in before.of(OBJECTS) if before else ():
                for addresses in folder.addresses(part):
                    seen.add(addresses)
            work = _Export(database, objects, folder, seen, gone, erased)
            manifest = await work.run(ledger, before, told)
            folder.finish(manifest, before, without=work.replaced)
            await asyncio.to_thread(folder.forget_large, erased)
        return manifest


async def _refuse_other(
    database: Database, ledger: str, before: Manifest | None, folder: ArchiveFolder
) -> None:
    if before is None:
        return
    if before.ledger != ledger:
        raise Rejected(
            f"{folder.path} is the archive of ledger {before.ledger}, and this is ledger {ledger}; "
            "choose another folder"
        )
    if not await has(database, before.head):
        raise Rejected(
            f"{folder.path} ends with event {before.head.position}, and this ledger has not got "
            "that event: it was set back to an older backup since. Keep that archive, and export "
            "to another folder"
        )


def _refuse_damaged(before: Manifest | None, folder: ArchiveFolder) -> None:
    """What is there already is not written again, so it must be there."""
    found = (folder.problem_with(part, read=False) for part in (before.parts if before else ()))
    problems = [problem for problem in found if problem is not None]
    if problems:
        raise Damaged((*problems[:PROBLEMS_NAMED], "export to another folder"))


class _Export:
    """One export.

    Args:
        database: of the ledger.
        objects: storage of large objects.
        folder: of the archive.
        seen: objects that are in the archive; grows.
        gone: bodies that the ledger has given up. They are taken along if they are there; filled.
        erased: addresses of bodies that erasures have rewritten or retention has deleted; filled.

    Attributes:
        replaced: paths of packs that had objects that were erased.
    """

    def __init__(
        self,
        database: Database,
        objects: StoredObjects,
        folder: ArchiveFolder,
        seen: Addresses,
        gone: Addresses,
        erased: Addresses,
    ) -> None:
        self._database = database
        self._objects = objects
        self._folder = folder
        self._seen = seen
        self._gone = gone
        self._erased = erased
        self.replaced: set[str] = set()
        self._large = StoredObjects(folder.large_url)
        self._parts: list[Part] = []
        self._lacking: list[Lacking] = []

    async def run(self, ledger: str, before: Manifest | None, told: Told) -> Manifest:
        """Write the parts that are missing; returns what there is then."""
        now = datetime.now(UTC)
        at = before.head if before else Cursor()
        recorded_at = before.recorded_at if before else ""
        # First of all, so that they rest on no event that comes after the head.
        await self._answers(f"none-{now:%Y%m%dT%H%M%S%fZ}", -1, 0)
        head = await read_head(self._database)
        await self._look_for_what_went(head)
        if head.position > at.position:
            await self._answers(_name(at.position + 1, head.position), at.position, head.position)
        if before is not None and before.lacking:
            await self._look_again(f"again-{now:%Y%m%dT%H%M%S%fZ}", before.lacking)
        async for rows in stored_events(self._database, at.position, head.position):
            at = await self._events(at, rows)
            recorded_at = rows[-1]["recorded_at"].isoformat()
            told(at, head.position)
        if at != head:
            raise Altered(f"the ledger's tip disagrees with event {head.position}", head.position)
        await self._refuse_rewritten_since(head)
        large, large_size = await asyncio.to_thread(self._folder.large_objects, self._erased)
        old = [part for part in before.parts if "/none-" not in part.path] if before else []
        kept = await asyncio.to_thread(self._without_erased, old, f"{now:%Y%m%dT%H%M%S%fZ}")
        return Manifest(
            ledger=ledger,
            head=at,
            recorded_at=recorded_at,
            exported_at=now.isoformat(),
            parts=(*kept, *self._parts),
            large=large,
            large_size=large_size,
            lacking=tuple(self._lacking),
        )

    async def _look_for_what_went(self, head: Cursor) -> None:
        """Note which bodies are not there any more; the head is read.

        What comes back later does so by an event that is not in this archive. What was given up
        later stays in it, as no event of its says where that went.
        """
        async for addresses in swept(self._database, head.position):
            self._gone.add(addresses)
        async for addresses in rewritten_bodies(self._database):
            self._erased.add(addresses)
        async for addresses in deleted_bodies(self._database):
            self._erased.add(address for address in addresses if address in self._gone)

    async def _refuse_rewritten_since(self, head: Cursor) -> None:
        if await rewritten_since(self._database, head.position):
            raise Conflict("an erasure rewrote objects while this was written; export again")

    def _without_erased(self, parts: Sequence[Part], time: str) -> list[Part]:
        """The parts that there were; packs with objects that were erased are written anew."""
        kept: list[Part] = []
        for part in parts:
            if part.kind != OBJECTS or not self._has_erased(part):
                kept.append(part)
                continue
            self.replaced.add(part.path)
            with self._folder.pack(
                f"{Path(part.path).stem.split('-without-')[0]}-without-{time}"
            ) as pack:
                for some in self._folder.objects(part):
                    for manifests in (True, False):
                        pack.add(
                            {
                                address: content
                                for address, is_manifest, content in some
                                if is_manifest is manifests and address not in self._erased
                            },
                            manifests=manifests,
                        )
            if pack.part is not None:
                kept.append(pack.part)
        return kept

    def _has_erased(self, part: Part) -> bool:
        return any(
            address in self._erased for some in self._folder.addresses(part) for address in some
        )

    async def _answers(self, name: str, after: int, through: int) -> None:
        with self._folder.rows(ANSWERS, name) as file:
            async for answers in stored_answers(self._database, after, through):
                await asyncio.to_thread(file.add, map(_answer, answers))
        self._parts.append(file.part)

    async def _events(self, at: Cursor, rows: Sequence[Mapping[str, Any]]) -> Cursor:
        """Write a page of events and the objects that they need; returns where they end."""
        name = _name(rows[0]["position"], rows[-1]["position"])
        with self._folder.rows(EVENTS, name) as file:
            at = await asyncio.to_thread(_checked, at, rows)
            await asyncio.to_thread(file.add, map(_event, rows))
        self._parts.append(file.part)
        with self._folder.pack(name) as pack:
            named = (
                orjson.loads(r["state"])["manifest"] for r in rows if r["topic"] in WITH_MANIFEST
            )
            await self._manifests(named, pack)
            rewritten = (
                new
                for r in rows
                if r["topic"] == Erasure.ObjectsRewritten.TOPIC
                for new in orjson.loads(r["state"])["objects"].values()
            )
            await self._bodies(rewritten, pack)
        if pack.part is not None:
            self._parts.append(pack.part)
        return at

    async def _look_again(self, name: str, lacking: Iterable[Lacking]) -> None:
        """Write objects that could not be read before."""
        with self._folder.pack(name) as pack:
            await self._manifests((one.address for one in lacking if one.manifest), pack)
            await self._bodies((one.address for one in lacking if not one.manifest), pack)
        if pack.part is not None:
            self._parts.append(pack.part)

    async def _manifests(self, addresses: Iterable[str], pack: Pack) -> None:
        for some in in_pages(self._seen.new(addresses), OBJECTS_AT_ONCE):
            found, absent = await self._small(some, manifest=True)
            self._lack(absent, "it is missing from the database", manifest=True)
            await asyncio.to_thread(pack.add, found, manifests=True)
            await self._bodies((one for each in found.values() for one in bodies_of(each)), pack)

    async def _bodies(self, addresses: Iterable[str], pack: Pack) -> None:
        for named in in_pages(self._seen.new(addresses), OBJECTS_AT_ONCE):
            moved = await present_bodies(self._database, named)
            some = [one for one in named if one not in moved] + self._seen.new(moved.values())
            found, absent = await self._small(some, manifest=False)
            await asyncio.to_thread(pack.add, found, manifests=False)
            others = [address for address in absent if not self._folder.has_large(address)]
            await concurrently(map(self._copy, others), LARGE_AT_ONCE)

    async def _small(
        self, addresses: Sequence[str], *, manifest: bool
    ) -> tuple[dict[str, bytes], list[str]]:
        """Those of these objects that are rows, and those that are not."""
        found = await stored_objects(self._database, addresses)
        absent = [address for address in addresses if address not in found]
        altered = [one for one, content in found.items() if address_of(content) != one]
        self._lack(altered, "it is not what it was when it was recorded", manifest=manifest)
        return {one: content for one, content in found.items() if one not in altered}, absent

    async def _copy(self, address: str) -> None:
        try:
            await self._large.put(await self._objects.get(address))
        except Corrupt as error:
            if not (isinstance(error, ObjectMissing) and address in self._gone):
                self._lack([address], str(error), manifest=False)

    def _lack(self, addresses: Iterable[str], why: str, *, manifest: bool) -> None:
        self._lacking += [Lacking(address, manifest, why) for address in addresses]
        if len(self._lacking) > MOST_LACKING:
            raise Corrupt(
                f"more than {MOST_LACKING:,} objects cannot be read, such as "
                f"{self._lacking[0].address}; is {self._objects.url} the storage of this ledger?"
            )


def _checked(at: Cursor, rows: Iterable[Mapping[str, Any]]) -> Cursor:
    for row in rows:
        at = next_cursor(at, row)
    return at


def _event(row: Mapping[str, Any]) -> dict[str, Any]:
    """An event as a line; the hash covers the bytes of `state` and `context` as they are here."""
    return {
        "position": row["position"],
        "stream": str(row["stream"]),
        "version": row["version"],
        "topic": row["topic"],
        "recorded_at": row["recorded_at"].isoformat(),
        "hash": row["hash"].hex(),
        "state": row["state"].decode(),
        "context": row["context"].decode(),
    }


def _answer(answer: StoredAnswer) -> dict[str, Any]:
    return {**vars(answer), "request_hash": answer.request_hash.hex()}


def _name(first: int, last: int) -> str:
    return f"{first:012}-{last:012}"
