"""The queue of ranges: claims, leases, retries and what follows."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from adapters.postgres import flow_ranges
from adapters.postgres.connection import Database
from adapters.postgres.flow_ranges import PostgresFlowRanges
from adapters.postgres.ledger import PostgresLedger
from domain.ports import RangeClaim
from tests.contract.builders import CONTEXT, create, draft

LONG = 1000.0  # seconds
OVER = -1.0  # seconds: a lease that ran out already

# Whether a statement waits for a lock.
_WAITS = """
SELECT EXISTS (
    SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE NOT l.granted AND a.datname = current_database()
)
"""


@pytest.fixture
def ranges(database: Database) -> PostgresFlowRanges:
    return PostgresFlowRanges(database, retry_delay=0.0)


@pytest.fixture
def flow() -> UUID:
    return uuid4()


async def claimed(ranges: PostgresFlowRanges, ttl: float = LONG) -> RangeClaim:
    claim = await ranges.claim("a", ttl)
    assert claim is not None
    return claim


async def test_ranges_are_claimed_in_order_once(ranges: PostgresFlowRanges, flow: UUID) -> None:
    await ranges.plan(flow, [{"from": 0}, {"from": 10}])
    assert await ranges.remaining(flow) == 2
    assert await ranges.claim("a", LONG) == RangeClaim(flow, 0, {"from": 0}, 1)
    assert await ranges.claim("b", LONG) == RangeClaim(flow, 1, {"from": 10}, 1)
    assert await ranges.claim("a", LONG) is None
    assert await ranges.remaining(flow) == 2
    assert await ranges.remaining(uuid4()) == 0


async def test_planning_again_changes_nothing(ranges: PostgresFlowRanges, flow: UUID) -> None:
    await ranges.plan(flow, [{"n": 1}])
    await ranges.plan(flow, [{"n": 1}, {"n": 2}])
    assert await ranges.remaining(flow) == 1
    await ranges.finish(await claimed(ranges))
    await ranges.plan(flow, [{"n": 1}])
    assert await ranges.remaining(flow) == 0


async def test_many_workers_share_the_ranges(ranges: PostgresFlowRanges, flow: UUID) -> None:
    await ranges.plan(flow, [{"n": number} for number in range(40)])

    async def work(holder: str) -> list[int]:
        done = []
        while claim := await ranges.claim(holder, LONG):
            done.append(claim.number)
            await ranges.finish(claim)
        return done

    shares = await asyncio.gather(*(work(f"w{number}") for number in range(8)))
    assert sorted(number for share in shares for number in share) == list(range(40))


async def test_a_flow_is_woken_while_a_range_of_it_is_finished(
    database: Database, ranges: PostgresFlowRanges, flow: UUID
) -> None:
    """Both lock the range first, so that neither waits for what the other has."""
    await ranges.plan(flow, [{"n": 1}])
    claim = await claimed(ranges)
    async with asyncio.TaskGroup() as group, database.transaction() as finishing:
        await finishing.fetchval(flow_ranges._TAKE_OUT, claim.flow, claim.number)
        group.create_task(ranges.wake(flow))
        async with database.connection() as connection:
            while not await connection.fetchval(_WAITS):
                await asyncio.sleep(0.01)
        assert await finishing.fetchval(flow_ranges._NEXT_NUMBER, flow) == 1


async def test_a_lease_that_ran_out_is_taken_over(ranges: PostgresFlowRanges, flow: UUID) -> None:
    await ranges.plan(flow, [{}])
    lost = await claimed(ranges, ttl=OVER)
    taken = await ranges.claim("b", LONG)
    assert taken is not None
    assert (taken.number, taken.attempt) == (0, 2)
    assert await ranges.renew(lost, "a", LONG) is False
    assert await ranges.renew(taken, "b", LONG) is True
    assert await ranges.claim("c", LONG) is None


async def test_renewing_keeps_a_range(ranges: PostgresFlowRanges, flow: UUID) -> None:
    await ranges.plan(flow, [{}])
    claim = await claimed(ranges, ttl=OVER)
    assert await ranges.renew(claim, "a", LONG) is True
    assert await ranges.claim("b", LONG) is None


async def test_what_follows_is_put_in_once(ranges: PostgresFlowRanges, flow: UUID) -> None:
    await ranges.plan(flow, [{"after": 0}])
    first = await claimed(ranges, ttl=OVER)
    second = await claimed(ranges)

    await ranges.finish(first, following={"after": 5})
    await ranges.finish(second, following={"after": 6})

    assert await ranges.remaining(flow) == 1
    following = await claimed(ranges)
    assert (following.number, following.request) == (1, {"after": 5})
    await ranges.finish(following)
    assert await ranges.remaining(flow) == 0


async def test_a_range_that_fails_is_tried_again(ranges: PostgresFlowRanges, flow: UUID) -> None:
    await ranges.plan(flow, [{}])
    await ranges.put_back(await claimed(ranges), "first")
    assert await ranges.failing(flow, 1) == "first"
    assert await ranges.failing(flow, 2) is None
    again = await claimed(ranges)
    assert again.attempt == 2
    await ranges.put_back(again, "second")
    assert await ranges.failing(flow, 2) == "second"
    assert await ranges.failing(uuid4(), 1) is None


async def test_a_range_that_failed_waits(database: Database, flow: UUID) -> None:
    ranges = PostgresFlowRanges(database, retry_delay=LONG, retry_delay_limit=LONG)
    await ranges.plan(flow, [{}])
    await ranges.put_back(await claimed(ranges), "no")
    assert await ranges.claim("a", LONG) is None
    assert await ranges.remaining(flow) == 1


async def test_a_late_failure_takes_nothing_away(ranges: PostgresFlowRanges, flow: UUID) -> None:
    await ranges.plan(flow, [{}])
    late = await claimed(ranges, ttl=OVER)
    await claimed(ranges)
    await ranges.put_back(late, "late")
    assert await ranges.failing(flow, 1) is None
    assert await ranges.claim("c", LONG) is None


async def test_cancelling_empties_one_flow(ranges: PostgresFlowRanges, flow: UUID) -> None:
    other = uuid4()
    await ranges.plan(flow, [{}, {}])
    await ranges.plan(other, [{}])
    claim = await claimed(ranges)
    await ranges.cancel(flow)
    await ranges.finish(claim, following={"after": 1})
    assert await ranges.remaining(flow) == 0
    assert await ranges.remaining(other) == 1


async def test_changes_are_claimed_when_there_are_some(
    ranges: PostgresFlowRanges, ledger: PostgresLedger, flow: UUID
) -> None:
    source = await create(ledger)
    await ranges.plan(flow, [{"since": 1}], source=source)
    assert await ranges.claim("a", LONG) is None
    assert await ranges.remaining(flow) == 0
    assert await ranges.next(flow) == (0, {"since": 1})
    assert await ranges.readers(source) == [flow]
    await write(ledger, source)
    assert await ranges.remaining(flow) == 1
    claim = await claimed(ranges)
    assert claim.request == {"since": 1}
    await ranges.finish(claim, {"since": 2})
    assert (await ranges.next(flow), await ranges.last(flow)) == ((1, {"since": 2}), 1)
    assert await ranges.remaining(flow) == 0
    await ranges.cancel(flow)
    assert (await ranges.next(flow), await ranges.last(flow)) == (None, 1)
    assert await ranges.readers(source) == []
    assert await ranges.last(uuid4()) == -1


async def test_changes_are_read_after_a_pause_unless_there_are_many(
    ranges: PostgresFlowRanges, ledger: PostgresLedger, flow: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_ranges, "PAUSE_SECONDS", LONG)
    monkeypatch.setattr(flow_ranges, "BACKLOG", 3)
    source = await create(ledger)
    await ranges.plan(flow, [{"after": ""}], source=source)
    for number in range(5):
        await write(ledger, source, number)
    await ranges.finish(await claimed(ranges), {"since": 2})
    await ranges.finish(await claimed(ranges), {"since": 4})
    assert await ranges.claim("a", LONG) is None
    await ranges.wake(flow)
    assert (await claimed(ranges)).request == {"since": 4}


async def test_a_flow_rests_after_its_time_until_it_is_woken(
    ranges: PostgresFlowRanges, ledger: PostgresLedger, flow: UUID
) -> None:
    source = await create(ledger)
    await write(ledger, source)
    past = datetime.now(UTC) - timedelta(seconds=1)
    await ranges.plan(flow, [{"since": 1}], source=source, until=past)
    assert await ranges.claim("a", LONG) is None
    await ranges.wake(flow)
    await ranges.put_back(await claimed(ranges), "the store is away", failed=False)
    await ranges.rest(flow, past)
    assert await ranges.claim("a", LONG) is None


async def write(ledger: PostgresLedger, generation: UUID, number: int = 0) -> None:
    await ledger.record(str(uuid4()), CONTEXT, [draft(generation, {number: number})])
