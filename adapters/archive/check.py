"""Whether an archive is what was written, and complete; nothing but its files is needed."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from adapters.archive.addresses import Addresses
from adapters.archive.errors import Damaged
from adapters.archive.export import CHANGE_SETS
from adapters.archive.folder import ArchiveFolder
from adapters.archive.manifest import ANSWERS, EVENTS, OBJECTS, Manifest
from adapters.objects.store import StoredObjects
from adapters.postgres.chain import Altered, next_cursor
from domain.model.bodies import address_of, bodies_of
from domain.model.errors import Corrupt
from domain.model.recorded import Cursor

PROBLEMS_NAMED = 20


async def check(folder: ArchiveFolder) -> Manifest:
    """Read an archive from its beginning to its end; returns what it holds.

    Its files must have the bytes that were written, the events the hashes that follow from them,
    and every object that they need must be there, under the hash of its content. Memory stays at a
    page of each.

    Raises:
        NotFound: there is no archive.
        Damaged: something is wrong; the first problems are named.
    """
    manifest = folder.written()
    problems = await asyncio.to_thread(_files, folder, manifest)
    if not problems:
        with Addresses() as needed, Addresses() as there:
            problems = await asyncio.to_thread(_contents, folder, manifest, needed, there)
            if not problems:
                problems = await _missing(folder, manifest, needed, there)
    if problems:
        raise Damaged(tuple(problems[:PROBLEMS_NAMED]))
    return manifest


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


def answer_rows(folder: ArchiveFolder, manifest: Manifest) -> Iterator[tuple[str, bytes, int, int]]:
    """All answers: key, hash of the request, position and number of events."""
    for part in manifest.of(ANSWERS):
        for line in folder.lines(part):
            yield (
                line["key"],
                bytes.fromhex(line["request_hash"]),
                line["position"],
                line["count"],
            )


def _files(folder: ArchiveFolder, manifest: Manifest) -> list[str]:
    found = (folder.problem_with(part) for part in manifest.parts)
    return [problem for problem in found if problem is not None]


def _contents(
    folder: ArchiveFolder, manifest: Manifest, needed: Addresses, there: Addresses
) -> list[str]:
    """Walk the events and the small objects, and note which objects they need."""
    at = Cursor()
    try:
        for row in event_rows(folder, manifest):
            at = next_cursor(at, row)
            if row["topic"] in CHANGE_SETS:
                needed.add([orjson.loads(row["state"])["manifest"]])
    except Altered as error:
        return [f"its events: {error}"]
    if at != manifest.head:
        return [f"its events end with {at.position}, and it says {manifest.head.position}"]
    for key, _, position, count in answer_rows(folder, manifest):
        if position + count - 1 > at.position:
            return [f"key {key!r} was answered with an event that is not in the archive"]
    return [problem for problem in _small(folder, manifest, needed, there) if problem]


def _small(
    folder: ArchiveFolder, manifest: Manifest, needed: Addresses, there: Addresses
) -> Iterator[str]:
    for part in manifest.of(OBJECTS):
        for objects in folder.objects(part):
            there.add(address for address, _, _ in objects)
            for address, is_manifest, content in objects:
                if address_of(content) != address:
                    yield f"object {address} in {part.path} has other content than its address says"
                elif is_manifest:
                    needed.add(bodies_of(content))


async def _missing(
    folder: ArchiveFolder, manifest: Manifest, needed: Addresses, there: Addresses
) -> list[str]:
    """Objects that are needed and neither there nor said to be lacking."""
    large, problems = StoredObjects(folder.large_url), []
    there.add(one.address for one in manifest.lacking)
    for address in needed:
        if address in there:
            continue
        try:
            await large.get(address)
        except Corrupt as error:
            problems.append(str(error))
    return problems
