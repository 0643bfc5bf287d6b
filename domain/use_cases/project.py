"""Keep read models up to date: the projector."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from domain.model.errors import Conflict, LedgerError
from domain.model.recorded import Cursor, Recorded
from domain.ports import Build, Document, Leaders, Ledger, Views

logger = logging.getLogger("migration_ledger.projector")

BATCH = 2000


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
            moved = False
            for projection in projections:
                build = await advance(ledger, views, projection, builds[projection.name])
                moved = moved or build.cursor != builds[projection.name].cursor
                builds[projection.name] = build
            if not moved:
                behind = min(build.cursor.position for build in builds.values())
                await ledger.wait(behind, 0.5)
            pause = 0.2
        except Conflict:
            builds = {p.name: await views.open(p.name, p.shape) for p in projections}
        except LedgerError as error:
            logger.warning("projector_waits", extra={"error": str(error)})
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)


async def advance(ledger: Ledger, views: Views, projection: Projection, build: Build) -> Build:
    """Apply the next batch; a build that has caught up becomes the live one."""
    events = await ledger.read(build.cursor.position, BATCH)
    if not events:
        return build if build.live else await views.publish(build)
    keyed = [(projection.key(recorded), recorded) for recorded in events]
    keys = sorted({key for key, _ in keyed if key is not None})
    documents: dict[str, Document | None] = dict(await views.load(build, keys))
    for key, recorded in keyed:
        if key is not None:
            documents[key] = projection.apply(documents.get(key), recorded)
    return await views.store(build, documents, Cursor(events[-1].position, events[-1].hash))


async def rebuild(ledger: Ledger, views: Views, projection: Projection) -> Build:
    """Build a read model anew beside the live one, and swap them when it has caught up."""
    build = await views.rebuild(projection.name, projection.shape)
    while not build.live:
        build = await advance(ledger, views, projection, build)
    return build
