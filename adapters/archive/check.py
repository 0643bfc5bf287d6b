"""Whether an archive is what was written, and complete; nothing but its files is needed."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

import orjson

from adapters.archive.addresses import Addresses
from adapters.archive.errors import PROBLEMS_NAMED, Damaged
from adapters.archive.export import WITH_MANIFEST
from adapters.archive.folder import ArchiveFolder
from adapters.archive.manifest import ANSWERS, EVENTS, OBJECTS, Manifest
from adapters.objects.store import StoredObjects
from adapters.postgres.chain import Altered, next_cursor
from adapters.postgres.copying import StoredAnswer
from domain.model.bodies import address_of, bodies_of
from domain.model.erasure import Erasure, present
from domain.model.errors import Corrupt
from domain.model.recorded import Cursor
from domain.model.retention import Sweep


async def check(folder: ArchiveFolder) -> Manifest:
    """Read an archive from its beginning to its end; returns what it holds.

    Raises:
        NotFound: there is no archive.
        Damaged: something is wrong; the first problems are named.
    """
    async with checked(folder) as (manifest, _):
        return manifest


@asynccontextmanager
async def checked(folder: ArchiveFolder) -> AsyncIterator[tuple[Manifest, Iterable[str]]]:
    """Read an archive from its beginning to its end; gives what it holds, and large objects.

    Its files must have the bytes that were written, the events the hashes that follow from them,
    and every object that they need must be there, under the hash of its content. The large ones are
    given that are needed. Memory stays at a page of each.

    Raises:
        NotFound: there is no archive.
        Damaged: something is wrong; the first problems are named.
    """
    manifest = folder.written()
    _refuse(await asyncio.to_thread(_first, _files(folder, manifest)))
    with Addresses() as needed, Addresses() as small, Addresses() as large, Addresses() as gone:
        rewritten: dict[str, str] = {}
        contents = _contents(folder, manifest, needed, small, gone, rewritten)
        _refuse(await asyncio.to_thread(_first, contents))
        lacking = {one.address for one in manifest.lacking}
        problems: list[str] = []
        storage = StoredObjects(folder.large_url)
        for named in needed:
            address = present(rewritten, named)
            if address in small or address in lacking:
                continue
            try:
                await storage.get(address)
                large.add([address])
            except Corrupt as error:
                if address in gone:  # one that is there in part is of an export that was cut off
                    continue
                problems.append(str(error))
                if len(problems) == PROBLEMS_NAMED:
                    break
        _refuse(problems)
        yield manifest, large


def event_rows(folder: ArchiveFolder, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """All events in order, with the types that the database gives them."""
    for part in manifest.of(EVENTS):
        for line in folder.lines(part):
            yield {
                **line,
                "stream": UUID(line["stream"]),
                "recorded_at": datetime.fromisoformat(line["recorded_at"]),
                "hash": bytes.fromhex(line["hash"]),
                "state": line["state"].encode(),
                "context": line["context"].encode(),
            }


def answer_rows(folder: ArchiveFolder, manifest: Manifest) -> Iterator[StoredAnswer]:
    """All answers."""
    for part in manifest.of(ANSWERS):
        for line in folder.lines(part):
            yield StoredAnswer(**{**line, "request_hash": bytes.fromhex(line["request_hash"])})


def _first(problems: Iterator[str]) -> list[str]:
    return list(islice(problems, PROBLEMS_NAMED))


def _refuse(problems: list[str]) -> None:
    if problems:
        raise Damaged(tuple(problems))


def _files(folder: ArchiveFolder, manifest: Manifest) -> Iterator[str]:
    for part in manifest.parts:
        if problem := folder.problem_with(part, read=True):
            yield problem


def _contents(
    folder: ArchiveFolder,
    manifest: Manifest,
    needed: Addresses,
    small: Addresses,
    gone: Addresses,
    rewritten: dict[str, str],
) -> Iterator[str]:
    """Walk events, answers and small objects; note which objects are needed, there, given up.

    Of a body that was rewritten the one in its place is needed.
    """
    at = Cursor()
    try:
        for row in event_rows(folder, manifest):
            at = next_cursor(at, row)
            if row["topic"] in WITH_MANIFEST:
                needed.add([orjson.loads(row["state"])["manifest"]])
            elif row["topic"] == Sweep.Created.TOPIC:
                gone.add(orjson.loads(row["state"])["bodies"])
            elif row["topic"] == Erasure.ObjectsRewritten.TOPIC:
                rewritten |= orjson.loads(row["state"])["objects"]
    except Altered as error:
        yield f"its events: {error}"
        return
    if at != manifest.head:
        yield f"its events end with {at.position}, and it says {manifest.head.position}"
    for answer in answer_rows(folder, manifest):
        if answer.position + answer.count - 1 > at.position:
            yield f"key {answer.key!r} was answered with an event that is not in the archive"
    yield from _small(folder, manifest, needed, small)


def _small(
    folder: ArchiveFolder, manifest: Manifest, needed: Addresses, small: Addresses
) -> Iterator[str]:
    for part in manifest.of(OBJECTS):
        for objects in folder.objects(part):
            small.add(address for address, _, _ in objects)
            for address, is_manifest, content in objects:
                if address_of(content) != address:
                    yield f"object {address} in {part.path} has other content than its address says"
                elif is_manifest:
                    needed.add(bodies_of(content))
