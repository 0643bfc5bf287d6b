"""Several generations of one name: which of them serves, what counts as later, what is refused."""

from typing import Any

import pytest

from domain.model.errors import InvalidSpec, Unavailable
from domain.model.generation import Generation
from domain.model.migration import State
from domain.model.points import encode_payload
from domain.use_cases.later_changes import later_writes
from domain.use_cases.old_sides import old_sides
from domain.use_cases.tools import save
from domain.use_cases.verify_version import verify_version
from domain.use_cases.versions import find_version, generations_of, serving, tag_version
from domain.use_cases.write_points import open_live
from tests.integration.builders import DOCS
from tests.integration.faults import Wrapped
from tests.integration.new_generations import REPLACE, made, planned, shared
from tests.integration.worlds import MARA, STORE, World, eventually
from tests.integration.writers import adopted, live_write, one


async def second_generation(world: World, **changes: Any) -> tuple[str, Any]:
    """A name whose second generation serves, and the migration that made that."""
    await shared(world)
    name = world.named("documents")
    await made(world, to={"name": name}, name="first")
    return name, await made(world, name, name="second", **changes)


async def write(world: World, name: str, *numbers: int) -> None:
    for number in numbers:
        await live_write(world, name, one(number, 1, "later"))


async def test_what_was_written_after_a_rollback_is_later(world: World) -> None:
    name, second = await second_generation(world)
    version = await find_version(world.tools, STORE, name, None)
    back = await world.roll_back(second)
    assert back.state is State.ROLLED_BACK, back.error

    await write(world, name, 90_001, 90_002, 90_003)

    assert version.status.physical == f"{name}__g2"
    assert await later_writes(world.tools, version) == 3


async def test_a_physical_name_means_what_is_under_it(world: World) -> None:
    name, _ = await second_generation(world, warm_for="1h")

    for asked, meant in (name, f"{name}__g2"), (f"{name}__g1", f"{name}__g1"):
        found = await find_version(world.tools, STORE, asked, None)
        assert found.status.physical == meant
        then = await find_version(world.tools, STORE, asked, str(found.position))
        assert then.status.physical == meant


async def test_a_physical_name_that_became_an_alias_means_what_serves_it(world: World) -> None:
    await shared(world)
    name = world.named("documents")
    await made(world, to={"name": name}, name="first")
    await made(world, f"{name}__g1", to=REPLACE, name="second")

    found = await find_version(world.tools, STORE, f"{name}__g1", None)
    assert not found.status.gone
    assert found.status.physical == (await world.aliases())[f"{name}__g1"]


async def test_what_is_carried_to_a_warm_side_counts_once(world: World) -> None:
    name, second = await second_generation(world, warm_for="1h")
    version = await find_version(world.tools, STORE, name, None)
    await write(world, name, 90_001, 90_002)
    async with world.workers():

        async def warm() -> bool:
            [side] = await old_sides(world.tools, second)
            return side.warm and not side.behind

        await eventually(warm)

    assert await later_writes(world.tools, version) == 2


async def test_a_label_is_found_by_an_alias_that_followed(world: World) -> None:
    await shared(world)
    other = world.named("other")
    await made(world, to={"name": world.named("unrelated")}, name="adopted")
    await tag_version(world.tools, STORE, world.docs, "before", None, MARA)
    await world.store.point_alias(other, f"{world.named('unrelated')}__g1")

    await tag_version(world.tools, STORE, world.named("unrelated"), "copied", None, MARA)
    await made(world, other, name="second")

    found = await find_version(world.tools, STORE, other, "copied")
    assert found.status.physical == f"{world.named('unrelated')}__g1"


async def test_an_alias_with_another_name_keeps_its_history(world: World) -> None:
    """The application's alias is not named as the collection that the ledger adopted."""
    await adopted(world)
    alias = world.named("alias")
    await world.store.point_alias(alias, world.docs)
    await tag_version(world.tools, STORE, world.docs, "before", None, MARA)
    position = (await world.ledger.head()).position

    await made(world, alias)

    known = await generations_of(world.tools, STORE, alias)
    assert [status.physical for status in known] == [world.docs, f"{alias}__g1"]
    assert (await find_version(world.tools, STORE, alias, None)).status == known[1]
    assert (await find_version(world.tools, STORE, alias, "before")).status == known[0]
    assert (await find_version(world.tools, STORE, alias, str(position))).status == known[0]


async def test_another_store_with_the_same_names_is_another_collection(world: World) -> None:
    name, _ = await second_generation(world)
    first, second = [
        Generation(
            collection=name,
            store="staging",
            physical=f"{name}__g{number}",
            number=1,
            schema=DOCS.to_json(),
            origin="created",
        )
        for number in (1, 2)
    ]
    second.point_alias(name, f"{name}__g1")
    second.remove_alias(name, f"{name}__g1")
    for generation in (first, second):
        await save(world.ledger, generation, f"staging/{generation.physical}", MARA)

    known = await world.tools.applications.generations(store=STORE, collection=name)
    assert (await serving(world.tools, known)).physical == f"{name}__g2"


@pytest.mark.parametrize("to", [REPLACE, {"name": "elsewhere"}])
async def test_what_a_migration_has_handed_over_is_not_copied(
    world: World, to: dict[str, Any]
) -> None:
    await shared(world)
    done = await made(world, to={"name": world.named("documents")}, name="first")

    with pytest.raises(InvalidSpec, match=f"takes no writes because of migration {done.id}"):
        await planned(world, to=to, name="second")


async def test_a_name_takes_writes_while_its_store_is_away(world: World) -> None:
    name, _ = await second_generation(world)

    async def away() -> Any:
        raise Unavailable("the store is away")

    tools = world.with_store(Wrapped(world.store, aliases=away, collections=away))
    live = await open_live(tools, STORE, name)
    written = await live.write(one(90_001, 1, "meanwhile"), "a key", MARA)

    assert written.generation == (await world.looked_after(f"{name}__g2")).generation


async def test_a_version_of_an_earlier_generation_is_compared_with_what_serves_now(
    world: World,
) -> None:
    await shared(world)
    name = world.named("documents")
    await made(world, to={"name": name}, name="first")
    await tag_version(world.tools, STORE, name, "before", None, MARA)
    await made(world, name, name="second")
    assert (await verify_version(world.tools, STORE, name, "before")).equal

    points = await world.points(name)
    await world.store.delete(f"{name}__g2", points.keys[:3])

    found = await verify_version(world.tools, STORE, name, "before")
    assert (found.missing, found.physical) == (3, f"{name}__g2")


async def test_what_followed_an_alias_past_the_ledger_stops_a_warm_rollback(world: World) -> None:
    """An application that writes to the store itself does so by the alias, wherever it points."""
    await shared(world)
    name = world.named("documents")
    await made(world, to={"name": name}, name="first")
    second = await made(world, name, name="second", observed=True, warm_for="1h")
    past = (await world.points(name)).take([0])
    past.payloads[0] = encode_payload({"past": "the ledger"})
    await world.store.upsert(name, past)

    refused = await world.roll_back(second)

    assert refused.state is State.FAILED
    assert "1 changed" in str(refused.error)
    assert await world.aliases() == {name: f"{name}__g2"}
