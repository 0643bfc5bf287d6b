"""Live writes go on while collections are copied, until the hand-over."""

import asyncio
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.model.errors import Rejected, WritesHeld
from domain.model.generation import Generation
from domain.model.migration import Migration, State
from domain.model.points import PointBatch, decode_payload, encode_payload, id_of, key_of
from domain.use_cases import work_flows
from domain.use_cases.flows import reading
from domain.use_cases.holds import hold_writes
from domain.use_cases.tools import update
from domain.use_cases.write_points import Delete, SetPayload, Upsert
from tests.integration.builders import document_points
from tests.integration.faults import Crash, Wrapped, after
from tests.integration.worlds import MARA, World
from tests.integration.writers import adopted, live_write, one, writing_at


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points and changes come in many parts."""
    monkeypatch.setattr(reading, "CHANGE_SETS_A_RANGE", 1)
    monkeypatch.setattr(reading, "CHANGED_POINTS_A_RANGE", 1)
    monkeypatch.setattr(work_flows, "LEASE_SECONDS", 0.5)


async def hashes(world: World, name: str) -> dict[int | str, str]:
    """What a collection holds in the store: id to point hash."""
    points = await world.points(name)
    return {
        id_of(key): point_hash.hex()
        for key, point_hash in zip(points.keys, points.hashes(), strict=True)
    }


async def write_in_every_way(world: World, *, stray: bool = False) -> None:
    """New, changed, deleted, moved from one source to another and back, without a source."""
    points = await world.points(world.docs)
    of = {
        source: [
            key
            for key, payload in zip(points.keys, points.payloads, strict=True)
            if str(decode_payload(payload)["source_id"]) == str(source)
        ]
        for source in (1, 2, 3)
    }
    await live_write(world, world.docs, Upsert(document_points([1, 2, 3] * 20, first=40_000)))
    changed = points.take([points.keys.index(of[1][0])])
    changed.payloads[0] = encode_payload({"source_id": 1, "changed": True})
    await live_write(world, world.docs, Upsert(changed))
    await live_write(world, world.docs, Delete([of[1][1], of[2][1], key_of(40_002)]))
    await live_write(world, world.docs, SetPayload({of[1][2]: {"source_id": 2}}))
    await live_write(world, world.docs, SetPayload({of[1][3]: {"source_id": 2}}))
    await live_write(world, world.docs, SetPayload({of[1][3]: {"source_id": "3"}}))
    await live_write(world, world.docs, SetPayload({of[2][4]: {"source_id": 3}}))
    await live_write(world, world.docs, SetPayload({of[2][4]: {"source_id": 2}}))
    if stray:
        await live_write(world, world.docs, SetPayload({of[3][5]: {"source_id": "nobody"}}))


async def assert_split(world: World, *, stray: int = 0) -> None:
    """Every point is in the collection of its source, as it is in the shared one."""
    shared = await world.points(world.docs)
    places: dict[str, dict[int | str, str]] = {"1": {}, "2": {}, "3": {}}
    left = 0
    for key, payload, point_hash in zip(shared.keys, shared.payloads, shared.hashes(), strict=True):
        source = str(decode_payload(payload)["source_id"])
        if source in places:
            places[source][id_of(key)] = point_hash.hex()
        else:
            left += 1
    assert left == stray
    for source, expected in places.items():
        assert await hashes(world, world.names[source, "documents"]) == expected


@pytest.mark.parametrize("step", ["adopt", "create", "flow", "check"])
async def test_what_is_written_while_a_collection_is_copied_is_copied_too(
    world: World, step: str
) -> None:
    await adopted(world)
    migration = await world.plan()

    async def write() -> None:
        await write_in_every_way(world)

    done = await world.run(migration, writing_at(world, step, write))
    assert done.state is State.COMPLETED, done.error
    await assert_split(world)
    with pytest.raises(WritesHeld, match=str(done.id)):
        await live_write(world, world.docs, one(1, 1, "late"))


async def test_points_that_lose_their_source_stay_where_they_are(world: World) -> None:
    await adopted(world)
    migration = await world.plan(unplaced="keep", after="drop")

    async def write() -> None:
        await write_in_every_way(world, stray=True)

    done = await world.run(migration, writing_at(world, "flow", write))
    assert done.state is State.COMPLETED, done.error
    await assert_split(world, stray=1)
    assert done.statistics["points_unplaced"] == 1
    assert done.results["drop"]["kept"] == {world.docs: 1}


async def test_a_point_without_a_source_stops_the_hand_over_and_can_be_given_one(
    world: World,
) -> None:
    await adopted(world)
    migration = await world.plan(on_failure="pause")

    async def write() -> None:
        await live_write(world, world.docs, one(70_001, 9, "whose?"))

    stopped = await world.run(migration, writing_at(world, "check", write))
    assert stopped.state is State.FAILED
    assert stopped.error is not None
    assert "1 points have no place by 'source_id'" in stopped.error
    assert "70001" in stopped.error
    await live_write(world, world.docs, SetPayload({key_of(70_001): {"source_id": 2}}))
    done = await world.run(stopped)
    assert done.state is State.COMPLETED, done.error
    await assert_split(world)


async def test_a_copy_that_the_store_refuses_stops_the_hand_over(world: World) -> None:
    """Writes to the source go on meanwhile, and are copied when it goes on."""
    await adopted(world)
    migration = await world.plan(on_failure="pause")
    copy = f"{world.names['1', 'documents']}__g1"

    async def upsert(to: str, batch: PointBatch) -> None:
        if to == copy and key_of(70_001) in batch.keys:
            raise Rejected("not today")
        await world.store.upsert(to, batch)

    async def write() -> None:
        await live_write(world, world.docs, one(70_001, 1, "first"))

    tools = writing_at(world, "check", write)
    stores = world.with_store(Wrapped(world.store, upsert=upsert)).stores
    stopped = await world.run(migration, replace(tools, stores=stores))
    assert stopped.state is State.FAILED
    assert "see `dead-letter list`" in str(stopped.error)
    await live_write(world, world.docs, one(70_002, 1, "second"))
    await world.tools.applications.retry((await world.looked_after(copy)).generation, MARA)
    done = await world.run(stopped)
    assert done.state is State.COMPLETED, done.error
    await assert_split(world)


async def keep_writing(world: World, name: str) -> tuple[dict[int, int], int]:
    """Write until writes are held; what was acknowledged, by id, and how often."""
    acknowledged: dict[int, int] = {}
    for number in range(100_000):
        point = 50_000 + number % 11
        try:
            await live_write(world, name, one(point, 1 + number % 3, f"{number}"))
        except WritesHeld:
            return acknowledged, number
        acknowledged[point] = number
    raise AssertionError("writes were never held")


async def test_workers_that_are_killed_while_they_follow(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a writer, killed right after they recorded: each change is copied, in effect once."""
    monkeypatch.setattr(reading, "CHANGED_POINTS_A_RANGE", 20)
    await adopted(world)
    migration = await world.plan()
    await world.start(migration)
    writing = asyncio.create_task(keep_writing(world, world.docs))
    kills = 0
    for nth in (2, 3, 5, 8, 13):
        record = after(world.ledger.record, Crash("killed"), nth=nth)
        tools = replace(world.tools, ledger=Wrapped(world.ledger, record=record))
        try:
            async with world.workers(tools):
                await world.settled(migration.id)
        except* Crash:
            kills += 1
    async with world.workers():
        done = await world.settled(migration.id)
    acknowledged, count = await writing
    assert done.state is State.COMPLETED, done.error
    assert kills > 3
    assert count > len(acknowledged)
    await assert_split(world)
    shared = await world.points(world.docs)
    texts = {
        id_of(k): decode_payload(p).get("text")
        for k, p in zip(shared.keys, shared.payloads, strict=True)
    }
    assert {number: texts[number] for number in acknowledged} == {
        number: str(text) for number, text in acknowledged.items()
    }


