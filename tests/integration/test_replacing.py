"""A collection is dropped for an alias of its name; how long nothing answers is measured."""

import asyncio
import math
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.model.application import Application
from domain.model.generation import Generation
from domain.model.migration import Migration, State
from domain.model.points import encode_payload
from domain.model.verification import VerificationLog
from domain.use_cases.run_migration import coordinate
from domain.use_cases.steer_migration import cancel_migration, roll_back_migration
from domain.use_cases.steps import drop
from tests.integration.builders import DOCS, document_points
from tests.integration.faults import Call, Crash, Wrapped, after
from tests.integration.new_generations import REPLACE, made, planned, shared, write
from tests.integration.worlds import MARA, STORE, World
from tests.integration.writers import live_write, one, payloads, writing_at


async def coordinated(world: World, migration: Migration, append: Call) -> Migration:
    """Let a coordinator alone that records with `append` take a migration to where it settles."""
    tools = replace(world.tools, ledger=Wrapped(world.ledger, append=append))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(coordinate(tools, world.leaders, uuid4().hex, stop))
        settled = await world.settled(migration.id)
        stop.set()
    return settled


async def gap_by_hand(world: World, name: str) -> int:
    """The gap as an auditor would find it in the ledger: from the drop to the alias's receipt."""
    [dropped] = [
        event
        for event in await world.events("generation.dropped")
        if event.stream == Generation.create_id(STORE, name, 1)
    ]
    [pointed] = [
        event
        for event in await world.events("generation.alias-pointed")
        if vars(event.event)["alias"] == name
    ]
    receipt = next(
        event
        for event in await world.events("application.changes-applied")
        if event.stream == Application.create_id(str(pointed.stream))
        and vars(event.event)["through"] >= pointed.version
    )
    assert dropped.position < pointed.position < receipt.position
    return math.ceil((receipt.recorded_at - dropped.recorded_at) / timedelta(milliseconds=1))


async def test_a_collection_is_dropped_for_an_alias_of_its_name_and_back(world: World) -> None:
    before = await shared(world)
    done = await made(world, to=REPLACE)
    new = f"{world.docs}__g1"
    assert await world.collections() == {new}
    assert await world.aliases() == {world.docs: new}
    assert await world.digest(world.docs) == before["collections"][world.docs]
    assert done.results["aliases"]["gap_ms"] == {world.docs: await gap_by_hand(world, world.docs)}
    assert done.gaps == done.results["aliases"]["gap_ms"]
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    assert await world.picture() == before


async def test_later_writes_go_back_to_the_collection_that_was_dropped(world: World) -> None:
    await shared(world)
    done = await made(world, to=REPLACE)
    model = await write(world, world.docs)
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert await payloads(world, world.docs) == model
    assert await world.collections() == {world.docs}
    assert not await world.aliases()
    assert not [s for s in await world.tools.applications.generations() if not s.gone]


async def test_other_aliases_have_no_gap_and_come_back(world: World) -> None:
    await shared(world)
    other = world.named("other")
    await world.store.point_alias(other, world.docs)
    before = await world.picture()
    found: list[set[str]] = []

    async def drop(name: str) -> None:
        found.append({a for a, to in (await world.aliases()).items() if to == name})
        await world.store.drop(name)

    tools = world.with_store(Wrapped(world.store, drop=drop))
    done = await world.run(await planned(world, to=REPLACE), tools)
    assert done.state is State.COMPLETED, done.error
    assert found == [set()]
    new = f"{world.docs}__g1"
    assert await world.aliases() == {world.docs: new, other: new}
    assert set(done.gaps) == {world.docs}
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    assert await world.picture() == before


async def quiet(world: World) -> None:
    """Wait until nobody records anything any more."""
    before, now = -1, (await world.ledger.head()).position
    while now != before:
        await world.ledger.wait(now, 0.3)
        before, now = now, (await world.ledger.head()).position


