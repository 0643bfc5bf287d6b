"""Live writes go on while collections are copied, and reach both sides while the old is warm."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.model.canonical import points_of
from domain.model.errors import Rejected, WritesHeld
from domain.model.flow import Flow
from domain.model.generation import Generation
from domain.model.migration import Migration, State
from domain.model.points import PointBatch, decode_payload, encode_payload, id_of, key_of
from domain.use_cases import work_flows
from domain.use_cases.flows import reading
from domain.use_cases.old_sides import old_sides
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.steer_migration import roll_back_migration
from domain.use_cases.tools import Tools, update
from domain.use_cases.write_points import Delete, SetPayload, Upsert, Write, open_live
from tests.integration.builders import DOCS, document_points
from tests.integration.faults import Crash, Wrapped, after
from tests.integration.worlds import MARA, STORE, World, eventually

Plain = dict[int | str, dict[str, Any]]
WARM = {"warm_for": "7d"}


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points and changes come in many parts."""
    monkeypatch.setattr(reading, "CHANGE_SETS_A_RANGE", 1)
    monkeypatch.setattr(reading, "CHANGED_POINTS_A_RANGE", 1)
    monkeypatch.setattr(work_flows, "LEASE_SECONDS", 0.5)


async def live_write(world: World, name: str, write: Write) -> None:
    live = await open_live(world.tools, STORE, name)
    await live.write(write, str(uuid4()), MARA)


def one(number: int, source: int, text: str) -> Upsert:
    point = {"id": number, "payload": {"source_id": source, "text": text}, "vector": [1.0] * 8}
    return Upsert(points_of(DOCS, [point]))


async def hashes(world: World, name: str) -> dict[int | str, str]:
    """What a collection holds in the store: id to point hash."""
    points = await world.points(name)
    return {
        id_of(key): point_hash.hex()
        for key, point_hash in zip(points.keys, points.hashes(), strict=True)
    }


async def adopted(world: World, *, filled: bool = False) -> Migration:
    """The application writes through the ledger from here on."""
    if not filled:
        await world.fill()
    spec = {
        "version": 1,
        "name": f"adoption {filled}",
        "recipe": "adopt-collections",
        "reason": "so that applications may write through the ledger",
        "store": STORE,
        "collections": [world.docs, world.code],
    }
    done = await world.run((await plan_migration(world.tools, spec, MARA)).migration)
    assert done.state is State.COMPLETED, done.error
    return done


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


def writing_at(world: World, step: str, write: Any) -> Tools:
    """Tools whose ledger lets an application write right before a step is completed."""
    written: list[str] = []

    async def append(command: Any) -> Any:
        ends = [e for e in command.events if getattr(e, "step", None) == step]
        if ends and "result" in vars(ends[0]) and not written:
            written.append(step)
            await write()
        return await world.ledger.append(command)

    return replace(world.tools, ledger=Wrapped(world.ledger, append=append))


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


# While the old side is warm.


async def warm_split(world: World, **changes: Any) -> Migration:
    await adopted(world)
    done = await world.run(await world.plan(**{**WARM, **changes}))
    assert done.state is State.COMPLETED, done.error
    return done


async def returned(world: World) -> None:
    """Wait until nothing that was written to a copy is left to give back, and the store has it."""

    async def through() -> bool:
        return not await world.tools.ranges.remaining()

    await eventually(through)
    await world.applied((await world.looked_after(world.docs)).generation)


