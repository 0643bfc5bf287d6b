"""Erasures in a world, and what is left of a person afterwards."""

from collections.abc import Collection, Mapping
from uuid import uuid4

import asyncpg

from domain.model.bodies import decode_body
from domain.model.erasure import Erasure
from domain.model.points import PointBatch, key_of
from domain.use_cases.erase import Erasing, unfinished
from domain.use_cases.find_subjects import Found, Scope, find_by_ids, find_by_values
from domain.use_cases.tools import Tools
from tests.integration.worlds import MARA, World

ART_17 = "request 4711"


class NoTraces:
    """Servers that keep nothing of what was deleted; what they were asked is noted."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def remove(self, collections: Collection[tuple[str, str]]) -> list[str]:
        self.asked += collections
        return []


def erasing(world: World, tools: Tools | None = None) -> Erasing:
    """What an erasure in this world works with."""
    return Erasing(tools or world.tools, world.leaders, world.garbage, NoTraces(), MARA)


async def find(world: World, ids: Collection[int | str], *collections: str) -> Found:
    """Where points are and were."""
    return await find_by_ids(world.tools, {key_of(one) for one in ids}, Scope(collections))


async def find_like(world: World, match: Mapping[str, str], *collections: str) -> Found:
    """Where points with such payloads are and were."""
    return await find_by_values(world.tools, match, Scope(collections))


async def erase(world: World, found: Found, tools: Tools | None = None) -> None:
    """Erase what was found, to the end; what was begun before is finished first."""
    work = erasing(world, tools)
    async with work.alone(uuid4().hex), world.applier():
        await finish_all(world, tools)
        await work.erase(found.parts(), ART_17)


async def finish_all(world: World, tools: Tools | None = None) -> None:
    """Finish what was begun; an applier must be at work."""
    for erasure in await unfinished(world.tools):
        await erasing(world, tools).finish(erasure.number)


async def recorded(world: World) -> list[Erasure.SubjectErased]:
    """What the ledger says of erasures that came to their end."""
    events = [one.event for one in await world.events("erasure.")]
    return [event for event in events if isinstance(event, Erasure.SubjectErased)]


async def everywhere(world: World) -> list[bytes]:
    """Payloads of every object that is there, whether anything refers to it or not."""
    connection = await asyncpg.connect(world.url)
    rows = await connection.fetch("SELECT address FROM migration_ledger.bodies")
    rows += await connection.fetch("SELECT address FROM migration_ledger.rewritten")
    await connection.close()
    addresses = {row["address"].hex() for row in rows}
    there = addresses - await world.tools.objects.missing([*addresses])
    bodies = [decode_body(await world.tools.objects.get(address)) for address in there]
    return [payload for body in bodies for payload in body.payloads]


async def bodies(world: World, found: Found) -> PointBatch:
    """Everything that is in the bodies that points are in."""
    parts = [decode_body(await world.tools.objects.get(one)) for one in sorted(found.objects)]
    return PointBatch.concatenate(parts)
