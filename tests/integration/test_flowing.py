"""Flow workers: races, crashes, takeovers, flows that are stopped, ranges that fail."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from domain.model.errors import InvalidPoint, LedgerError, Unavailable
from domain.model.flow import Flow, FlowRange
from domain.model.migration import State
from domain.model.points import PointBatch
from domain.ports import RangeClaim
from domain.use_cases import work_flows
from domain.use_cases.flows import reading
from domain.use_cases.steer_migration import cancel_migration
from domain.use_cases.steps.flow_control import ATTEMPTS
from domain.use_cases.tools import Tools, save
from domain.use_cases.work_flows import work_range
from tests.integration.builders import DOCS, document_points
from tests.integration.faults import Crash, Wrapped, after, before
from tests.integration.worlds import MARA, World, eventually

LONG = 1000.0  # seconds
OVER = -1.0  # seconds: a lease that ran out already


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several ranges of a few points."""
    monkeypatch.setattr(reading, "CHANGE_SETS_A_RANGE", 2)


def with_ranges(world: World, **methods: Any) -> Tools:
    """The tools, with some methods of the queue replaced."""
    tools = world.tools
    ranges = Wrapped(tools.ranges, **methods)
    return Tools(tools.ledger, tools.objects, tools.applications, ranges, tools.stores)


async def a_flow(world: World) -> tuple[UUID, UUID, UUID]:
    """A flow of 60 points from one generation to another, whose first range is in the queue."""
    source = await world.generation("source")
    target = await world.generation("target")
    await world.write(source, document_points(["1"] * 60))
    flow = Flow(
        migration="m",
        step="flow/do/source",
        kind="route",
        source=str(source),
        through=2,
        batch=10,
        field="source_id",
        routes={"1": {"generation": str(target), "captured_at": 1}},
    )
    await save(world.ledger, flow, "flow", MARA)
    await world.tools.ranges.plan(flow.id, [{"after": ""}])
    return flow.id, source, target


async def claimed(world: World, holder: str = "a", ttl: float = LONG) -> RangeClaim:
    """Claim a range."""
    claim = await world.tools.ranges.claim(holder, ttl)
    assert claim is not None
    return claim


async def flow_to_its_end(world: World, tools: Tools | None = None, workers: int = 1) -> None:
    """Run workers until no range is left."""

    async def empty() -> bool:
        return not await world.tools.ranges.remaining()

    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            worker = work_flows.work_flows(tools or world.tools, f"worker {number}", stop)
            group.create_task(worker)
        await eventually(empty)
        stop.set()


async def assert_flowed_once(world: World, target: UUID) -> None:
    """Every point came once: 6 change sets of 10, 3 ranges, and one empty at the end or none."""
    ranges = [vars(one.event) for one in await world.events("flow.range-recorded")]
    assert [one["number"] for one in ranges] == list(range(len(ranges)))
    assert sum(one["read"] for one in ranges) == 60
    changes = [
        vars(one.event)
        for one in await world.events("generation.change-set-recorded")
        if one.stream == target
    ]
    assert [one["upserts"] for one in changes] == [10] * 6
    assert (await world.status(target)).points == 60


async def test_a_flow_goes_range_by_range(world: World) -> None:
    _, _, target = await a_flow(world)
    await flow_to_its_end(world)
    await assert_flowed_once(world, target)


async def test_workers_share_a_flow(world: World) -> None:
    _, _, target = await a_flow(world)
    await flow_to_its_end(world, workers=4)
    await assert_flowed_once(world, target)


async def test_two_workers_race_for_one_range(world: World) -> None:
    _, _, target = await a_flow(world)
    slow = await claimed(world, "slow", OVER)
    fast = await claimed(world, "fast")
    assert (slow.number, fast.number) == (0, 0)
    answers = await asyncio.gather(*(work_range(world.tools, c) for c in (slow, fast, slow)))
    assert answers[0] == answers[1] == answers[2]
    assert len(await world.events("flow.range-recorded")) == 1
    assert (await world.status(target)).points == 20
    for claim, following in zip((slow, fast), answers, strict=False):
        await world.tools.ranges.finish(claim, following)
    await flow_to_its_end(world)
    await assert_flowed_once(world, target)


