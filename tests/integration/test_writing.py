"""Writes of applications are recorded once each, exactly as they were made, and become readable."""

import asyncio
from random import Random
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from domain.model.canonical import keys_of, payloads_of, points_of
from domain.model.errors import (
    Conflict,
    Halted,
    KeyReused,
    NotFound,
    PointChanged,
    Rejected,
    WritesHeld,
)
from domain.model.generation import Generation
from domain.model.points import PointBatch, decode_payload, id_of, key_of
from domain.model.recorded import ChangeSetDraft
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.model.timeline import Finding
from domain.use_cases.tools import update
from domain.use_cases.wait_applied import wait_applied
from domain.use_cases.write_points import (
    Delete,
    LiveCollection,
    SetPayload,
    Upsert,
    Write,
    Written,
    open_live,
)
from tests.integration.builders import CODE, DOCS, code_points, document_points
from tests.integration.faults import Wrapped, after
from tests.integration.worlds import MARA, STORE, World

Plain = dict[int | str, dict[str, Any]]


async def collection(world: World, schema: CollectionSchema = DOCS) -> LiveCollection:
    """An empty collection that an applier has made."""
    generation = await world.generation("live", schema)
    async with world.applier():
        await world.applied(generation)
    return await open_live(world.tools, STORE, world.named("live"))


async def write(live: LiveCollection, asked: Write, key: str | None = None) -> Written:
    return await live.write(asked, key or str(uuid4()), MARA)


async def never() -> None:
    raise AssertionError("an applier should have been at work")


async def stored(world: World) -> PointBatch:
    """What the store has once everything is applied."""
    name = world.named("live")
    status = await world.looked_after(name)
    async with world.applier():
        await wait_applied(world.tools, status.generation, status.recorded, never, patience=60)
    assert (await world.verify(name)).equal
    return await world.points(name)


async def payloads(world: World) -> dict[int | str, dict[str, Any]]:
    found = await stored(world)
    return {
        id_of(key): decode_payload(payload)
        for key, payload in zip(found.keys, found.payloads, strict=True)
    }


def at_random(random: Random, number: int) -> Write:
    """A write that is like none before."""
    ids = random.sample(range(1, 30), random.randrange(1, 8))
    if random.random() < 0.5:
        documents = [
            {"id": i, "payload": {"n": number, "k": i}, "vector": vector(random)} for i in ids
        ]
        return Upsert(points_of(DOCS, documents))
    if random.random() < 0.5:
        return Delete(keys_of(ids))
    return SetPayload({key_of(i): {"set": number, "k": -i} for i in ids})


def vector(random: Random) -> list[float]:
    return [random.uniform(-1, 1) for _ in range(8)]


def apply(model: Plain, asked: Write) -> None:
    """What a write means, said in a few lines."""
    match asked:
        case Upsert(points):
            for key, payload in zip(points.keys, points.payloads, strict=True):
                model[id_of(key)] = decode_payload(payload)
        case Delete(keys):
            for key in keys:
                model.pop(id_of(key), None)
        case SetPayload(fields):
            for key, given in fields.items():
                model[id_of(key)] = {**model[id_of(key)], **given}


@pytest.mark.parametrize("seed", range(4))
async def test_what_was_written_is_what_is_stored(world: World, seed: int) -> None:
    random, model = Random(seed), Plain()
    live = await collection(world)
    for number in range(40):
        asked = at_random(random, number)
        if isinstance(asked, SetPayload) and {id_of(k) for k in asked.payloads} - model.keys():
            with pytest.raises(NotFound):
                await write(live, asked)
            continue
        before = len(model)
        done = await write(live, asked)
        apply(model, asked)
        assert done.given >= done.upserts + done.deletes
        if isinstance(asked, Delete):
            assert done.deletes == before - len(model)
    assert await payloads(world) == model


async def test_every_kind_of_vector_is_stored_as_it_was_recorded(world: World) -> None:
    live = await collection(world, CODE)
    points = code_points(["1"] * 40)
    await write(live, Upsert(points))
    found = await stored(world)
    rows = {key: row for row, key in enumerate(points.keys)}
    assert found == points.take([rows[key] for key in found.keys])


