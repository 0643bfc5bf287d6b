"""A history with every kind of event, and what it comes to."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from adapters.postgres.connection import Database
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.timelines import PostgresTimelines
from adapters.postgres.views import PostgresViews
from domain.model.migration import State
from domain.model.points import id_of, key_of
from domain.model.retention import Retention
from domain.model.timeline import Timeline
from domain.ports import Lease, Objects, Recovered
from domain.use_cases.bodies import BodyCache
from domain.use_cases.pack import pack
from domain.use_cases.project import rebuild
from domain.use_cases.repair import repair
from domain.use_cases.retain import archive_versions
from domain.use_cases.retention import decide_retention
from domain.use_cases.sweep import sweep
from domain.use_cases.verify import verify_and_record
from domain.use_cases.versions import digest_at, tag_version
from domain.use_cases.write_points import Delete, SetPayload
from projections import PROJECTIONS
from tests.integration.erasures import erase, find
from tests.integration.tampering import drop_index, flip
from tests.integration.worlds import MARA, STORE, World
from tests.integration.writers import adopted, live_write, one

EVERY = 7
"""Of the versions of a generation, every so many are compared."""


async def live(world: World, database: Database) -> None:
    """Adopt, write, verify, repair, split, go back, fail, halt, recover: all that can happen."""
    adoption = await adopted(world)
    await _write(world)
    await _drift(world)
    await _erase(world)
    await _split_and_back(world)
    await _halts(world)
    await _new_timeline(world, database)
    await world.roll_back(adoption)
    await _archive(world)


async def _write(world: World) -> None:
    await live_write(world, world.docs, one(80_001, 1, "new"))
    keys = (await world.points(world.docs)).keys
    await live_write(world, world.docs, SetPayload({keys[7]: {"reviewed": True}}))
    await live_write(world, world.docs, Delete(keys[:3]))
    async with world.applier():
        await world.applied((await world.looked_after(world.docs)).generation)
    await tag_version(world.tools, STORE, world.docs, "written", None, MARA)
    assert (await pack(world.tools, await world.looked_after(world.docs), MARA)).points


async def _archive(world: World) -> None:
    """Nobody goes back to what is not kept, and what only that had is deleted."""
    decide = partial(decide_retention, world.tools, STORE, world.docs, MARA)
    await decide(partial(Retention.place_hold, hold="case 7"))
    await decide(partial(Retention.lift_hold, hold="case 7"))
    await decide(partial(Retention.set_policy, last=1, since=timedelta(seconds=0)))
    assert await archive_versions(world.tools, MARA)
    swept = await sweep(world.tools, world.garbage, timedelta(seconds=0), MARA)
    assert swept.deleted
    await decide(Retention.remove_policy)


async def _drift(world: World) -> None:
    await flip(world, world.docs, (await world.points(world.docs)).take([5]), "", 3)
    await drop_index(world, world.docs, "source_id")
    status = await world.looked_after(world.docs)
    await verify_and_record(world.tools, status, MARA)
    await repair(world.tools, status, MARA)
    async with world.applier():
        await world.applied(status.generation)
    await verify_and_record(world.tools, status, MARA)


async def _erase(world: World) -> None:
    """Points that were deleted, points that are there, and one that comes back as another."""
    keys = (await world.points(world.docs)).keys
    await live_write(world, world.docs, SetPayload({keys[9]: {"reviewed": True}}))
    found = await find(world, [80_001, id_of(keys[8]), id_of(keys[9])])
    await erase(world, found)
    await live_write(world, world.docs, one(80_001, 1, "somebody else"))


async def _split_and_back(world: World) -> None:
    done = await world.migrate(warm_for="7d")
    name = world.names["1", "documents"]
    await live_write(world, name, one(80_002, 1, "to the copy"))
    async with world.workers():
        await world.applied((await _copy(world, name)).generation)
    other = world.names["2", "documents"]
    await live_write(world, name, one(80_004, 1, "an id"))
    await live_write(world, other, one(80_004, 2, "and the same for another point"))
    refused = await world.roll_back(done)
    assert refused.state is State.FAILED
    await live_write(world, other, Delete([key_of(80_004)]))
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    await live_write(world, world.docs, one(80_003, 9, "of no source"))
    failed = await world.run(await world.plan(name="fails"))
    assert failed.state is State.ROLLED_BACK


async def _copy(world: World, alias: str) -> Any:
    return await world.looked_after((await world.aliases())[alias])


async def _halts(world: World) -> None:
    """A store refuses a change, twice; it is tried again, and then given up."""
    applications = world.tools.applications
    status = await world.looked_after(world.code)
    held = await applications.acquire(status.generation, "an applier", 60.0, 0.0)
    assert held is not None
    point = (await world.points(world.code)).take([0])
    await live_write(world, world.code, Delete(point.keys))
    change = status.recorded + 1
    await applications.dead_letter(held, change, "Rejected", "it would not", MARA)
    await applications.retry(status.generation, MARA)
    await applications.dead_letter(held, change, "Rejected", "it still would not", MARA)
    await applications.skip(status.generation, MARA)
    await _recovered(world, held, change)
    await applications.release("an applier")


async def _recovered(world: World, held: Lease, through: int) -> None:
    found = Recovered(through=through, missing=2, extra=1)
    await world.tools.applications.recovered(held, 2, found, MARA)


async def _new_timeline(world: World, database: Database) -> None:
    head = await world.ledger.head()
    begun = Timeline(number=2, position=head.position, hash=head.hash.hex(), found=[])
    timelines = PostgresTimelines(database)
    await timelines.start(begun, MARA)
    begun.finish({"collections": 2})
    await timelines.finish(begun, MARA)


async def sum_of(database: Database, objects: Objects) -> dict[str, Any]:
    """What a history comes to: generations with digests of their versions, read models.

    Every body that counts is read, and must be what the heads say.
    """
    async with PostgresLedger(database) as ledger:
        generations = {}
        async with database.connection() as connection:
            rows = await connection.fetch(
                "SELECT g.stream, g.physical, g.recorded, g.points, g.gone, g.archived_before,"
                " g.kept_versions, a.applied, a.halted_at"
                " FROM generations g JOIN applications a ON a.generation = g.stream"
                " ORDER BY g.stream"
            )
        for row in rows:
            stream = UUID(str(row["stream"]))
            versions = [*range(1, row["recorded"], EVERY), row["recorded"]]
            digests = [await digest_at(ledger, stream, version) for version in versions]
            if not (row["gone"] and row["archived_before"] == row["recorded"]):
                await _read(ledger, objects, stream)
            generations[str(stream)] = {
                **{name: row[name] for name in set(row.keys()) - {"stream"}},
                "digests": [f"{d.points} points {d.hexdigest()}" for d in digests],
            }
        assert await _missing_manifests(database) == 0
        return {
            "timeline": (await ledger.standing()).timeline,
            "generations": generations,
            "bodies": await _bodies(database),
            "views": await _views(database, ledger),
        }


async def _bodies(database: Database) -> dict[str, int]:
    """How many bodies there are, by what is to become of them.

    After an import those that were deleted are to be deleted again: the archive may have had them.
    """
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT coalesce(nullif(fate, 'collected'), 'deleted') AS fate, count(*) FROM bodies"
            " WHERE fate IS NOT NULL GROUP BY 1 UNION ALL"
            " SELECT 'stays', count(*) FROM bodies WHERE fate IS NULL"
        )
    return {row["fate"]: row["count"] for row in rows}


async def _missing_manifests(database: Database) -> int:
    """How many events name a manifest that is not there."""
    async with database.connection() as connection:
        missing: int = await connection.fetchval(
            "SELECT count(*) FROM events e"
            " WHERE convert_from(e.state, 'UTF8')::jsonb ? 'manifest' AND NOT EXISTS ("
            " SELECT FROM objects o WHERE o.address ="
            " decode(convert_from(e.state, 'UTF8')::jsonb ->> 'manifest', 'hex'))"
        )
    return missing


async def _read(ledger: PostgresLedger, objects: Objects, generation: UUID) -> None:
    heads = await ledger.heads(generation, limit=100_000)
    points = await BodyCache(objects).points(heads.bodies())
    found = dict(zip(points.keys, points.hashes(), strict=True))
    assert found == dict(zip(heads.keys, heads.hashes, strict=True))


async def _views(database: Database, ledger: PostgresLedger) -> dict[str, int]:
    """How many documents each read model has; what is in them may change with the program."""
    views = PostgresViews(database)
    await rebuild(ledger, views, *PROJECTIONS)
    return {p.name: len(await views.find(p.name, limit=100_000)) for p in PROJECTIONS}
