"""What must hold after each step, and at the end."""

from collections.abc import Mapping
from typing import Any

from adapters.postgres.chain import verify_chain
from adapters.postgres.derived import verify_derived
from domain.model.generation import Generation
from domain.model.points import PointBatch, id_of, key_of
from domain.model.version import Occasion, Version
from domain.ports import GenerationStatus
from domain.use_cases.read_version import read_version
from domain.use_cases.rebuildable import Remains, remains
from domain.use_cases.verify import compare
from domain.use_cases.versions import digest_at, find_version
from tests.integration.machine import model
from tests.integration.machine.model import Collection, Model, Moment
from tests.integration.machine.session import Session
from tests.integration.worlds import STORE

ALL = 100_000


async def check_step(session: Session, expected: Model) -> None:
    """What is cheap enough to look at after each step."""
    session.chained = await verify_chain(session.database, session.chained)
    settled = await session.settled()
    for collection in expected.collections:
        if collection.known:
            await check_heads(session, collection)
        if settled or not collection.known:
            await check_store(session, collection)
    await check_names(session, expected)
    await check_acknowledged(session)


async def check_end(session: Session, expected: Model) -> None:
    """Everything, when workers are through."""
    await check_step(session, expected)
    await verify_derived(session.database)
    for collection in expected.collections:
        if collection.known:
            await check_verification(session, collection)
        await check_warm(session, collection)
    for moment in expected.moments:
        await check_moment(session, moment)
    for status in await session.world.tools.applications.generations():
        await check_history(session, status)
    await check_erased(session, expected)


async def check_heads(session: Session, collection: Collection) -> None:
    """The ledger says of each point what the application wrote."""
    status = await session.status(collection.name)
    assert status.applied <= status.recorded, f"applied: more of {collection.name} than there is"
    heads = await session.world.ledger.heads(status.generation, limit=ALL)
    found = dict(zip(heads.keys, heads.hashes, strict=True))
    same("heads", found, model.hashes(collection.points), collection.name)
    assert status.points == len(collection.points), f"heads: number of {collection.name}"


async def check_store(session: Session, collection: Collection) -> None:
    """The store has it bit for bit."""
    found = await session.world.points(collection.name)
    same("store", model.rows(found), model.rows_of(collection.stored), collection.name)


async def check_names(session: Session, expected: Model) -> None:
    """Names are aliases where migrations made them so, and nothing is left of what was undone."""
    named = {collection.name for collection in expected.collections if collection.copies}
    assert (await session.world.aliases()).keys() == named, "names: aliases"
    copies = [copy for collection in expected.collections for copy in collection.copies]
    lying = len(expected.collections) + sum(not copy.replaced for copy in copies)
    assert len(await session.world.collections()) == lying, "names: collections"


async def check_acknowledged(session: Session) -> None:
    """The broker was told of no change that the store has not."""
    known = await session.world.tools.applications.generations()
    applied = {status.generation: status.applied for status in known}
    for deliveries in session.deliveries:
        for change in deliveries.completed:
            assert change.version <= applied[change.stream], "acknowledged: before it was applied"


async def check_verification(session: Session, collection: Collection) -> None:
    """A verification finds just what others changed."""
    found = await compare(session.world.tools, await session.status(collection.name))
    kinds: dict[str, list[model.Id]] = {}
    for one in sorted(collection.strays, key=key_of):
        new = collection.strays[one]
        changed = "extra" if collection.is_extra(one) else "changed"
        kinds.setdefault("missing" if new is None else changed, []).append(one)
    assert found.examples == kinds, f"verification: of {collection.name}"
    assert found.recorded_digest == model.digest(collection.points), "verification: digest"


async def check_warm(session: Session, collection: Collection) -> None:
    """What is kept warm has what is written to the new collection."""
    for last in collection.copies[-1:]:
        if last.warm:
            found = await session.world.points(last.warm)
            same("warm", model.rows(found), model.rows_of(collection.points), last.warm)


async def check_moment(session: Session, moment: Moment) -> None:
    """A version has the points and the digest that it had."""
    tools = session.world.tools
    place = await find_version(tools, STORE, moment.name, moment.at)
    read = PointBatch.concatenate([page async for page in read_version(tools, place)])
    where = f"{moment.name} at {moment.at}"
    same("versions", model.rows(read), model.rows_of(moment.points), where)
    found = await digest_at(tools.ledger, place.status.generation, place.through)
    assert found.hexdigest() == model.digest(moment.points), f"versions: digest of {where}"
    left = Remains(moment.erased, len(moment.points), found.hexdigest()) if moment.erased else None
    assert await remains(tools, place.status.generation, place.through) == left, (
        f"versions: what is erased of {where}"
    )
    if moment.labelled:
        about = STORE, place.status.collection, Occasion.TAGGED, moment.at, "", ""
        noted = await tools.ledger.load(Version, Version.create_id(*about))
        assert noted is not None
        assert noted.digest == moment.digest, f"versions: recorded digest of {where}"


async def check_erased(session: Session, expected: Model) -> None:
    """No object has anything of a point that was erased."""
    kept = await session.kept()
    for collection in expected.collections:
        for number in sorted(collection.erased):
            left = any(trace in kept for trace in model.traces(number))
            assert not left, f"erased: {number} of {collection.name}"


async def check_history(session: Session, status: GenerationStatus) -> None:
    """Each change says what was there before, and all of them together are the heads."""
    ledger, points, last = session.world.ledger, dict[bytes, bytes | None](), 0
    for recorded in await ledger.events(status.generation):
        event = recorded.event
        if not isinstance(event, Generation.ChangeSetRecorded):
            continue
        if isinstance(event, Generation.RepairRecorded):
            continue
        manifest = (await ledger.manifests([event.manifest]))[event.manifest]
        for key, before in zip(manifest.keys, manifest.before, strict=True):
            assert points.get(key) == before, f"history: {id_of(key)} before {recorded.position}"
        points.update(zip(manifest.keys, manifest.hashes, strict=True))
        last = recorded.position
    for erasure in await session.world.events("erasure.begun"):
        if erasure.position > last:  # of a collection that was gone by then
            for one in vars(erasure.event)["subjects"].get(str(status.generation), ()):
                points.pop(key_of(one), None)
    heads = await ledger.heads(status.generation, limit=ALL)
    found = dict(zip(heads.keys, heads.hashes, strict=True))
    left = {key: found for key, found in points.items() if found is not None}
    same("history", left, found, status.physical)


def same(check: str, found: Mapping[bytes, Any], expected: Mapping[bytes, Any], of: str) -> None:
    """Points are as expected; else they are named."""
    different = model.differing(found, expected)
    assert not different, f"{check}: {of}: {different}"
