"""A collection gets a new generation, which serves its name through an alias."""

import pytest

from domain.model.errors import InvalidSpec, WritesHeld
from domain.model.migration import State
from domain.use_cases.later_changes import later_changes
from domain.use_cases.old_sides import old_sides
from domain.use_cases.steer_migration import roll_back_migration
from domain.use_cases.versions import find_version
from tests.integration.builders import document_points
from tests.integration.faults import Wrapped
from tests.integration.new_generations import REPLACE, made, planned, shared, write
from tests.integration.worlds import MARA, STORE, World, eventually
from tests.integration.writers import Plain, live_write, one, payloads, writing_at


async def behind_an_alias(world: World) -> str:
    """A collection that the ledger made, behind an alias; its name."""
    await shared(world)
    name = world.named("documents")
    await made(world, to={"name": name}, name="first")
    return name


async def test_a_name_goes_from_one_generation_to_the_next(world: World) -> None:
    name = await behind_an_alias(world)
    other = world.named("other")
    await world.store.point_alias(other, f"{name}__g1")
    written: Plain = {91_000: {"source_id": 2, "text": "meanwhile"}}

    async def meanwhile() -> None:
        await live_write(world, name, one(91_000, 2, "meanwhile"))

    migration = await planned(world, name, warm_for="1h")
    done = await world.run(migration, writing_at(world, "check", meanwhile))
    assert done.state is State.COMPLETED, done.error
    assert not done.gaps
    assert await world.aliases() == {name: f"{name}__g2", other: f"{name}__g2"}
    assert (await payloads(world, name)).items() >= written.items()
    model = await write(world, name)
    async with world.workers():

        async def warm() -> bool:
            [side] = await old_sides(world.tools, done)
            return side.warm and not side.behind

        await eventually(warm)
    assert await payloads(world, f"{name}__g1") == model
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert await world.aliases() == {name: f"{name}__g1", other: f"{name}__g1"}
    assert await payloads(world, name) == model
    async with world.applier():
        await live_write(world, name, one(92_000, 3, "as before"))


async def test_a_name_always_has_an_answer_while_it_goes_to_the_next_generation(
    world: World,
) -> None:
    name = await behind_an_alias(world)
    pointed: list[tuple[str, str]] = []

    async def point_alias(alias: str, physical: str) -> None:
        assert alias in await world.aliases()  # it is pointed elsewhere, not removed and made again
        await world.store.point_alias(alias, physical)
        pointed.append((alias, physical))

    async def remove_alias(alias: str) -> None:
        raise AssertionError(alias)

    wrapped = Wrapped(world.store, point_alias=point_alias, remove_alias=remove_alias)
    done = await world.run(await planned(world, name), world.with_store(wrapped))
    assert done.state is State.COMPLETED, done.error
    await roll_back_migration(world.tools, done.id, MARA)
    async with world.workers(world.with_store(wrapped)):
        assert (await world.settled(done.id)).state is State.ROLLED_BACK
    assert pointed == [(name, f"{name}__g2"), (name, f"{name}__g1")]


async def test_generations_are_rolled_back_in_their_order(world: World) -> None:
    before = await shared(world)
    first = await made(world, to=REPLACE)
    second = await made(world, world.docs, name="second")
    assert await world.aliases() == {world.docs: f"{world.docs}__g2"}
    assert not second.gaps  # the one before is not counted again
    refused = await world.roll_back(first)
    assert refused.state is State.FAILED
    assert f"migration {second.id} works on" in str(refused.error)
    model = await write(world, world.docs)
    assert (await world.roll_back(second)).state is State.ROLLED_BACK
    assert await payloads(world, world.docs) == model
    assert (await world.roll_back(first)).state is State.ROLLED_BACK
    assert await payloads(world, world.docs) == model
    assert await world.collections() == set(before["collections"])


async def test_clients_go_to_a_new_name_while_the_old_one_is_kept_warm(world: World) -> None:
    await shared(world)
    name, other = world.named("documents"), world.named("other")
    await world.store.point_alias(other, world.docs)
    before = await world.picture()
    done = await made(world, to={"name": name}, warm_for="1h")
    assert not done.gaps
    assert await world.aliases() == {name: f"{name}__g1", other: world.docs}
    with pytest.raises(WritesHeld, match=str(done.id)):
        await live_write(world, world.docs, one(1, 1, "to the old name"))
    model = await write(world, name)
    async with world.workers():

        async def warm() -> bool:
            return await payloads(world, world.docs) == model

        await eventually(warm)
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    assert await payloads(world, world.docs) == model
    assert await world.aliases() == before["aliases"]
    assert await world.collections() == {world.docs}


async def test_a_physical_name_that_chooses_no_way_is_not_planned(world: World) -> None:
    await shared(world)
    with pytest.raises(InvalidSpec, match=r"choose between to\.name and to\.replace"):
        await planned(world)


async def test_what_others_write_is_copied_and_what_comes_late_is_named(world: World) -> None:
    name = await behind_an_alias(world)
    old = f"{name}__g1"

    async def early() -> None:
        await world.store.upsert(old, document_points([1], first=20_000))

    async def late() -> None:
        await world.store.upsert(old, document_points([1, 1], first=30_000).take([1]))

    await early()
    migration = await planned(world, name, observed=True)
    done = await world.run(migration, writing_at(world, "resume", late))
    assert done.state is State.COMPLETED, done.error
    assert done.results["look-again"]["late"] == {old: 1}
    found = await payloads(world, name)
    assert 20_000 in found
    assert 30_001 not in found


async def test_a_version_is_of_the_generation_that_served_then(world: World) -> None:
    """Neither of a copy that is not whole yet, nor of the old side that is kept warm."""
    name = await behind_an_alias(world)
    at: dict[str, str] = {}
    now: dict[str, str] = {}

    async def look() -> None:
        at["copying"] = str((await world.ledger.head()).position)
        version = await find_version(world.tools, STORE, name, None)
        now["copying"] = version.status.physical
        later = await later_changes(world.tools, version)
        assert later is not None
        assert later.physical == f"{name}__g1"

    migration = await planned(world, name, warm_for="1h")
    done = await world.run(migration, writing_at(world, "create", look))
    at["copied"] = str((await world.ledger.head()).position)
    now["copied"] = (await find_version(world.tools, STORE, name, None)).status.physical
    back = await world.roll_back(done)
    at["back"] = str((await world.ledger.head()).position)
    now["back"] = (await find_version(world.tools, STORE, name, None)).status.physical
    assert back.state is State.ROLLED_BACK
    expected = {"copying": f"{name}__g1", "copied": f"{name}__g2", "back": f"{name}__g1"}
    assert now == expected
    [removed] = await world.events("generation.alias-removed")
    at["undoing"], expected["undoing"] = str(removed.position), f"{name}__g1"
    then = {
        moment: (await find_version(world.tools, STORE, name, position)).status.physical
        for moment, position in at.items()
    }
    assert then == expected


async def test_versions_of_a_physical_name_go_on_behind_its_alias(world: World) -> None:
    await shared(world)
    at: list[str] = []

    async def look() -> None:
        at.append(str((await world.ledger.head()).position))

    migration = await planned(world, to=REPLACE)
    done = await world.run(migration, writing_at(world, "create", look))
    assert done.state is State.COMPLETED, done.error
    then = await find_version(world.tools, STORE, world.docs, at[0])
    now = await find_version(world.tools, STORE, world.docs, None)
    assert (then.status.physical, now.status.physical) == (world.docs, f"{world.docs}__g1")