async def test_two_workers_read_different_things_in_one_range(world: World) -> None:
    """What is recorded first counts, also for the worker that saw something else."""
    source = await world.generation("captured")
    name = world.named("captured")
    await world.share(name, DOCS, document_points(["1"] * 30))
    flow = Flow("m", "adopt/do/x", "capture", str(source), 2, 10, "", {})
    await save(world.ledger, flow, "flow", MARA)
    await world.tools.ranges.plan(flow.id, [{"after": ""}])
    claim = await claimed(world)
    first = await work_range(world.tools, claim)
    head = await world.ledger.head()
    await world.store.delete(name, document_points(["1"] * 30).keys[:25])
    found = await world.ledger.load(FlowRange, FlowRange.create_id(str(flow.id), 0))
    assert found is not None

    hidden = before(world.ledger.load, Crash(), times=0)
    seen: list[Any] = []

    async def load(kind: Any, stream: UUID) -> Any:
        if kind is FlowRange and not seen:
            seen.append(stream)
            return None
        return await hidden(kind, stream)

    tools = world.tools
    late = Tools(
        Wrapped(tools.ledger, load=load),
        tools.objects,
        tools.applications,
        tools.ranges,
        tools.stores,
    )
    assert await work_range(late, claim) == first
    assert seen
    assert await world.ledger.head() == head


@pytest.mark.parametrize("fault", [before, after])
async def test_a_worker_killed_around_its_finish_does_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    monkeypatch.setattr(work_flows, "LEASE_SECONDS", 0.1)
    _, _, target = await a_flow(world)
    finish = fault(world.tools.ranges.finish, Crash(), nth=2)
    with pytest.raises(BaseExceptionGroup) as killed:
        await flow_to_its_end(world, with_ranges(world, finish=finish))
    assert killed.group_contains(Crash)
    assert await world.tools.ranges.remaining() == 1
    await flow_to_its_end(world)
    await assert_flowed_once(world, target)


@pytest.mark.parametrize("fault", [before, after])
async def test_a_worker_killed_around_its_record_does_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    monkeypatch.setattr(work_flows, "LEASE_SECONDS", 0.1)
    _, _, target = await a_flow(world)
    tools = world.tools
    ledger = Wrapped(tools.ledger, record=fault(tools.ledger.record, Crash(), nth=2))
    dying = Tools(ledger, tools.objects, tools.applications, tools.ranges, tools.stores)
    with pytest.raises(BaseExceptionGroup) as killed:
        await flow_to_its_end(world, dying)
    assert killed.group_contains(Crash)
    await flow_to_its_end(world)
    await assert_flowed_once(world, target)


async def test_a_range_whose_lease_ran_out_is_taken_over(world: World) -> None:
    _, _, target = await a_flow(world)
    dead = await claimed(world, "dead", OVER)
    await flow_to_its_end(world)
    await assert_flowed_once(world, target)
    head = await world.ledger.head()
    following = await work_range(world.tools, dead)
    await world.tools.ranges.finish(dead, following)
    await world.tools.ranges.put_back(dead, "late")
    assert await world.tools.ranges.remaining() == 0
    assert await world.ledger.head() == head


async def test_a_slow_worker_keeps_its_range(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_flows, "LEASE_SECONDS", 0.9)
    _, _, target = await a_flow(world)
    renewed: list[bool] = []
    enough = asyncio.Event()

    async def renew(*facts: Any) -> bool:
        renewed.append(await world.tools.ranges.renew(*facts))
        if len(renewed) == 3:
            enough.set()
        return renewed[-1]

    async def heads(*args: Any, **kwargs: Any) -> Any:
        await enough.wait()
        return await world.ledger.heads(*args, **kwargs)

    tools = world.tools
    slow = Tools(
        Wrapped(tools.ledger, heads=heads),
        tools.objects,
        tools.applications,
        Wrapped(tools.ranges, renew=renew),
        tools.stores,
    )
    await flow_to_its_end(world, slow)
    assert renewed[:3] == [True] * 3
    await assert_flowed_once(world, target)


async def test_a_later_write_to_the_target_is_not_overwritten(world: World) -> None:
    _, _, target = await a_flow(world)
    newer = document_points(["1"] * 3, seed=77)
    await world.write(target, newer)
    await flow_to_its_end(world)
    heads = await world.ledger.heads_of(target, newer.keys)
    written = dict(zip(newer.keys, newer.hashes(), strict=True))
    assert dict(zip(heads.keys, heads.hashes, strict=True)) == written


