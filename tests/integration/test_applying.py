"""Appliers: duplicates, gaps, crashes, takeovers, poison. The store and the ledger are real."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from adapters.kafka.consumer import ChangeConsumer
from adapters.kafka.publisher import Publisher
from adapters.kafka.settings import KafkaSettings
from adapters.postgres.connection import Database
from adapters.postgres.cursors import PostgresCursors
from domain.model.bodies import encode_body
from domain.model.errors import Conflict, Rejected, Unavailable
from domain.model.points import PointBatch, encode_payload, key_of
from domain.model.recorded import Recorded
from domain.ports import Lease
from domain.use_cases import apply_changes, dead_letters, lanes
from domain.use_cases.apply_changes import Applier
from domain.use_cases.bodies import BodyCache
from domain.use_cases.change_effects import Effects
from domain.use_cases.relay import relay
from domain.use_cases.tools import Tools
from tests.integration.builders import CODE, code_points, document_points
from tests.integration.faults import Crash, LedgerDeliveries, Wrapped, after, before
from tests.integration.worlds import MARA, World, eventually

LONG = 1000.0  # seconds
OVER = -1.0  # seconds: a lease that ran out already


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of crashed appliers run out soon."""
    monkeypatch.setattr(lanes, "LEASE_SECONDS", 0.4)
    monkeypatch.setattr(lanes, "CALL_DEADLINE", 0.2)
    monkeypatch.setattr(lanes, "ACQUIRE_SECONDS", 0.05)


def with_applications(world: World, **methods: Any) -> Tools:
    """The tools, with some methods of the applications replaced."""
    tools = world.tools
    applications = Wrapped(tools.applications, **methods)
    return Tools(tools.ledger, tools.objects, applications, tools.ranges, tools.stores)