async def write_to_copies(world: World) -> Plain:
    """Change, delete, add and move points of the copies; returns what the shared one is to be."""
    shared = await world.points(world.docs)
    model = {id_of(k): decode_payload(p) for k, p in zip(shared.keys, shared.payloads, strict=True)}
    first, second = (world.names[source, "documents"] for source in ("1", "2"))
    points = await world.points(first)
    for number in range(5):
        changed = points.take([number])
        model[id_of(points.keys[number])] = {"source_id": 1, "later": number}
        changed.payloads[0] = encode_payload({"source_id": 1, "later": number})
        await live_write(world, first, Upsert(changed))
    await live_write(world, first, Delete(points.keys[4:8]))
    for key in points.keys[4:8]:
        del model[id_of(key)]
    await live_write(world, second, one(90_001, 2, "new"))
    model[90_001] = {"source_id": 2, "text": "new"}
    moved = points.take([9])
    moved.payloads[0] = encode_payload({"source_id": 1, "before": "the move"})
    await live_write(world, first, Upsert(moved))
    await live_write(world, first, one(90_002, 1, "between"))
    model[90_002] = {"source_id": 1, "text": "between"}
    moved.payloads[0] = encode_payload({"source_id": 2, "moved": True})
    await live_write(world, second, Upsert(moved))
    await live_write(world, first, Delete(moved.keys))
    model[id_of(moved.keys[0])] = {"source_id": 2, "moved": True}
    return model


async def payloads(world: World, name: str) -> Plain:
    found = await world.points(name)
    return {id_of(k): decode_payload(p) for k, p in zip(found.keys, found.payloads, strict=True)}


async def test_the_old_side_gets_what_is_written_to_the_new_one(world: World) -> None:
    done = await warm_split(world)
    async with world.workers():
        model = await write_to_copies(world)
        await returned(world)
        assert await payloads(world, world.docs) == model
        assert (await world.verify(world.docs)).equal
        before = (await world.looked_after(world.docs)).recorded
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert await payloads(world, world.docs) == model
    changes = [
        one
        for one in await world.events("generation.change-set-recorded")
        if one.version > before
        and one.stream
        == (await world.tools.applications.generations(store=STORE, physical=world.docs))[
            0
        ].generation
    ]
    assert changes == []  # nothing was left to be carried


async def test_a_warm_side_rests_when_its_time_is_over_and_a_rollback_wakes_it(
    world: World,
) -> None:
    done = await warm_split(world, warm_for="1s")
    until = datetime.fromisoformat(done.results["hand-over"]["warm_until"])

    async def over() -> bool:
        return datetime.now(UTC) > until + timedelta(seconds=0.2)

    await eventually(over)
    before = await payloads(world, world.docs)
    model = await write_to_copies(world)
    async with world.applier():
        for name in ("1", "2"):
            copy = (await world.aliases())[world.names[name, "documents"]]
            await world.applied((await world.looked_after(copy)).generation)
    assert await world.tools.ranges.remaining() == 0
    assert await payloads(world, world.docs) == before
    assert (await world.roll_back(done)).state is State.ROLLED_BACK
    assert await payloads(world, world.docs) == model


async def test_points_that_cannot_go_back_stop_the_rollback_and_nothing_is_undone(
    world: World,
) -> None:
    done = await warm_split(world)
    first, second = (world.names[source, "documents"] for source in ("1", "2"))
    async with world.workers():
        await live_write(world, first, one(70_001, 1, "mine"))
        await returned(world)
        await live_write(world, second, one(70_001, 2, "yours"))
        picture = await world.picture()
        await roll_back_migration(world.tools, done.id, MARA)
        stopped = await world.settled(done.id)
        assert stopped.state is State.FAILED
        assert "point 70001 is in" in str(stopped.error)
        assert "Nothing was undone so far" in str(stopped.error)
        await world.applied((await world.looked_after(f"{second}__g1")).generation)
        assert (await world.picture())["aliases"] == picture["aliases"]
        sides = {one.collection: one for one in await old_sides(world.tools, stopped)}
        side = sides[world.docs]
        assert side.behind
        assert side.warm
        assert "point 70001 is in" in str(side.stuck)
        await live_write(world, second, Delete([key_of(70_001)]))
    assert (await world.roll_back(stopped)).state is State.ROLLED_BACK
    assert (await payloads(world, world.docs))[70_001]["text"] == "mine"