async def test_nothing_takes_the_name_before_it_is_free(world: World) -> None:
    """However long the store takes to drop the collection, or to remove the alias."""
    before = await shared(world)
    taken: list[list[Any]] = []

    async def drop(name: str) -> None:
        if name == world.docs:
            await quiet(world)
            taken.append(await world.events("generation.alias-pointed"))
        await world.store.drop(name)

    async def remove_alias(alias: str) -> None:
        await quiet(world)
        again = Generation.create_id(STORE, world.docs, 2)
        taken.append(await world.ledger.events(again))
        await world.store.remove_alias(alias)

    tools = world.with_store(Wrapped(world.store, drop=drop, remove_alias=remove_alias))
    done = await world.run(await planned(world, to=REPLACE), tools)
    assert done.state is State.COMPLETED, done.error
    await roll_back_migration(world.tools, done.id, MARA)
    async with world.workers(tools):
        assert (await world.settled(done.id)).state is State.ROLLED_BACK
    assert taken == [[], []]
    assert await world.picture() == before


@pytest.mark.parametrize("last", ["hand-over", "drop", "aliases"])
async def test_it_is_given_up_in_the_middle(world: World, last: str) -> None:
    await shared(world)
    await world.store.point_alias(world.named("other"), world.docs)
    before = await world.picture()
    migration = await planned(world, to=REPLACE)

    async def give_up() -> None:
        await cancel_migration(world.tools, migration.id, MARA)

    ended = await world.run(migration, writing_at(world, last, give_up))
    assert ended.state is State.CANCELLED, ended.error
    assert await world.picture() == before


async def test_a_coordinator_dies_between_the_drop_and_the_alias(world: World) -> None:
    await shared(world)
    migration = await planned(world, to=REPLACE)
    await world.start(migration)

    async def append(command: Any) -> Any:
        if any(isinstance(event, Generation.AliasPointed) for event in command.events):
            raise Crash("killed")
        return await world.ledger.append(command)

    async with world.applier(), world.flow_worker():
        with pytest.RaisesGroup(Crash, flatten_subgroups=True):
            await coordinated(world, migration, append)
        assert await world.collections() == {f"{world.docs}__g1"}
        assert not await world.aliases()
        done = await coordinated(world, migration, world.ledger.append)
    assert done.state is State.COMPLETED, done.error
    assert done.gaps == {world.docs: await gap_by_hand(world, world.docs)}


async def test_coordinators_die_anywhere_there_and_back(world: World) -> None:
    before = await shared(world)
    done = await planned(world, to=REPLACE)
    await world.start(done)
    kills = 0
    async with world.applier(), world.flow_worker():
        for back in (False, True):
            if back:
                await live_write(world, world.docs, one(90_000, 1, "later"))
                await roll_back_migration(world.tools, done.id, MARA)
            for nth in range(1, 12):
                append = after(world.ledger.append, Crash("killed"), nth=nth)
                try:
                    done = await coordinated(world, done, append)
                except* Crash:
                    kills += 1
            done = await coordinated(world, done, world.ledger.append)
            if not back:
                assert done.state is State.COMPLETED, done.error
                assert await world.digest(world.docs) == before["collections"][world.docs]
                assert done.gaps == {world.docs: await gap_by_hand(world, world.docs)}
    assert done.state is State.ROLLED_BACK, done.error
    found = await payloads(world, world.docs)
    assert found.pop(90_000) == {"source_id": 1, "text": "later"}
    assert len(found) == 150
    assert await world.collections() == {world.docs}
    assert kills > 10


async def test_a_late_write_past_the_ledger_stops_the_drop_and_stays(world: World) -> None:
    """Nothing is lost silently: the migration is rolled back, and the collection has it."""
    await shared(world)
    migration = await planned(world, to=REPLACE, observed=True)

    async def late() -> None:
        await world.store.upsert(world.docs, document_points([1, 1], first=30_000).take([1]))

    stopped = await world.run(migration, writing_at(world, "hand-over", late))
    assert stopped.state is State.ROLLED_BACK
    assert "1 extra (such as 30001)" in str(stopped.error)
    assert "is in no copy, and a drop would lose it" in str(stopped.error)
    dropped = {event.stream for event in await world.events("generation.dropped")}
    assert Generation.create_id(STORE, world.docs, 1) not in dropped
    assert 30_001 in await payloads(world, world.docs)
    assert await world.collections() == {world.docs}
    assert not await world.aliases()