async def history(world: World, generation: UUID, *, seed: int = 1, changes: int = 12) -> None:
    """Change sets that overwrite and delete each other's points, in a seeded order."""
    random = Random(seed)
    for number in range(changes):
        first, size = random.randrange(1, 40), random.randrange(1, 20)
        points = document_points(["1"] * size, first=first, seed=100 * seed + number)
        await world.write(generation, points)
        if number % 3 == 2:
            await world.delete(generation, sorted(random.sample(points.keys, (size + 1) // 2)))


async def physical(world: World, generation: UUID) -> str:
    """The name of a generation in the store."""
    return (await world.status(generation)).physical


async def assert_equal(world: World, *generations: UUID) -> None:
    """The store has what the ledger says."""
    for generation in generations:
        verification = await world.verify(await physical(world, generation))
        assert verification.equal, str(verification)


async def receipts(world: World) -> list[int]:
    """Versions of all receipts."""
    return [vars(one.event)["through"] for one in await world.events("application.changes-applied")]


async def test_changes_are_applied_in_order_once(world: World) -> None:
    generation = await world.generation()
    await history(world, generation)
    deliveries = LedgerDeliveries(world.ledger)
    async with world.applier(deliveries=deliveries):
        status = await world.applied(generation)
        await eventually(lambda: nothing_open(deliveries))
    assert status.applied == status.recorded
    await assert_equal(world, generation)
    assert (await receipts(world)) == sorted(set(await receipts(world)))


async def nothing_open(deliveries: LedgerDeliveries) -> bool:
    """Whether every delivery was acknowledged."""
    return bool(deliveries.delivered) and not deliveries.open


async def test_what_is_at_or_below_the_applied_position_is_a_duplicate(world: World) -> None:
    generation = await world.generation()
    await history(world, generation)
    async with world.applier():
        await world.applied(generation)
    head = await world.ledger.head()
    refusing = before(world.store.upsert, Crash(), times=1000)
    deliveries = LedgerDeliveries(world.ledger)
    async with world.applier(world.with_store(Wrapped(world.store, upsert=refusing)), deliveries):
        await eventually(lambda: nothing_open(deliveries))
    assert len(deliveries.completed) == (await world.status(generation)).recorded
    assert await world.ledger.head() == head


class OnlyTheLast(LedgerDeliveries):
    """Delivers the last of the changes that there are."""

    async def fetch(self) -> Sequence[Recorded]:
        self.delivered += (changes := list(await super().fetch())[-1:])
        return changes


async def test_a_gap_is_filled_from_the_ledger(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply_changes, "POLL_SECONDS", LONG)
    generation = await world.generation()
    await history(world, generation)
    async with world.applier(deliveries=OnlyTheLast(world.ledger)):
        await world.applied(generation)
    await assert_equal(world, generation)


class OfAnotherHistory(LedgerDeliveries):
    """Delivers, behind what there is, changes that the ledger does not have."""

    async def fetch(self) -> Sequence[Recorded]:
        changes = list(await super().fetch())
        if changes and not self.completed:
            lost = [replace(changes[-1], version=1000), replace(changes[-1], stream=uuid4())]
            self.delivered += lost
            changes += lost
        return changes


async def test_changes_of_a_history_that_is_over_are_done_at_once(world: World) -> None:
    generation = await world.generation()
    await history(world, generation)
    deliveries = OfAnotherHistory(world.ledger)
    async with world.applier(deliveries=deliveries):
        status = await world.applied(generation)
        await eventually(lambda: nothing_open(deliveries))
    assert len(deliveries.completed) == status.recorded + 2
    await assert_equal(world, generation)


async def test_nothing_delivered_is_found_in_the_ledger(world: World) -> None:
    generation = await world.generation()
    await history(world, generation)
    async with world.applier(deliveries=LedgerDeliveries(world.ledger, deaf=True)):
        await world.applied(generation)
    await assert_equal(world, generation)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_lost_repeated_and_reordered_deliveries(world: World, seed: int) -> None:
    generations = [await world.generation(f"g{number}") for number in range(3)]
    deliveries = LedgerDeliveries(world.ledger, random=Random(seed))
    async with world.applier(deliveries=deliveries):
        for round_ in range(2):
            for number, generation in enumerate(generations):
                await history(world, generation, seed=10 * round_ + number + seed, changes=6)
        for generation in generations:
            await world.applied(generation)
        await eventually(lambda: nothing_open(deliveries))
    await assert_equal(world, *generations)


CALLS: dict[str, Callable[[World], Any]] = {
    "upsert": lambda world: world.store.upsert,
    "delete": lambda world: world.store.delete,
    "create": lambda world: world.store.create,
    "receipt": lambda world: world.tools.applications.receipt,
    "acquire": lambda world: world.tools.applications.acquire,
}


def crashing(world: World, call: str, when: Callable[..., Any], nth: int) -> Tools:
    """Tools with which the process ends at the n-th call."""
    method = {call: when(CALLS[call](world), Crash(), nth=nth)}
    if call in {"receipt", "acquire"}:
        return with_applications(world, **method)
    return world.with_store(Wrapped(world.store, **method))


@pytest.mark.parametrize("when", [before, after])
@pytest.mark.parametrize(
    ("call", "nth"),
    [("create", 1), ("acquire", 1), ("upsert", 1), ("upsert", 2), ("delete", 1), ("receipt", 2)],
)
@pytest.mark.usefixtures("short_leases")
async def test_a_crash_is_carried_on_from(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    nth: int,
    when: Callable[..., Any],
) -> None:
    monkeypatch.setattr("domain.use_cases.change_effects.POINTS_AT_ONCE", 40)
    generation = await world.generation()
    await history(world, generation)

    with pytest.raises(BaseExceptionGroup) as crashed:
        async with world.applier(crashing(world, call, when, nth)):
            await asyncio.Event().wait()

    assert crashed.group_contains(Crash)
    assert (await world.status(generation)).applied < (await world.status(generation)).recorded
    async with world.applier():
        status = await world.applied(generation)
    assert (status.applied, status.halted_at) == (status.recorded, None)
    await assert_equal(world, generation)
    assert await receipts(world) == sorted(set(await receipts(world)))


@pytest.mark.usefixtures("short_leases")
async def test_a_killed_applier_is_carried_on_from(world: World) -> None:
    generation = await world.generation()
    await history(world, generation)
    entered = asyncio.Event()

    async def upsert(name: str, points: PointBatch) -> None:
        await world.store.upsert(name, points.take([0]))
        entered.set()
        await asyncio.Event().wait()

    killed = Applier(
        world.with_store(Wrapped(world.store, upsert=upsert)),
        LedgerDeliveries(world.ledger),
        "killed",
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(killed.run(asyncio.Event()))
        await entered.wait()
        task.cancel()
    async with world.applier():
        await world.applied(generation)
    await assert_equal(world, generation)


async def test_two_appliers_share_the_work(world: World) -> None:
    generations = [await world.generation(f"g{number}") for number in range(4)]
    async with world.applier(), world.applier():
        for number, generation in enumerate(generations):
            await history(world, generation, seed=number, changes=6)
        for generation in generations:
            await world.applied(generation)
    await assert_equal(world, *generations)


@pytest.mark.parametrize(("ttl", "grace"), [(LONG, 0.0), (OVER, LONG)], ids=["lease", "deadline"])
async def test_a_successor_waits_for_the_lease_and_the_deadline(
    world: World, monkeypatch: pytest.MonkeyPatch, ttl: float, grace: float
) -> None:
    monkeypatch.setattr(lanes, "CALL_DEADLINE", grace)
    monkeypatch.setattr(lanes, "ACQUIRE_SECONDS", 0.02)
    generation = await world.generation()
    await world.tools.applications.acquire(generation, "zombie", ttl, 0)
    refused: list[UUID] = []

    async def acquire(stream: UUID, *facts: Any) -> Lease | None:
        lease = await world.tools.applications.acquire(stream, *facts)
        refused.append(stream)
        assert lease is None
        return lease

    async def asked_often() -> bool:
        return len(refused) > 5

    async with world.applier(with_applications(world, acquire=acquire)):
        await eventually(asked_often)
    assert (await world.status(generation)).applied == 0
    assert await world.collections() == set()


async def zombie_wrote_late(world: World) -> tuple[UUID, PointBatch]:
    """A generation whose applier vanished, and whose store has what it wrote too late."""
    generation = await world.generation()
    old = document_points(["1"] * 30, seed=1)
    await world.write(generation, old)
    await world.write(generation, document_points(["1"] * 30, seed=2).take(range(20)))
    await world.delete(generation, old.keys[25:])
    with pytest.raises(BaseExceptionGroup):
        await vanish(world, generation)
    assert (await world.verify(await physical(world, generation))).equal
    late = old.take([0, 7, 26, 29])
    await world.store.upsert(await physical(world, generation), late)
    assert not (await world.verify(await physical(world, generation))).equal
    await world.write(generation, document_points(["1"], first=600))
    return generation, late


async def vanish(world: World, generation: UUID) -> None:
    """Apply what is there, and crash right after the next receipt."""
    async with world.applier():
        await world.applied(generation)
    await world.write(generation, document_points(["1"], first=500))
    crash = after(world.tools.applications.receipt, Crash())
    async with world.applier(with_applications(world, receipt=crash)):
        await asyncio.Event().wait()


@pytest.mark.usefixtures("short_leases")
async def test_what_a_zombie_wrote_late_is_put_right(world: World) -> None:
    generation, _ = await zombie_wrote_late(world)
    async with world.applier():
        await world.applied(generation)
    await assert_equal(world, generation)


@pytest.mark.usefixtures("short_leases")
async def test_a_takeover_that_could_not_verify_verifies_again(world: World) -> None:
    generation, _ = await zombie_wrote_late(world)
    retrieve = before(world.store.retrieve, Unavailable("not now"), times=2)
    async with world.applier(world.with_store(Wrapped(world.store, retrieve=retrieve))):
        await world.applied(generation)
    await assert_equal(world, generation)


@pytest.mark.usefixtures("short_leases")
async def test_a_takeover_that_never_verified_leaves_it_to_the_next(world: World) -> None:
    generation, _ = await zombie_wrote_late(world)
    tried = asyncio.Event()

    async def retrieve(_name: str, _keys: Sequence[bytes]) -> PointBatch:
        tried.set()
        raise Unavailable("not now")

    async with world.applier(world.with_store(Wrapped(world.store, retrieve=retrieve))):
        await tried.wait()
    async with world.applier():
        await world.applied(generation)
    await assert_equal(world, generation)


async def test_who_waited_for_a_lease_begins_where_the_former_holder_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the waiting applier had seen before it waited is old, and more than a window behind."""
    monkeypatch.setattr(lanes, "WINDOW", 4)
    monkeypatch.setattr(lanes, "ACQUIRE_SECONDS", 0.02)
    generation = await world.generation()
    for number in range(10):
        await world.write(generation, document_points(["1"] * 3, seed=number))
    applications = world.tools.applications
    lease = await applications.acquire(generation, "former", LONG, 0)
    assert lease is not None
    asked = asyncio.Event()

    async def acquire(*facts: Any) -> Lease | None:
        found = await applications.acquire(*facts)
        asked.set()
        return found

    async with world.applier(with_applications(world, acquire=acquire)):
        await asked.wait()
        effects, status = Effects(world.tools, BodyCache(world.tools.objects)), None
        status = await world.status(generation)
        for recorded in await world.ledger.events(generation):
            await effects.apply(status.store, status.physical, [recorded])
        await applications.receipt(lease, status.recorded, 30, MARA)
        await applications.release("former")
        await world.write(generation, document_points(["1"], first=900))
        await world.applied(generation)
    await assert_equal(world, generation)


async def test_a_clean_stop_finishes_what_is_under_way_before_leases_are_given_back(
    world: World,
) -> None:
    generation = await world.generation()
    await world.write(generation, document_points(["1"] * 5))
    entered, opened = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def upsert(name: str, points: PointBatch) -> None:
        entered.set()
        await opened.wait()
        await world.store.upsert(name, points)
        done.append("written")

    async def release(holder: str) -> None:
        done.append("released")
        await world.tools.applications.release(holder)

    store = world.with_store(Wrapped(world.store, upsert=upsert)).stores
    tools = with_applications(world, release=release)
    tools = Tools(tools.ledger, tools.objects, tools.applications, tools.ranges, store)
    async with world.applier(tools):
        await entered.wait()
        asyncio.get_running_loop().call_later(0.5, opened.set)
    assert done == ["written", "released"]
    assert (await world.status(generation)).applied == 2


async def test_a_lost_lease_is_taken_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "LEASE_SECONDS", LONG)  # no renewal notices it
    generation = await world.generation()
    await history(world, generation)
    applications, lost = world.tools.applications, []

    async def receipt(lease: Lease, *facts: Any) -> None:
        if len(lost) < 2:
            await applications.release(lease.holder)
            lost.append(lease.epoch)
            with pytest.raises(Conflict) as refused:
                await applications.receipt(lease, *facts)
            raise refused.value
        await applications.receipt(lease, *facts)

    async with world.applier(with_applications(world, receipt=receipt)):
        await world.applied(generation)
    assert lost == [1, 2]
    await assert_equal(world, generation)


async def test_a_store_that_does_not_answer_is_waited_for(world: World) -> None:
    generation = await world.generation()
    await history(world, generation)
    upsert = before(world.store.upsert, Unavailable("away"), times=3)
    async with world.applier(world.with_store(Wrapped(world.store, upsert=upsert))):
        await world.applied(generation)
    await assert_equal(world, generation)
    assert await world.events("application.change-dead-lettered") == []


def poison() -> PointBatch:
    """Points that a collection of documents does not take."""
    return code_points(["1"] * 3, first=700)


async def halted(world: World) -> tuple[UUID, UUID]:
    """A generation that halts at its third change, and one that does not."""
    sick, well = await world.generation("sick"), await world.generation("well")
    for generation in (sick, well):
        await world.write(generation, document_points(["1"] * 5))
    await world.write(sick, poison())
    for generation in (sick, well):
        await world.write(generation, document_points(["1"] * 5, first=50, seed=5))
    return sick, well


async def test_a_poison_change_halts_its_collection_only(world: World) -> None:
    sick, well = await halted(world)
    deliveries = LedgerDeliveries(world.ledger)
    async with world.applier(deliveries=deliveries):
        stopped, other = await world.applied(sick), await world.applied(well)
        await eventually(lambda: nothing_open(deliveries))
    assert (stopped.applied, stopped.halted_at, stopped.recorded) == (2, 3, 4)
    assert (other.applied, other.halted_at) == (3, None)
    await assert_equal(world, well)
    (letter,) = await world.events("application.change-dead-lettered")
    said = vars(letter.event)
    assert (said["change"], said["category"]) == (3, "Rejected")
    assert "it has no vector" in said["cause"]


async def test_a_collection_that_halts_holds_up_no_offset(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever delivers is told at once, and not when something else happens to the collection."""
    monkeypatch.setattr(dead_letters, "SHORTEST_SECONDS", LONG)
    monkeypatch.setattr(apply_changes, "POLL_SECONDS", LONG)
    await halted(world)
    deliveries = LedgerDeliveries(world.ledger)
    async with world.applier(deliveries=deliveries):
        await eventually(lambda: nothing_open(deliveries))


async def test_a_dead_letter_is_tried_again_and_skipped(world: World) -> None:
    sick, _ = await halted(world)
    applications = world.tools.applications
    async with world.applier():
        await world.applied(sick)
        await applications.retry(sick, MARA)
        again = await world.applied(sick)
        assert again.halted_at == 3
        await applications.skip(sick, MARA)
        status = await world.applied(sick)
    assert (status.applied, status.halted_at) == (4, None)
    assert len(await world.events("application.change-dead-lettered")) == 2
    verification = await world.verify(await physical(world, sick))
    assert (verification.missing, verification.extra, verification.changed) == (3, 0, 0)
    assert verification.examples["missing"] == [700, 701, 702]


async def test_a_dead_letter_whose_cause_is_gone_is_applied(world: World) -> None:
    generation = await world.generation()
    await world.write(generation, document_points(["1"] * 5))
    upsert = before(world.store.upsert, Rejected("full"), times=2)
    async with world.applier(world.with_store(Wrapped(world.store, upsert=upsert))):
        assert (await world.applied(generation)).halted_at == 2
        await world.tools.applications.retry(generation, MARA)
        assert (await world.applied(generation)).halted_at is None
    await assert_equal(world, generation)


def large() -> PointBatch:
    """Points whose body is a file, not a row."""
    points = document_points(["1"] * 4)
    text = Random(1).randbytes(200_000).hex()
    points.payloads[1] = encode_payload({"source_id": "1", "text": text})
    return points


@pytest.mark.parametrize("fault", ["ObjectMissing", "Corrupt"])
async def test_a_body_that_is_missing_or_altered_halts_visibly(
    world: World, tmp_path: Path, fault: str
) -> None:
    generation = await world.generation()
    await world.write(generation, document_points(["1"] * 2, first=50))
    address = await world.write(generation, large())
    await world.write(generation, document_points(["1"] * 2, first=60))
    body = tmp_path / "objects" / address[:2] / address[2:]
    content = body.read_bytes()
    body.unlink()
    if fault == "Corrupt":
        body.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    async with world.applier():
        stopped = await world.applied(generation)
        assert (stopped.applied, stopped.halted_at) == (2, 3)
        (letter,) = await world.events("application.change-dead-lettered")
        assert vars(letter.event)["category"] == fault
        assert address in vars(letter.event)["cause"]
        assert await world.tools.objects.put(encode_body(large())) == address
        await world.tools.applications.retry(generation, MARA)
        status = await world.applied(generation)

    assert (status.applied, status.halted_at) == (4, None)
    await assert_equal(world, generation)


async def test_named_and_sparse_vectors_are_applied(world: World) -> None:
    generation = await world.generation("code", CODE)
    points = code_points(["1"] * 50)
    await world.write(generation, points)
    await world.write(generation, code_points(["2"] * 10, seed=9))
    await world.delete(generation, [key_of(1), key_of(50)])
    async with world.applier():
        await world.applied(generation)
    await assert_equal(world, generation)
    assert await world.store.count(await physical(world, generation)) == 48


@pytest.mark.broker
async def test_through_the_broker(
    world: World, database: Database, broker_settings: KafkaSettings
) -> None:
    generation = await world.generation()
    await history(world, generation)
    stop = asyncio.Event()
    async with (
        Publisher(broker_settings) as publisher,
        ChangeConsumer(broker_settings, ledger="a-ledger") as consumer,
        asyncio.TaskGroup() as group,
    ):
        cursors = PostgresCursors(database)
        group.create_task(relay(world.ledger, cursors, world.leaders, publisher, "relay", stop))
        group.create_task(Applier(world.tools, consumer, "applier").run(stop))
        await world.applied(generation)
        await history(world, generation, seed=2)
        await world.applied(generation)
        stop.set()
    await assert_equal(world, generation)


async def test_a_takeover_leaves_captured_points_to_those_who_wrote_them(world: World) -> None:
    await world.fill()
    await world.migrate()
    known = await world.tools.applications.generations(physical=world.docs)
    theirs = document_points(["somebody else's"], first=1, seed=9)
    await world.store.upsert(world.docs, theirs)

    effects = Effects(world.tools, BodyCache(world.tools.objects))
    await effects.verify_last_window(known[-1].generation, known[-1].applied)

    assert await world.store.retrieve(world.docs, theirs.keys) == theirs