async def test_a_flow_stopped_by_a_rollback_records_nothing_afterwards(world: World) -> None:
    await world.fill()
    planned = await world.plan()
    await world.start(planned)
    held, go_on = asyncio.Event(), asyncio.Event()
    outcome: list[Any] = []

    async def claim(holder: str, ttl: float) -> RangeClaim | None:
        found = await world.tools.ranges.claim(holder, ttl)
        flow = await world.ledger.load(Flow, found.flow) if found else None
        if found is None or flow is None or flow.kind != "follow" or held.is_set():
            return found
        held.set()
        await go_on.wait()
        try:
            outcome.append(await work_range(world.tools, found))
        except LedgerError as error:
            outcome.append(error)
        return None

    async with world.workers(with_ranges(world, claim=claim)):
        await held.wait()
        await cancel_migration(world.tools, planned.id, MARA)
        done = await world.settled(planned.id)
        head = await world.ledger.head()
        go_on.set()
        await eventually(lambda: as_true(outcome))
    assert done.state is State.CANCELLED
    assert outcome == [None]
    assert [one for one in await world.events("flow.") if one.position > head.position] == []
    assert [one for one in await world.events("generation.") if one.position > head.position] == []
    assert await world.tools.ranges.remaining() == 0


async def as_true(found: list[Any]) -> bool:
    """Whether there is something."""
    return bool(found)


async def test_a_capture_stopped_by_a_rollback_leaves_no_range_behind(world: World) -> None:
    await world.fill()
    planned = await world.plan()
    await world.start(planned)
    held, go_on = asyncio.Event(), asyncio.Event()

    async def scan(name: str, **where: Any) -> AsyncIterator[PointBatch]:
        async for page in world.store.scan(name, **where):
            held.set()
            await go_on.wait()
            yield page

    async with world.workers(world.with_store(Wrapped(world.store, scan=scan))):
        await held.wait()
        await cancel_migration(world.tools, planned.id, MARA)
        done = await world.settled(planned.id)
        go_on.set()
    assert done.state is State.CANCELLED
    assert await world.tools.ranges.remaining() == 0
    assert await world.events("generation.change-set-recorded") == []


async def test_a_range_that_fails_once_is_tried_again(world: World) -> None:
    _, _, target = await a_flow(world)
    get = before(world.tools.objects.get, InvalidPoint("odd"), times=ATTEMPTS - 1)
    tools = world.tools
    failing = Tools(
        tools.ledger,
        Wrapped(tools.objects, get=get),
        tools.applications,
        tools.ranges,
        tools.stores,
    )
    await flow_to_its_end(world, failing)
    await assert_flowed_once(world, target)


async def test_a_server_that_is_away_is_no_failure_of_a_range(world: World) -> None:
    flow, _, target = await a_flow(world)
    get = before(world.tools.objects.get, Unavailable("away"), times=3 * ATTEMPTS)
    tools, failing = world.tools, []

    async def put_back(*args: Any, **kwargs: Any) -> None:
        await tools.ranges.put_back(*args, **kwargs)
        failing.append(await tools.ranges.failing(flow, 1))

    away = Tools(
        tools.ledger,
        Wrapped(tools.objects, get=get),
        tools.applications,
        Wrapped(tools.ranges, put_back=put_back),
        tools.stores,
    )
    await flow_to_its_end(world, away)
    await assert_flowed_once(world, target)
    assert failing == [None] * 3 * ATTEMPTS


async def test_retrying_forgets_failures(world: World) -> None:
    flow, _, _ = await a_flow(world)
    ranges = world.tools.ranges
    for _ in range(ATTEMPTS):
        await ranges.put_back(await claimed(world), "odd")
    assert await ranges.failing(flow, ATTEMPTS) == "odd"
    held = await claimed(world)
    await ranges.wake(flow)
    assert await ranges.failing(flow, 1) is None
    assert await ranges.claim("b", LONG) is None
    await ranges.put_back(held, "odd again")
    assert await ranges.failing(flow, 1) == "odd again"
    assert await ranges.failing(flow, 2) is None


