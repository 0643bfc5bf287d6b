"""A halted ledger: nothing is recorded, leased, claimed or led, and everything can be read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from adapters.postgres.applications import PostgresApplications
from adapters.postgres.connection import Database, open_database
from adapters.postgres.cursors import PostgresCursors
from adapters.postgres.flow_ranges import PostgresFlowRanges
from adapters.postgres.leaders import PostgresLeaders
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.timelines import PostgresTimelines
from adapters.postgres.views import PostgresViews
from domain.model.application import Application
from domain.model.errors import Conflict, Halted
from domain.model.recorded import Cursor
from domain.model.timeline import Finding, Standing, Timeline
from domain.ports import Lease, Recovered
from tests.contract.builders import CONTEXT, application, command, create, draft, generation

LONG = 1000.0  # seconds: a lease that does not run out in a test


def finding(where: str = "topic ledger.events[3]", position: int = 812) -> Finding:
    says = f"{where} is at position {position}, and the ledger ends at 640"
    return Finding(where, position, "ab" * 32, 1, says)


@dataclass(frozen=True)
class Adapters:
    """All that is asked of one database."""

    ledger: PostgresLedger
    applications: PostgresApplications
    ranges: PostgresFlowRanges
    leaders: PostgresLeaders
    cursors: PostgresCursors
    views: PostgresViews
    timelines: PostgresTimelines

    @classmethod
    def of(cls, database: Database, ledger: PostgresLedger) -> "Adapters":
        return cls(
            ledger,
            PostgresApplications(database, ledger.wakeups),
            PostgresFlowRanges(database),
            PostgresLeaders(database),
            PostgresCursors(database),
            PostgresViews(database),
            PostgresTimelines(database),
        )


@pytest.fixture
def adapters(database: Database, ledger: PostgresLedger) -> Adapters:
    return Adapters.of(database, ledger)


@pytest.fixture
async def recovering(ledger_database: str) -> AsyncIterator[Adapters]:
    """The adapters of a recovery."""
    async with (
        open_database(ledger_database, recovering=True) as database,
        PostgresLedger(database) as ledger,
    ):
        yield Adapters.of(database, ledger)


async def leased(adapters: Adapters) -> Lease:
    stream = await create(adapters.ledger)
    lease = await adapters.applications.acquire(stream, "a", LONG, 0)
    assert lease is not None
    return lease


Effect = Callable[[Adapters, Lease], Awaitable[Any]]
EFFECTS: dict[str, Effect] = {
    "append one event": lambda a, _: a.ledger.append(command("x", application(7))),
    "append several": lambda a, _: a.ledger.append(command("x", application(7, receipts=3))),
    "append to a generation": lambda a, _: a.ledger.append(command("x", generation("other"))),
    "record changes": lambda a, lease: a.ledger.record(
        "x", CONTEXT, [draft(lease.generation, {1: 1})]
    ),
    "record a receipt": lambda a, lease: a.applications.receipt(lease, 1, 0, CONTEXT),
    "record a dead letter": lambda a, lease: a.applications.dead_letter(
        lease, 1, "Rejected", "no", CONTEXT
    ),
    "take a lease": lambda a, lease: a.applications.acquire(lease.generation, "a", LONG, 0),
    "renew a lease": lambda a, lease: a.applications.renew("a", LONG, [lease.generation]),
    "claim a range": lambda a, _: a.ranges.claim("a", LONG),
    "work": lambda a, _: a.ledger.working(),
}


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS)
async def test_nothing_has_an_effect_while_work_is_halted(
    adapters: Adapters, effect: Effect
) -> None:
    lease = await leased(adapters)
    await adapters.ranges.plan(UUID(int=5), [{"after": ""}])
    before = await adapters.ledger.head()
    await adapters.ledger.halt([finding()])
    with pytest.raises(Halted, match=r"ledger\.events\[3\] is at position 812.*recover"):
        await effect(adapters, lease)
    assert await adapters.ledger.head() == before
    assert (await adapters.applications.generations())[0].applied == 0


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS)
async def test_a_recovery_goes_on_while_work_is_halted(
    adapters: Adapters, recovering: Adapters, effect: Effect
) -> None:
    lease = await leased(adapters)
    await adapters.ranges.plan(UUID(int=5), [{"after": ""}])
    await adapters.ledger.halt([finding()])
    await effect(recovering, lease)


async def test_a_leader_is_not_confirmed_while_work_is_halted(adapters: Adapters) -> None:
    async with adapters.leaders.lead("relay", "a") as leadership:
        await adapters.leaders.confirm(leadership)
        await adapters.ledger.halt([finding()])
        with pytest.raises(Halted):
            await adapters.leaders.confirm(leadership)


async def test_what_was_recorded_before_is_answered_while_work_is_halted(
    adapters: Adapters,
) -> None:
    first = await adapters.ledger.append(command("x", application(receipts=2)))
    await adapters.ledger.halt([finding()])
    again = await adapters.ledger.append(command("x", application(receipts=2)))
    assert (again.position, again.count, again.repeated) == (first.position, first.count, True)
    assert len(await adapters.ledger.read(0, 10)) == 3
    assert await adapters.ledger.load(Application, application().id)


async def test_an_append_that_waits_for_its_turn_is_refused_when_work_halts_meanwhile(
    adapters: Adapters, database: Database
) -> None:
    async def refused() -> None:
        with pytest.raises(Halted):
            await adapters.ledger.append(command("x", application()))

    async with database.connection() as other, asyncio.TaskGroup() as group:
        turn = other.transaction()
        await turn.start()
        await other.execute("SELECT pg_advisory_xact_lock(5569203478133)")
        group.create_task(refused())
        while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass
        await adapters.ledger.halt([finding()])
        await turn.commit()
    assert (await adapters.ledger.head()).position == 0


async def test_findings_are_added_and_the_first_moment_stays(adapters: Adapters) -> None:
    assert (await adapters.ledger.standing()).halt is None
    await adapters.ledger.halt([finding()])
    first = (await adapters.ledger.standing()).halt
    await adapters.ledger.halt([finding(position=900), finding("collection a of store b", 7)])
    halt = (await adapters.ledger.standing()).halt
    assert first is not None
    assert halt is not None
    assert halt.since == first.since
    assert halt.findings == (finding("collection a of store b", 7), finding())
    with pytest.raises(Halted, match="collection a of store b is at position 7"):
        await adapters.ledger.working()


async def test_a_timeline_begins_and_ends_with_its_events(
    adapters: Adapters, recovering: Adapters
) -> None:
    await adapters.ledger.append(command("x", application()))
    await adapters.ledger.halt([finding()])
    head = await adapters.ledger.head()
    before = await adapters.ledger.standing()
    made = Timeline(2, head.position, head.hash.hex(), [finding().to_json()])
    await recovering.timelines.start(made, CONTEXT)
    standing = await adapters.ledger.standing()
    assert (standing.ledger, standing.timeline) == (before.ledger, 2)
    assert standing.halt == before.halt
    with pytest.raises(Halted):
        await adapters.ledger.working()

    loaded = await adapters.ledger.load(Timeline, Timeline.create_id(2))
    assert loaded is not None
    assert (loaded.number, loaded.position, loaded.recovered) == (2, 1, False)
    assert loaded.found == [finding()]
    loaded.finish({"collections": 3})
    await recovering.timelines.finish(loaded, CONTEXT)
    assert await adapters.ledger.standing() == Standing(before.ledger, 2)
    await adapters.ledger.working()
    topics = [one.topic for one in await adapters.ledger.read(1, 10)]
    assert topics == ["timeline.started", "timeline.recovered"]


async def test_beginning_the_same_timeline_again_changes_nothing(
    adapters: Adapters, recovering: Adapters
) -> None:
    for _ in range(2):
        await recovering.timelines.start(Timeline(2, 0, "", []), CONTEXT)
    assert (await adapters.ledger.standing()).timeline == 2
    assert (await adapters.ledger.head()).position == 1


async def test_work_goes_on_without_a_timeline(adapters: Adapters, recovering: Adapters) -> None:
    await adapters.ledger.halt([finding()])
    await recovering.timelines.finish(None, CONTEXT)
    await adapters.ledger.append(command("x", application()))
    assert (await adapters.ledger.head()).position == 1


async def test_resetting_a_cursor_ends_the_leadership_that_moved_it(adapters: Adapters) -> None:
    async with adapters.leaders.lead("relay", "a") as leadership:
        await adapters.cursors.advance("relay", Cursor(5, b"5" * 32), leadership)
        await adapters.cursors.reset("relay")
        assert await adapters.cursors.get("relay") == Cursor()
        with pytest.raises(Conflict):
            await adapters.leaders.confirm(leadership)
        with pytest.raises(Conflict):
            await adapters.cursors.advance("relay", Cursor(6, b"6" * 32), leadership)
    assert await adapters.cursors.get("relay") == Cursor()


async def test_a_retired_build_is_read_until_another_takes_its_place(adapters: Adapters) -> None:
    views = adapters.views
    old = await views.publish(await views.open("migrations", 1))
    old = await views.store(old, {"a": {"n": 1}}, Cursor(5, b"5" * 32))
    await views.retire(old)
    assert [build.cursor for build in await views.builds()] == [Cursor()]
    with pytest.raises(Conflict):
        await views.store(old, {"a": {"n": 2}}, Cursor(6, b"6" * 32))
    new = await views.open("migrations", 1)
    assert new.number != old.number
    assert await views.get("migrations", "a") == {"n": 1}
    new = await views.store(new, {"a": {"n": 3}}, Cursor(1, b"1" * 32))
    await views.publish(new)
    assert await views.get("migrations", "a") == {"n": 3}
    assert [build.number for build in await views.builds()] == [new.number]


async def test_a_recovered_collection_has_a_receipt(
    adapters: Adapters, recovering: Adapters
) -> None:
    lease = await leased(adapters)
    await adapters.ledger.record("r", CONTEXT, [draft(lease.generation, {1: 1})])
    await adapters.applications.dead_letter(lease, 1, "Rejected", "no", CONTEXT)
    done = Recovered(through=2, missing=1, extra=2)
    await recovering.applications.recovered(lease, 2, done, CONTEXT)
    status = await adapters.applications.status(lease.generation)
    assert status is not None
    assert (status.applied, status.halted_at) == (2, None)
    loaded = await adapters.ledger.load(Application, Application.create_id(str(lease.generation)))
    assert loaded is not None
    assert (loaded.applied, loaded.halted_at, loaded.lacking) == (2, None, 0)


async def test_a_collection_that_lacks_points_halts_in_front_of_them(
    adapters: Adapters, recovering: Adapters
) -> None:
    lease = await leased(adapters)
    for number in range(3):
        await adapters.ledger.record(f"r{number}", CONTEXT, [draft(lease.generation, {number: 1})])
    await adapters.applications.receipt(lease, 4, 3, CONTEXT)
    lacking = Recovered(through=2, missing=1, lacking=1, cause="object ab is gone")
    await recovering.applications.recovered(lease, 2, lacking, CONTEXT)
    status = await adapters.applications.status(lease.generation)
    assert status is not None
    assert (status.applied, status.halted_at) == (2, 3)
    loaded = await adapters.ledger.load(Application, Application.create_id(str(lease.generation)))
    assert loaded is not None
    assert (loaded.lacking, loaded.category, loaded.cause) == (
        1,
        "ObjectMissing",
        "object ab is gone",
    )