async def test_a_write_behind_the_comparison_stops_the_drop(world: World) -> None:
    """It is where the comparison has been already."""
    await shared(world)
    migration = await planned(world, to=REPLACE, observed=True)
    log = VerificationLog.create_id(str(Generation.create_id(STORE, world.docs, 1)))

    async def append(command: Any) -> Any:
        if any(event.originator_id == log for event in command.events):
            await world.store.upsert(world.docs, document_points([1], first=20_000))
        return await world.ledger.append(command)

    tools = replace(world.tools, ledger=Wrapped(world.ledger, append=append))
    stopped = await world.run(migration, tools)
    assert stopped.state is State.ROLLED_BACK
    assert "has 151 points now, and 150 by the ledger" in str(stopped.error)
    assert 20_000 in await payloads(world, world.docs)


async def test_a_change_that_is_recorded_behind_the_comparison_stops_the_drop(world: World) -> None:
    """It changes no number of points, and is in no copy."""
    await shared(world)
    migration = await planned(world, to=REPLACE)
    generation = Generation.create_id(STORE, world.docs, 1)
    log = VerificationLog.create_id(str(generation))
    changed = (await world.points(world.docs)).take([0])
    changed.payloads[0] = encode_payload({"source_id": 1, "text": "behind it"})
    recorded: list[str] = []

    async def append(command: Any) -> Any:
        compared = any(event.originator_id == log for event in command.events)
        if compared and "drop" in (await world.migration(migration.id)).started and not recorded:
            recorded.append(await world.write(generation, changed))
        return await world.ledger.append(command)

    tools = replace(world.tools, ledger=Wrapped(world.ledger, append=append))
    stopped = await world.run(migration, tools)
    assert recorded
    assert stopped.state is State.ROLLED_BACK
    assert "were changed after the hand-over" in str(stopped.error)
    assert await world.collections() == {world.docs}


async def test_writes_under_way_have_time_to_arrive_before_the_name_means_something_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop, "SETTLE_SECONDS", 1.0)
    await shared(world)
    await made(world, to=REPLACE)

    [held] = [
        one
        for one in await world.events("generation.writes-held")
        if one.stream == Generation.create_id(STORE, world.docs, 1)
    ]
    [dropped] = await world.events("generation.dropped")
    assert (dropped.recorded_at - held.recorded_at).total_seconds() >= 1.0


async def test_a_collection_that_a_client_makes_in_the_gap_is_not_taken(world: World) -> None:
    before = await shared(world)
    migration = await planned(world, to=REPLACE)
    theirs = document_points([7], first=20_000)

    async def drop(name: str) -> None:
        await world.store.drop(name)
        if name == world.docs:
            await world.share(name, DOCS, theirs)

    stopped = await world.run(migration, world.with_store(Wrapped(world.store, drop=drop)))
    assert stopped.state is State.FAILED
    assert f"collection '{world.docs}' halts at change 1" in str(stopped.error)
    assert set(await payloads(world, world.docs)) == {20_000}
    await world.store.drop(world.docs)
    halted = await world.looked_after(world.docs)
    await world.tools.applications.retry(halted.generation, MARA)
    assert (await world.roll_back(stopped)).state is State.ROLLED_BACK
    assert await world.picture() == before


async def test_an_alias_that_came_since_stops_the_drop(world: World) -> None:
    await shared(world)
    late = world.named("late")
    migration = await planned(world, to=REPLACE, on_failure="pause")

    async def point() -> None:
        await world.store.point_alias(late, world.docs)

    stopped = await world.run(migration, writing_at(world, "hand-over", point))
    assert stopped.state is State.FAILED
    assert f"alias '{late}' points to '{world.docs}'" in str(stopped.error)
    await world.store.remove_alias(late)
    done = await world.run(stopped)
    assert done.state is State.COMPLETED, done.error
