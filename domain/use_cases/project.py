"""Keep read models up to date: the projector."""

import asyncio
import logging
from collections.abc import Sequence
from copy import deepcopy
from typing import Protocol

from domain.model.errors import Conflict, LedgerError
from domain.model.recorded import Cursor, Recorded
from domain.model.timeline import Witness
from domain.ports import Build, Document, Leaders, Ledger, Views
from domain.use_cases.concurrently import concurrently, side_by_side
from domain.use_cases.histories import refuse_other_history

logger = logging.getLogger("migration_ledger.projector")

BATCH = 2000
Documents = dict[str, Document | None]


class Projection(Protocol):
    """A read model: documents by key, each changed by the events that concern it."""

    name: str
    shape: int
    """Grows when the documents look different; a projector then builds them anew."""

    def key(self, recorded: Recorded) -> str | None:
        """The document that an event concerns, or None."""

    def apply(self, document: Document | None, recorded: Recorded) -> Document | None:
        """The document after the event; None deletes it."""


async def project(
    ledger: Ledger,
    views: Views,
    leaders: Leaders,
    projections: Sequence[Projection],
    holder: str,
    stop: asyncio.Event,
) -> None:
    """Apply events to all read models until told to stop, as the only projector.

    Raises:
        Halted: a build has seen another history than the ledger's.
    """
    while not stop.is_set():
        try:
            async with leaders.lead("projector", holder):
                await _project_all(ledger, views, projections, stop)
        except Conflict as error:
            logger.warning("leadership_lost", extra={"holder": holder, "error": str(error)})


async def _project_all(
    ledger: Ledger, views: Views, projections: Sequence[Projection], stop: asyncio.Event
) -> None:
    builds = {p.name: await views.open(p.name, p.shape) for p in projections}
    await refuse_other_history(ledger, map(witness_of, builds.values()))
    pause = 0.2
    while not stop.is_set():
        try:
            if not await _advance_all(ledger, views, projections, builds):
                behind = min(build.cursor.position for build in builds.values())
                await ledger.wait(behind, 0.5)
            pause = 0.2
        except Conflict:
            builds = {p.name: await views.open(p.name, p.shape) for p in projections}
        except LedgerError as error:
            logger.warning("projector_waits", extra={"error": str(error)})
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)


def witness_of(build: Build) -> Witness:
    """How far the ledger had come when a build was last moved on."""
    return Witness.of(f"build {build.number} of read model {build.name}", build.cursor)


async def _advance_all(
    ledger: Ledger, views: Views, projections: Sequence[Projection], builds: dict[str, Build]
) -> bool:
    """Apply the next batch to every build; whether there was one.

    Builds that are equally far share what is read; another one beside them holds none of them up.
    """
    moved = False
    for cursor in {build.cursor for build in builds.values()}:
        events = await ledger.read(cursor.position, BATCH)
        moved = moved or bool(events)
        for projection in projections:
            build = builds[projection.name]
            if build.cursor == cursor:
                builds[projection.name] = await _apply(views, projection, build, events)
    return moved


async def advance(ledger: Ledger, views: Views, projection: Projection, build: Build) -> Build:
    """Apply the next batch; a build that has caught up becomes the live one."""
    events = await ledger.read(build.cursor.position, BATCH)
    return await _apply(views, projection, build, events)


async def _apply(
    views: Views, projection: Projection, build: Build, events: Sequence[Recorded]
) -> Build:
    if events:
        keyed = _keyed(projection, events)
        documents: Documents = dict(await views.load(build, sorted({key for key, _ in keyed})))
        _change(projection, documents, keyed)
        build = await views.store(build, documents, _end(events))
    if len(events) < BATCH and not build.live:
        build = await views.publish(build)
    return build


async def rebuild(ledger: Ledger, views: Views, *projections: Projection) -> list[Build]:
    """Build read models anew beside the live ones, and swap each when it has caught up.

    The ledger is read once for all of them. While a batch is stored the next one is applied, and
    the one after that is read.
    """
    models = [_NewModel(views, p, await views.rebuild(p.name, p.shape)) for p in projections]

    async def store(events: Sequence[Recorded]) -> None:
        await concurrently(model.store(_end(events)) for model in models if events)

    async def apply(events: Sequence[Recorded]) -> None:
        for model in models:
            await model.apply(events)

    async def work(stored: Sequence[Recorded], applied: Sequence[Recorded]) -> None:
        await side_by_side(store(stored), apply(applied))

    applied: Sequence[Recorded] = []
    events = await ledger.read(0, BATCH)
    while events:
        reading = ledger.read(events[-1].position, BATCH)
        following, _ = await side_by_side(reading, work(applied, events))
        for model in models:
            model.turn()
        applied, events = events, following
    await store(applied)
    return [await views.publish(model.build) for model in models]


class _NewModel:
    """A read model that is built from nothing.

    Attributes:
        build: as it was last stored.
    """

    def __init__(self, views: Views, projection: Projection, build: Build) -> None:
        self._views = views
        self._projection = projection
        self._storing: Documents = {}
        self._applied: Documents = {}
        self._last_key = ""
        self.build = build

    async def apply(self, events: Sequence[Recorded]) -> None:
        """Find out what documents are after events, while those before are being stored."""
        keyed = _keyed(self._projection, events)
        keys = {key for key, _ in keyed}
        # What is being stored stays as it is: a crash must leave what the cursor says.
        documents = {key: deepcopy(self._storing[key]) for key in keys & self._storing.keys()}
        # No document has a key beyond the last one, so that new ones need not be looked for.
        known = sorted(key for key in keys - documents.keys() if key <= self._last_key)
        if known:
            documents |= await self._views.load(self.build, known)
        _change(self._projection, documents, keyed)
        self._applied = documents
        self._last_key = max([self._last_key, *keys])

    def turn(self) -> None:
        """What was applied is to be stored now."""
        self._storing, self._applied = self._applied, {}

    async def store(self, cursor: Cursor) -> None:
        """Store what is to be stored."""
        self.build = await self._views.store(self.build, self._storing, cursor)


def _keyed(projection: Projection, events: Sequence[Recorded]) -> list[tuple[str, Recorded]]:
    """Events that concern a read model, with the document of each."""
    key_of = projection.key
    return [(key, event) for event in events if (key := key_of(event)) is not None]


def _change(
    projection: Projection, documents: Documents, keyed: Sequence[tuple[str, Recorded]]
) -> None:
    """Apply events to documents."""
    for key, recorded in keyed:
        documents[key] = projection.apply(documents.get(key), recorded)


def _end(events: Sequence[Recorded]) -> Cursor:
    return Cursor(events[-1].position, events[-1].hash)