async def test_a_collection_that_another_migration_reads_is_not_let_go_of(world: World) -> None:
    adoption = await adopted(world)
    stopped = await stopped_at_the_hand_over(world)
    kept = await world.roll_back(adoption)
    assert kept.state is State.ROLLED_BACK, kept.error
    assert kept.compensated["adopt"]["kept"] == [world.docs, world.code]
    await live_write(world, world.docs, one(70_002, 1, "later"))
    done = await world.run(stopped)
    assert done.state is State.COMPLETED, done.error
    await assert_split(world)


async def stopped_at_the_hand_over(world: World) -> Migration:
    """A migration that stopped because a point had no source; it has one by now."""
    migration = await world.plan(on_failure="pause")

    async def write() -> None:
        await live_write(world, world.docs, one(70_001, 9, "whose?"))

    stopped = await world.run(migration, writing_at(world, "check", write))
    assert stopped.state is State.FAILED
    await live_write(world, world.docs, SetPayload({key_of(70_001): {"source_id": 2}}))
    return stopped


async def test_a_source_that_was_adopted_anew_is_not_handed_over(world: World) -> None:
    """What was written to the new generation is in no copy."""
    await adopted(world)
    stopped = await stopped_at_the_hand_over(world)
    status = await world.looked_after(world.docs)
    await update(world.ledger, Generation, status.generation, "let go", MARA, Generation.release)
    async with world.applier():
        await world.applied(status.generation)
    await adopted(world, filled=True)
    await live_write(world, world.docs, one(70_002, 1, "later"))
    again = await world.run(stopped)
    assert again.state is State.FAILED
    assert "looks after it anew" in str(again.error)
    assert not (await world.looked_after(world.docs)).holders


