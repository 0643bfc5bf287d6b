"""Collections that get new generations, and what applications write to them."""

from typing import Any

from domain.model.migration import Migration, State
from domain.model.points import encode_payload, id_of
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.write_points import Delete, Upsert
from tests.integration.builders import DOCS, document_points
from tests.integration.worlds import MARA, STORE, World
from tests.integration.writers import Plain, live_write, one, payloads

REPLACE = {"replace": True}


def spec(
    world: World, collection: str = "", *, observed: bool = False, **changes: Any
) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "an alias in front",
        "recipe": "new-generation",
        "reason": MARA.reason,
        "from": {"store": STORE, "collection": collection or world.docs, "observed": observed},
        "batch": {"size": 50},
        **changes,
    }


async def planned(world: World, collection: str = "", **changes: Any) -> Migration:
    return (await plan_migration(world.tools, spec(world, collection, **changes), MARA)).migration


async def made(world: World, collection: str = "", **changes: Any) -> Migration:
    done = await world.run(await planned(world, collection, **changes))
    assert done.state is State.COMPLETED, done.error
    return done


async def shared(world: World) -> dict[str, Any]:
    """A collection that clients use by its physical name; what can be seen of it."""
    await world.share(world.docs, DOCS, document_points([1, 2, 3] * 50))
    return await world.picture()


async def write(world: World, name: str) -> Plain:
    """Change, delete and add points through the ledger; returns what is to be there then."""
    model = await payloads(world, name)
    points = await world.points(name)
    changed = points.take([0])
    changed.payloads[0] = encode_payload({"later": True})
    async with world.applier():
        await live_write(world, name, Upsert(changed))
        await live_write(world, name, Delete(points.keys[1:3]))
        await live_write(world, name, one(90_000, 1, "later"))
        await world.applied((await world.looked_after((await world.aliases())[name])).generation)
    model[id_of(points.keys[0])] = {"later": True}
    for key in points.keys[1:3]:
        del model[id_of(key)]
    return model | {90_000: {"source_id": 1, "text": "later"}}
