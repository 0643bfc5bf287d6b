"""A store takes so many points a minute, as Qdrant's strict mode does, and says when to ask again.

The front counts as Qdrant's limiter does: a bucket of tokens, one for each point. A call with more
points than the bucket holds is always refused.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import ceil
from random import Random

import grpc
import pytest

from adapters.qdrant.endpoint import Endpoint
from adapters.qdrant.store import QdrantStore
from adapters.qdrant_grpc import qdrant
from domain.model.points import PointBatch
from domain.ports import GenerationStatus
from domain.use_cases import lanes
from tests.grpc_front import GrpcFront, Refusal
from tests.integration.builders import document_points
from tests.integration.worlds import World, eventually

LIMIT = 300  # points in a bucket, which is full again after a second
POINTS = 1000
KEPT_OUT = 60.0  # seconds


@dataclass
class Limiter:
    """Write limits of collections.

    Attributes:
        limited: tokens that collections have left, and since when.
        closed: collections that take nothing.
        taken: points that were let through, by collection.
        refused: collections, moments of refusals and waits that were asked for.
        asked: collections and moments of all writes.
    """

    limited: dict[str, tuple[float, float]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    taken: dict[str, int] = field(default_factory=dict)
    refused: list[tuple[str, float, int]] = field(default_factory=list)
    asked: list[tuple[str, float]] = field(default_factory=list)

    def limit(self, name: str) -> None:
        self.limited[name] = LIMIT, time.monotonic()

    def refuse(self, method: str, request: bytes) -> Refusal | None:
        """As Qdrant's limiter."""
        if method == "Points/Upsert":
            upsert = qdrant.UpsertPoints.FromString(request)
            return self._refuse(upsert.collection_name, len(upsert.points))
        if method == "Points/Delete":
            delete = qdrant.DeletePoints.FromString(request)
            return self._refuse(delete.collection_name, len(delete.points.points.ids))
        return None

    def _refuse(self, name: str, cost: int) -> Refusal | None:
        now = time.monotonic()
        self.asked.append((name, now))
        if name in self.closed:
            return self._wait(name, cost, 0.0, int(KEPT_OUT))
        if name in self.limited:
            if cost > LIMIT:
                return _exhausted(
                    "request larger than rate limiter capacity, please try to split your request"
                )
            left, since = self.limited[name]
            left = min(LIMIT, left + (now - since) * LIMIT)
            if left < cost:
                return self._wait(name, cost, left, ceil((cost - left) / LIMIT))
            self.limited[name] = left - cost, now
        self.taken[name] = self.taken.get(name, 0) + cost
        return None

    def _wait(self, name: str, cost: int, left: float, seconds: int) -> Refusal:
        self.refused.append((name, time.monotonic(), seconds))
        said = (
            f"Operation requires {cost} tokens but only {left:.1f} were available. "
            f"Retry after {seconds}s"
        )
        return _exhausted(said, ("retry-after", str(seconds)))

    def alter(self, method: str, answer: bytes) -> bytes:
        """The settings of collections say that they have limits, once one has."""
        if method != "Collections/Get" or not self.limited:
            return answer
        info = qdrant.GetCollectionInfoResponse.FromString(answer)
        info.result.config.strict_mode_config.enabled = True
        info.result.config.strict_mode_config.write_rate_limit = LIMIT
        return info.SerializeToString()


def _exhausted(said: str, *metadata: tuple[str, str]) -> Refusal:
    details = f"Rate limiting exceeded: Write rate limit exceeded: {said}"
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, details, metadata)


@pytest.fixture
async def limiter(shared_qdrant_url: str) -> AsyncIterator[tuple[Limiter, str]]:
    """Limits, and the URL of the store that has them."""
    limiter = Limiter()
    async with GrpcFront(shared_qdrant_url) as front:
        front.refuse, front.alter = limiter.refuse, limiter.alter
        yield limiter, front.url


@asynccontextmanager
async def applying(world: World, url: str) -> AsyncIterator[None]:
    """An applier runs, as the service has it: one try of a call, and the lane does the rest."""
    deadline = lanes.CALL_DEADLINE
    async with (
        QdrantStore(
            Endpoint(url), random=Random(1), deadline=deadline, bulk_deadline=deadline, attempts=1
        ) as store,
        world.applier(world.with_store(store)),
    ):
        yield


def some(count: int, first: int = 1) -> PointBatch:
    return document_points(["1"] * count, first=first, seed=first, payload={"third": 0})


async def done(world: World, status: GenerationStatus) -> None:
    """All of it is in the store, and nothing was given up."""
    assert (status.applied, status.halted_at) == (status.recorded, None)
    assert (await world.verify(status.physical)).equal
    assert await world.events("application.change-dead-lettered") == []


async def test_more_points_than_those_of_a_minute_go_in_bit_by_bit(
    world: World, limiter: tuple[Limiter, str]
) -> None:
    limits, url = limiter
    generation = await world.generation()
    limits.limit((await world.status(generation)).physical)
    await world.write(generation, some(POINTS))
    await world.write(generation, some(POINTS, first=2 * POINTS))
    await world.delete(generation, some(POINTS).keys[: 2 * LIMIT])
    async with applying(world, url):
        status = await world.applied(generation)

    await done(world, status)
    written = 2 * POINTS + 2 * LIMIT
    assert written <= limits.taken[status.physical] < 1.5 * written


async def test_nothing_is_asked_before_the_store_wants_to_be_asked(
    world: World, limiter: tuple[Limiter, str]
) -> None:
    limits, url = limiter
    generation = await world.generation()
    limits.limit((await world.status(generation)).physical)
    await world.write(generation, some(POINTS))
    async with applying(world, url):
        await done(world, await world.applied(generation))

    assert limits.refused
    for name, refused, seconds in limits.refused:
        following = [at for asked, at in limits.asked if asked == name and at > refused]
        together = [at for at in following if at < refused + 0.5 * seconds]
        assert len(together) < 4, "calls that were on their way already"


async def test_those_who_wait_leave_room_for_others(
    world: World, limiter: tuple[Limiter, str]
) -> None:
    limits, url = limiter
    shut = [await world.generation(f"shut{number}") for number in range(12)]
    for generation in shut:
        limits.closed.add((await world.status(generation)).physical)
        await world.write(generation, some(LIMIT))
    async with applying(world, url):
        await eventually(lambda: all_refused(limits, len(shut)))
        free = await world.generation("free")
        await world.write(free, some(LIMIT))
        await done(world, await world.applied(free))
    for generation in shut:
        assert (await world.status(generation)).applied == 1


async def all_refused(limits: Limiter, count: int) -> bool:
    return len({name for name, _, _ in limits.refused}) == count


async def test_a_limit_that_was_lowered_meanwhile_is_kept(
    world: World, limiter: tuple[Limiter, str]
) -> None:
    limits, url = limiter
    generation = await world.generation()
    physical = (await world.status(generation)).physical
    await world.write(generation, some(1))
    async with applying(world, url):
        await world.applied(generation)
        limits.limit(physical)
        await world.write(generation, some(POINTS))
        await done(world, await world.applied(generation))
