"""Two flow workers on one range: the first recorded result counts, for both of them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import pytest

from adapters.postgres.applications import PostgresApplications
from adapters.postgres.connection import Database, open_database
from adapters.postgres.flow_ranges import PostgresFlowRanges
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.objects import PostgresObjects
from domain.model.errors import NotFound
from domain.model.flow import Flow, FlowRange
from domain.ports import RangeClaim, SourceTable, VectorStore
from domain.use_cases.flows import reading
from domain.use_cases.flows.reading import CHANGE_SETS_A_RANGE
from domain.use_cases.tools import Tools
from domain.use_cases.work_flows import work_range
from tests.contract.builders import CONTEXT, command, create, draft, key
from tests.contract.cutting import Listening, between
from tests.contract.waiting import until_somebody_waits

LONG, OVER = 1000.0, -1.0  # seconds


class NoStores:
    """A route reads heads and nothing else."""

    def store(self, name: str) -> VectorStore:
        raise NotFound(name)

    def table(self, connection: str, table: str) -> SourceTable:
        raise NotFound(f"{connection}.{table}")


def tools(database: Database, ledger: PostgresLedger) -> Tools:
    return Tools(
        ledger,
        PostgresObjects(database),
        PostgresApplications(database, ledger.wakeups),
        PostgresFlowRanges(database),
        NoStores(),
    )


@dataclass
class Race:
    """A range that two workers have claimed, the first one's lease having run out.

    Attributes:
        url: of the database.
        proxy: between the slow worker and the database.
        slow: what the first worker works with.
        fast: what the second worker works with.
        flow: of the range.
        source: generation that it reads.
        target: generation that it writes.
        claims: of both.
    """

    url: str
    proxy: Listening
    slow: Tools
    fast: Tools
    flow: UUID
    source: UUID
    target: UUID
    claims: tuple[RangeClaim, RangeClaim]

    @property
    def key(self) -> bytes:
        return f"flow/{self.flow}/range/0".encode()

    async def assert_settled(
        self,
        answers: list[dict[str, str] | None],
        first: int,
        points: int = CHANGE_SETS_A_RANGE,
    ) -> None:
        """Both know the same result: up to this key, recorded once, followed by one range."""
        assert answers == [{"after": key(first).hex()}] * 2
        for claim, following in zip(self.claims, answers, strict=True):
            await self.fast.ranges.finish(claim, following)
        ranges = await self.fast.ledger.read(0, 1000, topics="flow.range-recorded")
        assert [vars(one.event)["number"] for one in ranges] == [0]
        assert len(await self.fast.ledger.heads(self.target)) == points
        following = await self.fast.ranges.claim("c", LONG)
        assert following is not None
        assert (following.number, following.request) == (1, answers[0])
        assert await self.fast.ranges.claim("d", LONG) is None


@pytest.fixture
async def race(
    ledger_database: str, database: Database, ledger: PostgresLedger
) -> AsyncIterator[Race]:
    """A range takes ten points; the source has the points 11 to 40."""
    source = await create(ledger, "source")
    target = await create(ledger, "target")
    await ledger.record("points", CONTEXT, [draft(source, {n: n for n in range(11, 41)})])
    route = {"generation": str(target), "captured_at": 1}
    flow = Flow("m", "flow", "route", str(source), 2, 1, "", {"*": route})
    await ledger.append(command("flow", flow))
    fast = tools(database, ledger)
    await fast.ranges.plan(flow.id, [{"after": ""}])
    claims = [await fast.ranges.claim(holder, ttl) for holder, ttl in (("a", OVER), ("b", LONG))]
    slow_claim, fast_claim = claims
    assert slow_claim is not None
    assert fast_claim is not None
    async with (
        between(ledger_database) as (proxy, url),
        open_database(url) as behind,
        PostgresLedger(behind) as slow,
    ):
        yield Race(
            ledger_database,
            proxy,
            tools(behind, slow),
            fast,
            flow.id,
            source,
            target,
            (slow_claim, fast_claim),
        )


async def test_who_comes_to_record_second_gets_the_first_result(
    race: Race, monkeypatch: pytest.MonkeyPatch
) -> None:
    race.proxy.hold_at(race.key, requests=True)
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(work_range(race.slow, race.claims[0]))
        await race.proxy.heard.wait()
        # The second worker is of a release that takes smaller ranges.
        monkeypatch.setattr(reading, "CHANGE_SETS_A_RANGE", 5)
        fast = await work_range(race.fast, race.claims[1])
        race.proxy.release()
    await race.assert_settled([slow.result(), fast], first=15, points=5)
    first = await race.fast.ledger.load(FlowRange, FlowRange.create_id(str(race.flow), 0))
    assert first is not None
    assert first.read == 5


async def test_who_comes_while_a_result_is_being_recorded_waits_and_gets_it(race: Race) -> None:
    race.proxy.hold_at(b"COMMIT", requests=True)
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(work_range(race.slow, race.claims[0]))
        await race.proxy.heard.wait()
        more = draft(race.source, {n: n for n in range(1, 6)})
        adding = group.create_task(race.fast.ledger.record("more", CONTEXT, [more]))
        fast = group.create_task(work_range(race.fast, race.claims[1]))
        await until_somebody_waits(race.url, 2)
        race.proxy.release()
    assert adding.result().count == 1
    await race.assert_settled([slow.result(), fast.result()], first=20)


async def test_who_dies_while_recording_leaves_the_range_to_the_other(race: Race) -> None:
    race.proxy.hold_at(b"COMMIT", requests=True)
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(work_range(race.slow, race.claims[0]))
        await race.proxy.heard.wait()
        fast = group.create_task(work_range(race.fast, race.claims[1]))
        await until_somebody_waits(race.url, 1)
        race.proxy.lose()
    await race.assert_settled([slow.result(), fast.result()], first=20)
