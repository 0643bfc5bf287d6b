"""Live writers: an application that goes on writing while everything around it fails.

Each writer sends one write after the other, again and again with the same key until it is
acknowledged, and keeps a journal of what it asked for and what was acknowledged. What a write holds
follows from its number, so that the harness knows it too.

Run as ``python -m tests.faults.writer JOURNAL SEED``, with the settings of the product.
"""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from uuid import UUID

import numpy as np

from adapters.bootstrap import Service, open_service
from adapters.logs import log_to
from adapters.settings import load_settings
from domain.model.aggregate import Actor, Context
from domain.model.bodies import encode_body
from domain.model.errors import Unavailable, VersionConflict
from domain.model.flow import Flow
from domain.model.generation import Generation
from domain.model.points import PointBatch, encode_dense, encode_payload, key_of
from domain.model.recorded import ChangeSetDraft
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.use_cases.tools import save

COLLECTIONS = 3
WRITERS = 2
HOT_IDS = 24
"""So many ids are written to again and again; then they are left alone, as they are."""

WRITES_AN_ID = 3
CONTEST_EVERY = 10
DIMENSION = 8
PAUSE_SECONDS = 0.02
RETRY_SECONDS = 0.1

logger = logging.getLogger("live_writer")

SCHEMA = CollectionSchema({"": VectorSpec(VectorKind.DENSE, DIMENSION, Distance.COSINE)})
CONTEXT = Context(Actor("live writer", "service"))


@dataclass(frozen=True)
class Change:
    """What a write does to one point.

    Attributes:
        id: of the point.
        payload: canonical JSON; None deletes the point.
        vector: float32.
    """

    id: int | str
    payload: bytes | None
    vector: bytes | None


def physical(collection: int) -> str:
    """The name of a managed collection in the store."""
    return f"live_{collection}"


def generation(collection: int) -> UUID:
    """The stream of a managed collection."""
    return Generation.create_id("default", physical(collection), 1)


def key(seed: int, writer: int, number: int) -> str:
    """The idempotency key of a write."""
    return f"live/{seed}/{writer}/{number}"


def write(seed: int, writer: int, number: int) -> dict[int, list[Change]]:
    """What a write changes, by collection: one or two, of few ids that move on slowly.

    The first change of a collection is an upsert unlike any other, so each makes an event.
    """
    random = Random(f"{seed}/{writer}/{number}")
    collections = random.sample(range(COLLECTIONS), random.choice((1, 1, 2)))
    return {
        collection: list(_changes(random, writer, number)) for collection in sorted(collections)
    }


def _changes(random: Random, writer: int, number: int) -> Iterator[Change]:
    first = 1 + number // WRITES_AN_ID
    names = random.sample(range(first, first + HOT_IDS), random.randint(2, 12))
    for place, name in enumerate(names):
        point = name if name % 3 else str(UUID(int=name))
        if place and random.random() < 0.35:
            yield Change(point, None, None)
            continue
        vector = np.array([random.gauss(0, 1) for _ in range(DIMENSION)])
        payload = encode_payload({"writer": writer, "write": number, "place": place})
        yield Change(point, payload, encode_dense(vector / np.linalg.norm(vector)))


async def drafts(service: Service, changes: dict[int, list[Change]]) -> list[ChangeSetDraft]:
    """Store the bodies, and draft the change sets that refer to them."""
    made = []
    for collection, points in changes.items():
        upserts = [change for change in points if change.payload is not None]
        deletes = [change for change in points if change.payload is None]
        batch = PointBatch(
            keys=[key_of(change.id) for change in upserts],
            payloads=[change.payload or b"" for change in upserts],
            vectors={"": [change.vector for change in upserts]},
        )
        nothing = [0] * len(deletes)
        made.append(
            ChangeSetDraft(
                generation=generation(collection),
                keys=[*batch.keys, *(key_of(change.id) for change in deletes)],
                hashes=[*batch.hashes(), *(None for _ in deletes)],
                objects=[await service.objects.put(encode_body(batch))],
                object_index=[0] * len(points),
                rows=[*range(len(upserts)), *nothing],
            )
        )
    return made


class Journal:
    """What was asked for and what was acknowledged, a line each."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._path = path

    def note(self, what: str, writer: int, number: int, position: int = 0, count: int = 0) -> None:
        """Add a line; it is with the kernel when this returns, so a killed writer has it."""
        self._file.write(json.dumps([what, writer, number, position, count]) + "\n")
        self._file.flush()

    def first_open(self, writer: int) -> int:
        """The number of the write to go on with: the first that was not acknowledged."""
        lines = self._path.read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines]
        return 1 + max(
            (n for what, w, n, *_ in found if what == "acked" and w == writer), default=0
        )


async def work(service: Service, journal: Journal, seed: int, stop: asyncio.Event) -> None:
    """Make the collections, then write to them until told to stop."""
    for collection in range(COLLECTIONS):
        made = Generation(
            collection=physical(collection),
            store="default",
            physical=physical(collection),
            number=1,
            schema=SCHEMA.to_json(),
            origin="created",
        )
        await save(service.ledger, made, f"live/{physical(collection)}", CONTEXT)
    async with asyncio.TaskGroup() as group:
        for writer in range(WRITERS):
            group.create_task(_write_on(service, journal, seed, writer, stop))


async def _write_on(
    service: Service, journal: Journal, seed: int, writer: int, stop: asyncio.Event
) -> None:
    number = journal.first_open(writer)
    while not stop.is_set():
        if number % CONTEST_EVERY == 0:
            await _contend(service, journal, seed, writer, number)
        journal.note("asked", writer, number)
        answer = await service.ledger.record(
            key(seed, writer, number), CONTEXT, await drafts(service, write(seed, writer, number))
        )
        journal.note("acked", writer, number, answer.position, answer.count)
        number += 1
        await asyncio.sleep(PAUSE_SECONDS)


async def _contend(service: Service, journal: Journal, seed: int, writer: int, number: int) -> None:
    """Begin a stream that the other writer begins too: one of them wins."""
    contested = Flow(
        migration=f"contest {seed}",
        step=str(number),
        kind="route",
        source=str(generation(0)),
        through=writer,
        batch=1,
        field="",
        routes={},
    )
    try:
        answer = await save(service.ledger, contested, f"contest/{seed}/{writer}/{number}", CONTEXT)
    except VersionConflict:
        journal.note("lost", writer, number)
    else:
        journal.note("won", writer, number, answer.position, answer.count)


async def main(journal: Path, seed: int) -> None:
    """Write until SIGTERM; a server that is away is waited for."""
    log_to(None, logging.INFO)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = load_settings()
    notes = Journal(journal)
    while not stop.is_set():
        try:
            async with open_service(settings) as service:
                await work(service, notes, seed, stop)
        except* Unavailable as failed:
            logger.warning("writer_waits", extra={"error": str(failed.exceptions[0])})
            await asyncio.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
