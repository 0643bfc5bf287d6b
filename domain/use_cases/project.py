"""Keep read models up to date: the projector."""

import asyncio
import logging
from collections.abc import Sequence
from copy import deepcopy
from typing import Protocol

from domain.model.errors import Conflict, LedgerError
from domain.model.recorded import Cursor, Recorded
from domain.ports import Build, Document, Leaders, Ledger, Views
from domain.use_cases.concurrently import side_by_side

logger = logging.getLogger("migration_ledger.projector")

BATCH = 2000
Documents = dict[str, Document | None]
Step = tuple[Sequence[Recorded], list[Documents]]
"""Events, and what the documents of each read model are after them."""


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
        Corrupt: a build has seen another history than the ledger's.
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
    for build in builds.values():
        await ledger.verify_cursor(build.cursor)
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
    if not events:
        return build if build.live else await views.publish(build)
    documents = await _documents(views, projection, build, events, {})
    return await views.store(build, documents, _end(events))


async def rebuild(ledger: Ledger, views: Views, *projections: Projection) -> list[Build]:
    """Build read models anew beside the live ones, and swap each when it has caught up.

    The ledger is read once for all of them, and while a batch is stored the next one is applied.
    """
    builds = [await views.rebuild(p.name, p.shape) for p in projections]

    async def read_and_apply(after: int, stored: Sequence[Documents]) -> Step:
        events = await ledger.read(after, BATCH)
        return events, [
            await _documents(views, projection, build, events, written)
            for projection, build, written in zip(projections, builds, stored, strict=True)
        ]

    async def store(step: Step) -> list[Build]:
        events, documents = step
        return [
            await views.store(build, written, _end(events))
            for build, written in zip(builds, documents, strict=True)
        ]

    step = await read_and_apply(0, [{} for _ in projections])
    while step[0]:
        following = read_and_apply(step[0][-1].position, step[1])
        builds, step = await side_by_side(store(step), following)
    return [await views.publish(build) for build in builds]


async def _documents(
    views: Views,
    projection: Projection,
    build: Build,
    events: Sequence[Recorded],
    written: Documents,
) -> Documents:
    """What documents are after events; `written` are on their way into the build, and stay."""
    keyed = [(projection.key(recorded), recorded) for recorded in events]
    keys = {key for key, _ in keyed if key is not None}
    documents: Documents = {key: deepcopy(written[key]) for key in keys & written.keys()}
    documents |= await views.load(build, sorted(keys - documents.keys()))
    for key, recorded in keyed:
        if key is not None:
            documents[key] = projection.apply(documents.get(key), recorded)
    return documents


def _end(events: Sequence[Recorded]) -> Cursor:
    return Cursor(events[-1].position, events[-1].hash)