async def test_what_is_recorded_after_the_hand_over_keeps_the_source_from_being_dropped(
    world: World,
) -> None:
    await adopted(world)
    migration = await world.plan(after="drop", on_failure="pause")

    async def write() -> None:
        status = await world.looked_after(world.docs)
        await world.write(status.generation, document_points([1, 1], first=30_000).take([1]))

    stopped = await world.run(migration, writing_at(world, "aliases", write))
    assert stopped.state is State.FAILED
    assert "were changed after the hand-over" in str(stopped.error)
    assert world.docs in await world.collections()


async def test_a_flow_that_fails_stops_the_hand_over_and_holds_nothing(world: World) -> None:
    await adopted(world)
    migration = await world.plan(on_failure="pause")
    held: list[bool] = []

    async def heads_of(generation: UUID, keys: Any, **more: Any) -> Any:
        if held:
            raise Rejected("not today")
        return await world.ledger.heads_of(generation, keys, **more)

    async def append(command: Any) -> Any:
        answer = await world.ledger.append(command)
        if any(isinstance(e, Generation.WritesHeld) for e in command.events) and not held:
            status = await world.looked_after(world.docs)
            if status.holders:  # a change that only this flow does not see in time
                held.append(True)
                await world.write(status.generation, document_points([1, 1], first=3000).take([1]))
        return answer

    ledger = Wrapped(world.ledger, heads_of=heads_of, append=append)
    stopped = await world.run(migration, replace(world.tools, ledger=ledger))
    assert stopped.state is State.FAILED
    assert stopped.error == "not today"
    for name in (world.docs, world.code):
        assert not (await world.looked_after(name)).holders
    done = await world.run(stopped)
    assert done.state is State.COMPLETED, done.error
    await assert_split(world)


async def test_a_point_that_moves_while_a_range_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one source to the next and back, faster than it is copied: it stays nowhere else."""
    monkeypatch.setattr(reading, "CHANGED_POINTS_A_RANGE", 5000)
    await adopted(world)
    migration = await world.plan()
    source = (await world.looked_after(world.docs)).generation
    key = key_of(2)
    moves = iter([3, 1])

    async def write() -> None:
        await live_write(world, world.docs, SetPayload({key: {"source_id": 1}}))
        await live_write(world, world.docs, SetPayload({key: {"source_id": 2}}))

    async def heads_of(generation: UUID, keys: Any, **more: Any) -> Any:
        if generation == source and key in keys and (to := next(moves, None)):
            await live_write(world, world.docs, SetPayload({key: {"source_id": to}}))
        return await world.ledger.heads_of(generation, keys, **more)

    tools = writing_at(world, "flow", write)
    ledger = Wrapped(tools.ledger, heads_of=heads_of)
    done = await world.run(migration, replace(tools, ledger=ledger))
    assert done.state is State.COMPLETED, done.error
    assert next(moves, None) is None
    await assert_split(world)


async def test_writes_are_held_although_somebody_writes_all_the_time(world: World) -> None:
    """A stream may be so long that others write to it whenever it is read from its beginning."""
    generation, written = await world.generation("docs"), count(1)

    async def write() -> None:
        await world.write(generation, document_points(["1"], first=3 * next(written) + 1))

    async def load(kind: Any, stream: UUID) -> Any:
        found = await world.ledger.load(kind, stream)
        await write()
        return found

    async def append(command: Any) -> Any:
        if next(written) < SOME:
            await write()
        return await world.ledger.append(command)

    busy = Wrapped(world.ledger, load=load, append=append)
    await hold_writes(replace(world.tools, ledger=busy), generation, uuid4(), MARA)

    assert len((await world.status(generation)).holders) == 1


SOME = 7