async def test_a_point_that_moves_while_both_copies_give_back(world: World) -> None:
    """One worker looked at the other copy before the point came there, and records later."""
    done = await warm_split(world)
    first, second = (world.names[source, "documents"] for source in ("1", "2"))
    point = (await world.points(first)).take([0])
    looked, go_on = asyncio.Event(), asyncio.Event()

    async def heads_among(generations: Any, keys: Any) -> Any:
        found = await world.ledger.heads_among(generations, keys)
        if keys == point.keys and not looked.is_set():
            looked.set()
            await go_on.wait()
        return found

    slow = replace(world.tools, ledger=Wrapped(world.ledger, heads_among=heads_among))
    await live_write(world, first, Delete(point.keys))
    async with world.workers(slow):
        await looked.wait()
        await live_write(world, second, Upsert(point))
        async with world.flow_worker():
            copy = await world.looked_after(f"{second}__g1")
            origin = await world.looked_after(world.docs)
            flow = Flow.create_id(
                str(done.id), f"hand-over/return/{copy.physical}/{origin.generation}"
            )
            await eventually(lambda: caught_up(world, flow, copy.generation))
        go_on.set()
        await returned(world)
    assert id_of(point.keys[0]) in await payloads(world, world.docs)


async def caught_up(world: World, flow: UUID, source: UUID) -> bool:
    queued = await world.tools.ranges.next(flow)
    return queued is not None and queued[1]["since"] >= (await world.status(source)).recorded


async def test_a_copy_with_points_that_only_the_store_has_is_kept_by_a_warm_rollback(
    world: World,
) -> None:
    """The names go back at once; what the ledger does not know stays where it is."""
    done = await warm_split(world)
    kept = f"{world.names['2', 'documents']}__g1"
    await world.store.upsert(kept, document_points(["2"] * 3, first=7000))
    changed = f"{world.names['1', 'documents']}__g1"
    points = (await world.points(changed)).take([0])
    points.payloads[0] = encode_payload({"behind": "our back"})
    await world.store.upsert(changed, points)
    back = await world.roll_back(done)
    assert back.state is State.ROLLED_BACK, back.error
    assert sorted(back.compensated["create"]["released"]) == sorted([kept, changed])
    assert {kept, changed} <= await world.collections()
    assert not await world.aliases()


async def test_a_warm_rollback_is_killed_anywhere(world: World) -> None:
    done = await warm_split(world)
    model = await write_to_copies(world)
    await roll_back_migration(world.tools, done.id, MARA)
    kills = 0
    for nth in (1, 2, 3, 5, 8, 13):
        append = after(world.ledger.append, Crash("killed"), nth=nth)
        record = after(world.ledger.record, Crash("killed"), nth=nth)
        tools = replace(world.tools, ledger=Wrapped(world.ledger, append=append, record=record))
        try:
            async with world.workers(tools):
                await world.settled(done.id)
        except* Crash:
            kills += 1
    async with world.workers():
        back = await world.settled(done.id)
    assert back.state is State.ROLLED_BACK, back.error
    assert kills > 3
    assert await payloads(world, world.docs) == model
    assert await world.collections() == {world.docs, world.code}


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


async def test_what_was_written_past_the_ledger_is_not_deleted_from_a_collection_of_others(
    world: World,
) -> None:
    """A warm rollback compares collections first that were there before the migration."""
    name = world.names["1", "documents"]
    await world.store.create(name, DOCS)
    done = await warm_split(world, to={"store": STORE, "naming": "physical"})
    changed = (await world.points(name)).take([0])
    changed.payloads[0] = encode_payload({"behind": "our back"})
    await world.store.upsert(name, changed)
    refused = await world.roll_back(done)
    assert refused.state is State.FAILED
    assert "1 changed" in str(refused.error)
    assert (await payloads(world, name))[id_of(changed.keys[0])] == {"behind": "our back"}


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