async def test_vectors_get_unit_length_before_they_are_recorded(world: World) -> None:
    live = await collection(world)
    numbers = np.random.default_rng(4)
    documents = [
        {"id": n, "vector": (numbers.standard_normal(8) * 10.0 ** (n - 10)).tolist()}
        for n in range(20)
    ]
    documents.append({"id": 99, "vector": [0.0] * 8})
    await write(live, Upsert(points_of(DOCS, documents)))
    found = await stored(world)  # verified: the store kept every bit
    for key, encoded in zip(found.keys, found.vectors[""], strict=True):
        assert encoded is not None
        length = np.linalg.norm(np.frombuffer(encoded, "<f4").astype(float))
        assert abs(length - (id_of(key) != 99)) < 1e-6


async def test_a_write_is_sent_again(world: World) -> None:
    live = await collection(world)
    one = Upsert(document_points(["1"] * 2))
    other = Upsert(document_points(["2"] * 2, seed=2))
    first = await write(live, one, "the key")
    await write(live, other)
    again = await write(live, one, "the key")
    assert (again.position, again.through, again.repeated) == (first.position, first.through, True)
    assert again.upserts == 2
    with pytest.raises(KeyReused):
        await write(live, other, "the key")
    with pytest.raises(KeyReused):
        await write(live, Delete(one.points.keys), "the key")
    assert {p["source_id"] for p in (await payloads(world)).values()} == {"2"}


async def test_fields_that_were_set_are_set_once(world: World) -> None:
    """Sent again after the point has changed, it gets the first answer and changes nothing."""
    live = await collection(world)
    points = points_of(DOCS, [{"id": 1, "payload": {"a": 1, "b": 1}, "vector": [1.0] + [0.0] * 7}])
    await write(live, Upsert(points))
    asked = SetPayload(payloads_of([{"id": 1, "payload": {"a": 2}}]))
    first = await write(live, asked, "the key")
    await write(live, SetPayload({key_of(1): {"a": 3}}))
    assert (await write(live, asked, "the key")).position == first.position
    assert await payloads(world) == {1: {"a": 3, "b": 1}}
    await write(live, Delete([key_of(1)]))
    assert (await write(live, asked, "the key")).position == first.position
    assert await payloads(world) == {}
    with pytest.raises(KeyReused):
        await write(live, SetPayload({key_of(1): {"a": 4}}), "the key")


async def test_an_answer_that_was_lost(world: World) -> None:
    live = await collection(world)
    asked = Upsert(document_points(["1"] * 3))
    ledger = Wrapped(
        world.ledger, record=after(world.ledger.record, ConnectionError("the answer is lost"))
    )
    unlucky = LiveCollection(Wrapped(world.tools, ledger=ledger), live.status, live.schema)
    with pytest.raises(ConnectionError):
        await write(unlucky, asked, "the key")
    done = await write(live, asked, "the key")
    assert (done.repeated, done.upserts) == (True, 3)
    events = await world.events("generation.change-set")
    assert len(events) == 1


async def test_what_changes_nothing_is_recorded(world: World) -> None:
    live = await collection(world)
    points = document_points(["1"] * 3)
    await write(live, Upsert(points))
    nothing = await write(live, Upsert(points))
    unknown = await write(live, Delete([key_of(1000), points.keys[0]]))
    assert (nothing.upserts, nothing.given) == (0, 3)
    assert (unknown.deletes, unknown.given) == (1, 2)
    events = [recorded.event for recorded in await world.events("generation.change-set")]
    assert [vars(event)["source"] for event in events] == [
        {"write": "upsert", "given": 3},
        {"write": "upsert", "given": 3},
        {"write": "delete", "given": 2},
    ]
    assert len(await stored(world)) == 2


async def test_fields_of_unknown_points_are_refused(world: World) -> None:
    live = await collection(world)
    await write(live, Upsert(document_points(["1"] * 1)))
    recorded = (await world.ledger.head()).position
    with pytest.raises(NotFound, match="has no point 7, 8, 9, 10, 11 and 2 more"):
        await write(live, SetPayload({key_of(n): {"a": 1} for n in range(7, 14)}))
    with pytest.raises(NotFound, match="no point 7,"):
        await write(live, SetPayload({key_of(n): {"a": 1} for n in (1, 7, 8)}))
    assert (await world.ledger.head()).position == recorded


