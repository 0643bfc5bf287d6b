"""A collection that an applier has filled, to be changed behind the ledger's back."""

from random import Random
from typing import Any
from uuid import UUID

from domain.model.generation import Generation
from domain.model.points import PointBatch, encode_payload, key_of
from domain.model.schema import CollectionSchema
from domain.use_cases.repair import Repair, repair
from domain.use_cases.tools import Tools
from tests.integration.builders import CODE, DOCS, code_points, document_points
from tests.integration.tampering import drop_index
from tests.integration.worlds import MARA, World


class Filled:
    """A collection that an applier has filled, and what it was."""

    def __init__(self, world: World, generation: UUID, points: PointBatch, digest: str) -> None:
        self.world = world
        self.generation = generation
        self.points = points
        self.digest = digest

    @property
    def name(self) -> str:
        return self.world.named("direct")

    async def repair(self, tools: Tools | None = None, **how: Any) -> Repair:
        """Repair it, and let an applier carry that out."""
        status = await self.world.looked_after(self.name)
        done = await repair(tools or self.world.tools, status, MARA, **how)
        await self.apply()
        assert (await self.world.status(self.generation)).applied >= done.through
        return done

    async def apply(self) -> None:
        async with self.world.applier():
            await self.world.applied(self.generation)

    async def is_right(self) -> None:
        assert await self.world.digest(self.name) == self.digest
        assert (await self.world.verify(self.name)).equal

    async def repairs(self) -> list[Generation.RepairRecorded]:
        events = [recorded.event for recorded in await self.world.events("generation.repair")]
        return [event for event in events if isinstance(event, Generation.RepairRecorded)]

    async def repaired(self) -> dict[bytes, bytes | None]:
        """What the store held of the points that were repaired."""
        manifests = await self.world.ledger.manifests([e.manifest for e in await self.repairs()])
        return {
            key: before
            for manifest in manifests.values()
            for key, before in zip(manifest.keys, manifest.before, strict=True)
        }


async def filled(
    world: World, schema: CollectionSchema = DOCS, points: PointBatch | None = None
) -> Filled:
    """Points as recorded; sixty of them if none are given."""
    if points is None:
        points = code_points(["1"] * 60) if schema is CODE else document_points(["1"] * 60)
    generation = await world.generation("direct", schema)
    await world.write(generation, points)
    async with world.applier():
        await world.applied(generation)
    name = world.named("direct")
    return Filled(world, generation, await world.points(name), await world.digest(name))


async def one_payload(one: Filled, row: int, _random: Random) -> None:
    changed = one.points.take([row])
    changed.payloads[0] = encode_payload({"source_id": "1", "n": -1})
    await one.world.store.upsert(one.name, changed)


async def one_less(one: Filled, row: int, _random: Random) -> None:
    await one.world.store.delete(one.name, [one.points.keys[row]])


async def one_more(one: Filled, row: int, random: Random) -> None:
    stranger = one.points.take([row])
    stranger.keys[0] = key_of(random.randrange(1000, 2**63))
    await one.world.store.upsert(one.name, stranger)


async def no_index(one: Filled, _row: int, _random: Random) -> None:
    await drop_index(one.world, one.name, "source_id")
