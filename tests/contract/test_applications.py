"""Leases, receipts and dead letters of appliers."""

import asyncio
from uuid import UUID, uuid4

import pytest

from adapters.postgres.applications import PostgresApplications
from adapters.postgres.connection import Database
from adapters.postgres.ledger import PostgresLedger
from domain.model.application import Application
from domain.model.errors import Conflict, NotFound, Rejected
from domain.model.generation import Generation
from domain.ports import Lease
from tests.contract.builders import CONTEXT, command, create, draft

LONG = 1000.0  # seconds: a lease that does not run out in a test
OVER = -1.0  # seconds: a lease that ran out already


@pytest.fixture
def applications(database: Database, ledger: PostgresLedger) -> PostgresApplications:
    return PostgresApplications(database, ledger.wakeups)


async def take(
    applications: PostgresApplications,
    generation: UUID,
    holder: str = "a",
    ttl: float = LONG,
    grace: float = LONG,
) -> Lease:
    lease = await applications.acquire(generation, holder, ttl, grace)
    assert lease is not None
    return lease


async def reports(ledger: PostgresLedger, generation: UUID) -> list[str]:
    return [one.topic for one in await ledger.events(Application.create_id(str(generation)))]


async def test_where_generations_stand(
    ledger: PostgresLedger, applications: PostgresApplications
) -> None:
    first = await create(ledger, "a", store="prod")
    second = await create(ledger, "b", store="test")
    await ledger.record("r", CONTEXT, [draft(second, {1: 1, 2: 2})])
    made = await ledger.load(Generation, first)
    assert made is not None
    made.drop()
    await ledger.append(command("drop", made))

    one = await applications.status(first)
    two = await applications.status(second)

    assert one is not None
    assert two is not None
    assert (one.collection, one.store, one.physical, one.number) == ("docs", "prod", "a", 1)
    assert (one.recorded, one.applied, one.points, one.halted_at, one.gone) == (2, 0, 0, None, True)
    assert (two.recorded, two.points, two.gone) == (2, 2, False)
    assert await applications.generations() == [one, two]
    assert await applications.generations(store="test") == [two]
    assert await applications.generations(physical="a") == [one]
    assert await applications.generations(store="prod", physical="b") == []
    assert await applications.status(uuid4()) is None


async def test_lagging_is_what_has_changes_to_apply(
    ledger: PostgresLedger, applications: PostgresApplications
) -> None:
    first, second = await create(ledger, "a"), await create(ledger, "b")

    async def lagging() -> list[UUID]:
        return [one.generation for one in await applications.lagging()]

    assert await lagging() == [first, second]
    await applications.receipt(await take(applications, first), 1, 0, CONTEXT)
    assert await lagging() == [second]
    await ledger.record("r", CONTEXT, [draft(first, {1: 1})])
    assert await lagging() == [first, second]
    lease = await take(applications, second)
    await applications.dead_letter(lease, 1, "rejected", "no such vector", CONTEXT)
    assert await lagging() == [first]


async def test_one_holder_at_a_time(
    ledger: PostgresLedger, applications: PostgresApplications
) -> None:
    stream = await create(ledger)
    lease = await take(applications, stream)
    assert lease == Lease(stream, "a", epoch=1, applied=0, taken_over=False)
    assert await applications.acquire(stream, "b", LONG, 0) is None
    assert await take(applications, stream) == lease


async def test_a_successor_waits_for_the_grace(
    ledger: PostgresLedger, applications: PostgresApplications
) -> None:
    stream = await create(ledger)
    await take(applications, stream, ttl=OVER)
    assert await applications.acquire(stream, "b", LONG, LONG) is None
    lease = await take(applications, stream, "b", grace=0)
    assert (lease.epoch, lease.taken_over) == (2, True)


async def test_a_released_lease_has_no_grace(
    ledger: PostgresLedger, applications: PostgresApplications
) -> None:
    stream = await create(ledger)
    old = await take(applications, stream)
    await applications.receipt(old, 1, 0, CONTEXT)
    await applications.release("a")
    with pytest.raises(Conflict, match="a lost its lease on collection docs__g1"):
        await applications.receipt(old, 2, 0, CONTEXT)
    lease = await take(applications, stream, "b")
    assert lease == Lease(stream, "b", epoch=2, applied=1, taken_over=False)


async def test_only_one_of_many_gets_the_lease(
    ledger: PostgresLedger, applications: PostgresApplications
) -> None:
    stream = await create(ledger)
    leases = await asyncio.gather(
        *(applications.acquire(stream, f"h{number}", LONG, 0) for number in range(8))
    )
    assert sum(lease is not None for lease in leases) == 1