async def test_fields_are_set_by_many_at_once(world: World) -> None:
    """Each reads the point, changes it and records it: none undoes what another did."""
    live = await collection(world)
    await write(live, Upsert(document_points(["1"] * 1)))

    async def one(number: int) -> None:
        mine = await open_live(world.tools, STORE, world.named("live"))
        await write(mine, SetPayload({key_of(1): {f"f{number}": number}}))

    await asyncio.gather(*(one(number) for number in range(8)))
    (found,) = (await payloads(world)).values()
    assert {f"f{n}": n for n in range(8)}.items() <= found.items()


async def test_a_point_that_always_changes(world: World) -> None:
    live = await collection(world)
    points = document_points(["1"] * 1)
    await write(live, Upsert(points))

    async def heads_of(*args: Any, **more: Any) -> Any:
        found = await world.ledger.heads_of(*args, **more)
        await world.write(live.status.generation, document_points([str(uuid4())]))
        return found

    tools = Wrapped(world.tools, ledger=Wrapped(world.ledger, heads_of=heads_of))
    busy = LiveCollection(tools, live.status, live.schema)
    with pytest.raises(PointChanged, match="point 1 was changed meanwhile"):
        await write(busy, SetPayload({points.keys[0]: {"a": 1}}))


async def test_writes_are_held_and_go_on(world: World) -> None:
    live = await collection(world)
    asked = Upsert(document_points(["1"] * 3))
    generation = live.status.generation
    done = await write(live, asked, "before")
    for migration in ("m1", "m2"):
        await update(
            world.ledger,
            Generation,
            generation,
            f"hold {migration}",
            MARA,
            lambda g, m=migration: g.hold_writes(m),
        )
    for given in (asked, Delete(asked.points.keys), SetPayload({asked.points.keys[0]: {"a": 1}})):
        with pytest.raises(WritesHeld, match="takes no writes: migration m1, m2"):
            await write(live, given)
    assert (await write(live, asked, "before")).position == done.position  # it was recorded then
    nothing = [0] * 3
    draft = ChangeSetDraft(generation, asked.points.keys, [None] * 3, [], nothing, nothing)
    await world.record(draft)  # a migration's own change
    for migration in ("m1", "m2"):
        with pytest.raises(WritesHeld, match=migration):
            await write(live, asked)
        await update(
            world.ledger,
            Generation,
            generation,
            f"resume {migration}",
            MARA,
            lambda g, m=migration: g.resume_writes(m),
        )
    await write(live, asked)
    assert len(await stored(world)) == 3


async def test_a_write_to_what_is_not_there(world: World) -> None:
    with pytest.raises(NotFound, match="does not look after"):
        await open_live(world.tools, STORE, world.named("nothing"))
    live = await collection(world)
    await update(
        world.ledger, Generation, live.status.generation, "release", MARA, Generation.release
    )
    with pytest.raises(Rejected, match="dropped or released"):
        await write(live, Delete([key_of(1)]))


async def test_a_collection_that_rounds_is_not_written_to(world: World) -> None:
    half = VectorSpec(VectorKind.DENSE, 4, Distance.DOT, {"datatype": "Float16"})
    generation = await world.generation("half", CollectionSchema({"": half}))
    lease = await world.tools.applications.acquire(generation, "one", 5, 1)
    assert lease is not None
    await world.tools.applications.receipt(lease, 1, 0, MARA)
    with pytest.raises(Rejected, match="stores vector '' as Float16, which rounds"):
        await open_live(world.tools, STORE, world.named("half"))


async def test_nothing_is_written_while_work_is_halted(world: World) -> None:
    live = await collection(world)
    await world.ledger.halt([Finding("topic x", 9, "", 1, "is ahead")])
    with pytest.raises(Halted):
        await write(live, Delete([key_of(1)]))


async def test_waiting_ends_with_a_reason(world: World) -> None:
    live = await collection(world)
    done = await write(live, Upsert(document_points(["1"] * 3)))
    silent: list[UUID] = []

    async def silence() -> None:
        silent.append(done.generation)
        raise Conflict("nobody is there")

    with pytest.raises(Conflict, match="nobody is there"):
        await wait_applied(world.tools, done.generation, done.through, silence, patience=0.1)
    assert silent
    lease = await world.tools.applications.acquire(done.generation, "one", 5, 1)
    assert lease is not None
    await world.tools.applications.dead_letter(lease, done.through, "Rejected", "no", MARA)
    with pytest.raises(Conflict, match="halts at change 2"):
        await wait_applied(world.tools, done.generation, done.through, never)
