"""Any version of a collection: noted, found again, compared, and rebuilt from the ledger alone."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn, cast
from uuid import UUID

import pytest

from domain.model.errors import (
    Conflict,
    InvalidSpec,
    LedgerError,
    NotFound,
    Rejected,
    Unavailable,
)
from domain.model.generation import Generation
from domain.model.migration import Migration, State
from domain.model.version import Occasion, Version
from domain.ports import Stores
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.tools import update
from domain.use_cases.verify import compare
from domain.use_cases.versions import digest_at, find_version, tag_version
from tests.integration.builders import CODE, code_points, document_points
from tests.integration.worlds import MARA, STORE, World


async def written(world: World) -> tuple[UUID, str]:
    """A collection with a history: overwritten, deleted, written again. Version 2 has a label."""
    generation = await world.generation("docs")
    points = document_points(["1"] * 120)
    await world.write(generation, points)
    name = world.named("docs")
    await tag_version(world.tools, STORE, name, "as imported", None, MARA)
    await world.write(generation, document_points(["2"] * 40, seed=3))
    await world.delete(generation, points.keys[30:60])
    await world.write(generation, points.take(range(50, 55)))
    return generation, name


async def digest(world: World, generation: UUID, through: int) -> str:
    found = await digest_at(world.ledger, generation, through)
    return f"{found.points} points {found.hexdigest()}"


async def points(world: World, generation: UUID, through: int) -> dict[bytes, bytes]:
    heads = await world.ledger.heads(generation, at=through)
    return dict(zip(heads.keys, heads.hashes, strict=True))


def rebuild(world: World, name: str, at: str, into: str, **to: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": world.named("rebuild"),
        "recipe": "rebuild-version",
        "reason": "an auditor asks",
        "from": {"store": STORE, "collection": name, "at": at},
        "to": {"store": STORE, "collection": world.named(into), **to},
    }


async def planned(world: World, spec: dict[str, Any]) -> Migration:
    return (await plan_migration(world.tools, spec, MARA)).migration


async def noted(world: World) -> list[Version.Created]:
    events = [recorded.event for recorded in await world.events("version.")]
    return [event for event in events if isinstance(event, Version.Created)]


class AwayStores:
    """Every store fails in the same way."""

    def __init__(self, error: LedgerError) -> None:
        self._error = error

    def store(self, _: str) -> NoReturn:
        raise self._error


@pytest.mark.parametrize("error", [Unavailable("no answer"), NotFound("not configured any more")])
async def test_versions_are_found_while_their_store_is_away(
    world: World, error: LedgerError
) -> None:
    generation, name = await written(world)
    alias = world.named("alias")
    point = partial(Generation.point_alias, alias=alias, previous=None)
    await update(world.ledger, Generation, generation, "alias", MARA, point)
    away = replace(world.tools, stores=cast("Stores", AwayStores(error)))

    for known in (name, alias):
        for at, through in (("as imported", 2), (None, 6)):
            assert (await find_version(away, STORE, known, at)).through == through
        with pytest.raises(NotFound, match="did you mean 'as imported'"):
            await find_version(away, STORE, known, "as importet")
    with pytest.raises(type(error), match=str(error)):
        await find_version(away, STORE, "an alias of somebody else", None)


async def test_a_version_is_rebuilt_when_the_store_has_lost_it(world: World) -> None:
    generation, name = await written(world)
    async with world.applier():
        await world.applied(generation)
    for at, through in (("as imported", 2), (None, 5)):
        assert (await find_version(world.tools, STORE, name, at)).through == through
    before = await digest(world, generation, 2)
    assert before != await digest(world, generation, 5) == await world.digest(name)
    await world.store.drop(name)

    done = await world.run(await planned(world, rebuild(world, name, "as imported", "then")))

    assert done.state is State.COMPLETED, done.error
    assert await world.digest(world.named("then__g1")) == before
    assert await world.aliases() == {world.named("then"): world.named("then__g1")}
    assert (await world.verify(world.named("then__g1"))).equal
    [_, version] = await noted(world)
    assert (version.occasion, version.migration) == (Occasion.COMPLETED, str(done.id))
    assert f"{version.points} points {version.digest}" == before

    back = await world.roll_back(done)

    assert back.state is State.ROLLED_BACK
    assert await world.collections() == set()
    assert await world.aliases() == {}


async def test_every_version_of_a_history_is_rebuilt(world: World) -> None:
    generation, name = await written(world)
    for through in range(2, 6):
        [event] = await world.ledger.events(generation, after=through - 1, through=through)
        into = f"v{through}"
        spec = rebuild(world, name, str(event.position), into, naming="physical")
        done = await world.run(await planned(world, spec))
        assert done.state is State.COMPLETED, done.error
        assert await world.digest(world.named(into)) == await digest(world, generation, through)


async def test_named_multi_and_sparse_vectors_are_rebuilt(world: World) -> None:
    generation = await world.generation("code", CODE)
    await world.write(generation, code_points(["1"] * 60))
    expected = await digest(world, generation, 2)
    await world.write(generation, code_points(["1"] * 60, seed=9))

    spec = rebuild(world, world.named("code"), "0", "none", naming="physical")
    with pytest.raises(NotFound, match="did not look after"):
        await planned(world, spec)
    [event] = await world.ledger.events(generation, after=1, through=2)
    spec = rebuild(world, world.named("code"), str(event.position), "then", naming="physical")
    done = await world.run(await planned(world, spec))

    assert done.state is State.COMPLETED, done.error
    assert await world.digest(world.named("then")) == expected


async def test_a_rebuild_refuses_a_name_that_exists(world: World) -> None:
    _, name = await written(world)
    await world.store.create(world.named("taken"), CODE)
    for naming in ("alias", "physical"):
        with pytest.raises(InvalidSpec, match="exists in store"):
            await planned(world, rebuild(world, name, "as imported", "taken", naming=naming))


async def test_a_digest_that_is_not_the_recorded_one_fails_the_rebuild(world: World) -> None:
    _, name = await written(world)
    migration = await planned(world, rebuild(world, name, "as imported", "then"))
    await world.start(migration)
    await world.sql(
        'UPDATE migration_ledger.past_heads p SET hash = h.hash, body = h.body, "row" = h."row" '
        "FROM migration_ledger.heads h "
        "WHERE h.gid = p.gid AND h.id = p.id AND h.hash IS NOT NULL"
    )

    async with world.workers():
        failed = await world.settled(migration.id)

    [event] = [one.event for one in await world.events("migration.step-failed")]
    assert "and the version has" in vars(event)["error"]
    assert failed.state is State.ROLLED_BACK
    assert await world.collections() == {name}


async def test_a_time_finds_the_version_of_that_time(world: World) -> None:
    generation, name = await written(world)
    events = await world.ledger.events(generation)
    for recorded in events[:-1]:
        place = await find_version(world.tools, STORE, name, recorded.recorded_at.isoformat())
        assert (place.through, place.position) == (recorded.version, recorded.position)
    later = (events[-1].recorded_at + timedelta(days=1)).isoformat()
    assert (await find_version(world.tools, STORE, name, later)).through == 5
    with pytest.raises(NotFound, match="did not look after"):
        await find_version(world.tools, STORE, name, "2001-01-01")


async def test_a_version_that_is_not_there_is_named_with_the_nearest(world: World) -> None:
    _, name = await written(world)
    with pytest.raises(NotFound, match="did you mean 'as imported'"):
        await find_version(world.tools, STORE, name, "as importet")
    with pytest.raises(NotFound, match="the ledger ends at"):
        await find_version(world.tools, STORE, name, "999999999")
    with pytest.raises(NotFound, match="does not know collection"):
        await find_version(world.tools, STORE, "dokumente", None)


async def test_a_label_names_one_version_of_a_collection(world: World) -> None:
    generation, name = await written(world)
    again = await tag_version(world.tools, STORE, name, "as imported", "as imported", MARA)
    assert (again.generation, again.through) == (generation, 2)
    assert len(await noted(world)) == 1
    with pytest.raises(Conflict, match="already"):
        await tag_version(world.tools, STORE, name, "as imported", None, MARA)
    for label in ("", "12", "2026-01-01"):
        with pytest.raises(Rejected, match="cannot be a label"):
            await tag_version(world.tools, STORE, name, label, None, MARA)


async def test_a_store_is_compared_with_a_version(world: World) -> None:
    generation, name = await written(world)
    async with world.applier():
        await world.applied(generation)
    place = await find_version(world.tools, STORE, name, "as imported")

    found = await compare(world.tools, place.status, place.through)

    assert f"{found.recorded} points {found.recorded_digest}" == await digest(world, generation, 2)
    then, now = await points(world, generation, 2), await points(world, generation, 5)
    both = then.keys() & now.keys()
    assert found.missing == len(then.keys() - now.keys()) == 25
    assert found.extra == len(now.keys() - then.keys()) > 0
    assert found.changed == sum(then[key] != now[key] for key in both) > 0


async def test_a_migration_notes_versions_at_its_ends(world: World) -> None:
    await world.fill()
    digests = {name: await world.digest(name) for name in (world.docs, world.code)}
    done = await world.migrate(after="drop")

    completed = {version.physical: version for version in await noted(world)}
    assert len(completed) == 2 + len(world.names)
    for name, before in digests.items():
        assert f"{completed[name].points} points {completed[name].digest}" == before
    for name in world.names.values():
        version = completed[f"{name}__g1"]
        assert f"{version.points} points {version.digest}" == await world.digest(f"{name}__g1")
        assert (version.occasion, version.migration) == (Occasion.COMPLETED, str(done.id))

    await world.roll_back(done)

    back = [v for v in await noted(world) if v.occasion == Occasion.ROLLED_BACK]
    assert {v.physical: f"{v.points} points {v.digest}" for v in back} == digests