async def test_renewing(ledger: PostgresLedger, applications: PostgresApplications) -> None:
    first, second, third = [await create(ledger, name) for name in "abc"]
    await take(applications, first, ttl=OVER)
    await take(applications, second, ttl=OVER)
    await take(applications, third, "b")
    await take(applications, second, "b", grace=0)
    assert await applications.renew("a", LONG, [first, second]) == {first}
    assert await applications.acquire(first, "b", LONG, 0) is None
    assert await applications.renew("nobody", LONG, [first]) == set()


async def test_receipts_are_events_and_never_go_back(
    ledger: PostgresLedger, applications: PostgresApplications
) -> None:
    stream = await create(ledger)
    lease = await take(applications, stream)

    await applications.receipt(lease, 1, 0, CONTEXT)
    await applications.receipt(lease, 4, 30, CONTEXT)
    await applications.receipt(lease, 4, 30, CONTEXT)
    await applications.receipt(lease, 2, 10, CONTEXT)

    assert await reports(ledger, stream) == [
        "application.created",
        "application.changes-applied",
        "application.changes-applied",
    ]
    status = await applications.status(stream)
    loaded = await ledger.load(Application, Application.create_id(str(stream)))
    assert status is not None
    assert loaded is not None
    assert (status.applied, loaded.applied) == (4, 4)
    assert (loaded.generation, loaded.physical) == (str(stream), "docs__g1")
    assert (await take(applications, stream)).applied == 4


async def test_a_lost_lease_reports_nothing(
    ledger: PostgresLedger, applications: PostgresApplications
) -> None:
    stream = await create(ledger)
    old = await take(applications, stream, ttl=OVER)
    await take(applications, stream, "b", grace=0)
    with pytest.raises(Conflict):
        await applications.receipt(old, 1, 0, CONTEXT)
    with pytest.raises(Conflict):
        await applications.dead_letter(old, 1, "rejected", "x", CONTEXT)
    again = await take(applications, stream, "b")
    with pytest.raises(Conflict):
        await applications.receipt(Lease(stream, "b", again.epoch - 1, 0, False), 1, 0, CONTEXT)  # noqa: FBT003
    assert await reports(ledger, stream) == []


async def test_a_dead_letter_halts_until_it_is_retried(
    ledger: PostgresLedger, applications: PostgresApplications
) -> None:
    stream = await create(ledger)
    lease = await take(applications, stream)
    await applications.receipt(lease, 1, 0, CONTEXT)
    await applications.dead_letter(lease, 2, "rejected", "wrong dimension", CONTEXT)
    await applications.dead_letter(lease, 2, "rejected", "wrong dimension", CONTEXT)

    halted = await applications.status(stream)
    await applications.retry(stream, CONTEXT)
    retried = await applications.status(stream)

    assert halted is not None
    assert retried is not None
    assert (halted.applied, halted.halted_at) == (1, 2)
    assert (retried.applied, retried.halted_at) == (1, None)
    assert (await reports(ledger, stream))[2:] == [
        "application.change-dead-lettered",
        "application.change-retried",
    ]
    with pytest.raises(Rejected, match="docs__g1 has no dead letter"):
        await applications.retry(stream, CONTEXT)


async def test_a_skipped_dead_letter_counts_as_applied(
    ledger: PostgresLedger, applications: PostgresApplications
) -> None:
    stream = await create(ledger)
    with pytest.raises(Rejected, match="no dead letter"):
        await applications.skip(stream, CONTEXT)
    lease = await take(applications, stream)
    await applications.dead_letter(lease, 1, "rejected", "x", CONTEXT)
    await applications.skip(stream, CONTEXT)
    status = await applications.status(stream)
    assert status is not None
    assert (status.applied, status.halted_at) == (1, None)
    loaded = await ledger.load(Application, Application.create_id(str(stream)))
    assert loaded is not None
    assert (loaded.applied, loaded.halted_at) == (1, None)


async def test_an_unknown_generation(applications: PostgresApplications) -> None:
    unknown = uuid4()
    assert await applications.acquire(unknown, "a", LONG, 0) is None
    with pytest.raises(NotFound):
        await applications.retry(unknown, CONTEXT)


async def test_receipts_wake_readers(database: Database) -> None:
    async with PostgresLedger(database, poll=100.0) as ledger, asyncio.timeout(30):
        applications = PostgresApplications(database, ledger.wakeups)
        stream = await create(ledger)
        lease = await take(applications, stream)
        async with asyncio.TaskGroup() as group:
            group.create_task(ledger.wait(2, 60))
            group.create_task(applications.receipt(lease, 1, 0, CONTEXT))