async def test_a_range_that_failed_until_a_pause_is_tried_again_after_it(world: World) -> None:
    await world.fill()
    planned = await world.plan(on_failure="pause")
    paused = await world.run(planned, refusing(world))
    assert paused.state is State.FAILED
    assert paused.error == "point 7 is odd"
    again = await world.run(planned, refusing(world))
    assert again.state is State.FAILED
    done = await world.run(planned)
    assert done.state is State.COMPLETED
    assert done.statistics["points_moved"] == 420


def refusing(world: World) -> Tools:
    """Tools that no point can be read with."""

    async def scan(name: str, **where: Any) -> AsyncIterator[PointBatch]:
        async for page in world.store.scan(name, **where):
            if name == world.code:
                raise InvalidPoint("point 7 is odd")
            yield page

    return world.with_store(Wrapped(world.store, scan=scan))


async def test_capturing_again_records_nothing_new(world: World) -> None:
    """A collection that the ledger looks after already is left as it is."""
    await world.fill()
    await world.migrate()
    changes = len(await world.events("generation.change-set-recorded"))
    await world.sql("DELETE FROM {schema}.sources")
    again = await world.migrate(name="again", unplaced="keep")
    assert again.results["adopt"]["captured"] == {world.docs: 0, world.code: 0}
    assert len(await world.events("generation.change-set-recorded")) == changes


def with_heads(world: World, heads: Any, **methods: Any) -> Tools:
    """The tools, with another way to read heads and to record."""
    tools = world.tools
    ledger = Wrapped(tools.ledger, heads=heads, **methods)
    return Tools(ledger, tools.objects, tools.applications, tools.ranges, tools.stores)


async def test_the_next_range_is_read_while_one_is_recorded(world: World) -> None:
    _, _, target = await a_flow(world)
    read: list[bytes] = []
    following = asyncio.Event()

    async def heads(generation: UUID, *, after: bytes, **others: Any) -> Any:
        read.append(after)
        if len(read) == 2:
            following.set()
        return await world.ledger.heads(generation, after=after, **others)

    async def record(*args: Any) -> Any:
        await following.wait()
        return await world.ledger.record(*args)

    await flow_to_its_end(world, with_heads(world, heads, record=record))
    await assert_flowed_once(world, target)
    assert len(read) == len(set(read)) == 4  # three ranges of points, and the end


async def test_what_cannot_be_read_ahead_is_read_when_it_is_claimed(world: World) -> None:
    _, _, target = await a_flow(world)
    heads = before(world.ledger.heads, Unavailable("away"), nth=2)
    await flow_to_its_end(world, with_heads(world, heads))
    await assert_flowed_once(world, target)


async def test_what_was_read_ahead_is_not_used_for_another_range(world: World) -> None:
    """Another worker takes the range in between, and this one gets the next but one."""
    _, _, target = await a_flow(world)
    taken: list[int] = []

    async def claim(holder: str, ttl: float) -> RangeClaim | None:
        found = await world.tools.ranges.claim(holder, ttl)
        if found is not None and found.number == 1 and not taken:
            taken.append(found.number)
            await world.tools.ranges.finish(found, await work_range(world.tools, found))
            return await world.tools.ranges.claim(holder, ttl)
        return found

    await flow_to_its_end(world, with_ranges(world, claim=claim))
    assert taken
    await assert_flowed_once(world, target)


async def test_a_worker_that_reads_ahead_stops(world: World) -> None:
    await a_flow(world)
    held, stop = asyncio.Event(), asyncio.Event()
    claims: list[RangeClaim | None] = []

    async def heads(generation: UUID, *, after: bytes, **others: Any) -> Any:
        if after:
            held.set()
            await asyncio.Event().wait()
        return await world.ledger.heads(generation, after=after, **others)

    async def claim(holder: str, ttl: float) -> RangeClaim | None:
        claims.append(None if claims else await world.tools.ranges.claim(holder, ttl))
        return claims[-1]

    tools = with_heads(world, heads)
    tools = Tools(
        tools.ledger,
        tools.objects,
        tools.applications,
        Wrapped(tools.ranges, claim=claim),
        tools.stores,
    )
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(work_flows.work_flows(tools, "worker", stop))
        await held.wait()
        stop.set()
