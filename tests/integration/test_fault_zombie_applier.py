"""An applier is paused in the middle of a write, and wakes after its successor."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters.kafka.consumer import group_of
from adapters.kafka.publisher import Publisher
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import CHANGES
from adapters.postgres.connection import Database
from adapters.postgres.cursors import PostgresCursors
from domain.use_cases.relay import relay
from tests.infra.brokers import OwnBroker
from tests.integration.builders import document_points
from tests.integration.worker_processes import PROGRAM, WorkerProcess, worker_process
from tests.integration.worlds import World, eventually
from tests.tcp_proxy import TcpProxy

POINTS = 60
A_WRITE = 2000
"""Bytes; these points have more, and what else a client sends has less."""
PAUSING = (str(Path(__file__).with_name("pausing_worker.py")), "2")


class Appliers:
    """A zombie, whose calls go through a proxy, and its successor, whose calls do not."""

    def __init__(self, world: World, folder: Path, kafka: KafkaSettings, proxy: TcpProxy) -> None:
        self._world = world
        self._folder = folder
        self._kafka = kafka
        self._proxy = proxy
        self._stack = AsyncExitStack()

    async def zombie(self, program: tuple[str, ...] = PROGRAM) -> WorkerProcess:
        return await self._start("zombie", self._proxy.port, program)

    async def successor(self) -> WorkerProcess:
        return await self._start("successor", self._proxy.target, PROGRAM)

    async def _start(self, name: str, port: int, program: tuple[str, ...]) -> WorkerProcess:
        return await self._stack.enter_async_context(
            worker_process(
                self._world,
                name,
                "applier",
                folder=self._folder,
                kafka=self._kafka,
                qdrant_url=f"http://127.0.0.1:{port}",
                program=program,
            )
        )

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def proxy(shared_qdrant_url: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(urlsplit(shared_qdrant_url).port or 6334) as proxy:
        yield proxy


@pytest.fixture
async def appliers(
    world: World, tmp_path: Path, own_broker: OwnBroker, database: Database, proxy: TcpProxy
) -> AsyncIterator[Appliers]:
    """Appliers to be started; the relay runs here."""
    async with relaying(world, own_broker.settings, database):
        appliers = Appliers(world, tmp_path, own_broker.settings, proxy)
        try:
            yield appliers
        finally:
            proxy.release()
            await appliers.close()


@asynccontextmanager
async def relaying(world: World, kafka: KafkaSettings, database: Database) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with Publisher(kafka) as publisher, asyncio.TaskGroup() as group:
        cursors = PostgresCursors(database)
        group.create_task(relay(world.ledger, cursors, world.leaders, publisher, "relay", stop))
        yield
        stop.set()


async def overwrite(world: World, generation: UUID, seed: int) -> None:
    """Record a change of the same points."""
    await world.write(generation, document_points(["1"] * POINTS, seed=1, payload={"seed": seed}))


async def delete_some(world: World, generation: UUID) -> None:
    await world.delete(generation, document_points(["1"] * POINTS, seed=1).keys[:5])


async def equal(world: World, generation: UUID) -> bool:
    return (await world.verify((await world.status(generation)).physical)).equal


async def differs(world: World, generation: UUID) -> bool:
    return not await equal(world, generation)


async def committed(world: World, kafka: KafkaSettings) -> dict[TopicPartition, int]:
    """What the group of appliers has committed."""
    group = group_of((await world.ledger.standing()).ledger)
    consumer = AIOKafkaConsumer(
        **kafka.client_arguments(), group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(CHANGES.name, n) for n in range(CHANGES.partitions)]
        return {one: await consumer.committed(one) or 0 for one in partitions}
    finally:
        await consumer.stop()


@pytest.mark.broker
async def test_a_write_that_arrives_after_newer_ones_is_put_right(
    world: World, appliers: Appliers, own_broker: OwnBroker, proxy: TcpProxy
) -> None:
    generation = await world.generation()
    await overwrite(world, generation, 1)
    zombie = await appliers.zombie()
    await world.applied(generation)

    proxy.hold(requests=True)
    await overwrite(world, generation, 2)
    await eventually(lambda: is_held(proxy))
    zombie.send(signal.SIGSTOP)
    await zombie.stopped()

    successor = await appliers.successor()
    await overwrite(world, generation, 3)
    await delete_some(world, generation)
    await world.applied(generation)
    assert await equal(world, generation)
    proxy.release()
    await eventually(lambda: differs(world, generation))
    await eventually(lambda: equal(world, generation))

    offsets = await committed(world, own_broker.settings)
    zombie.send(signal.SIGCONT)
    await zombie.says("lease_lost")
    await overwrite(world, generation, 4)
    await world.applied(generation)
    assert await equal(world, generation)
    receipts = await world.events("application.changes-applied")
    through = [vars(one.event)["through"] for one in receipts]
    assert through == sorted(set(through))
    later = await committed(world, own_broker.settings)
    assert all(later[partition] >= offset for partition, offset in offsets.items())
    assert successor.process.returncode is None


async def is_held(proxy: TcpProxy) -> bool:
    return proxy.held > A_WRITE


@pytest.mark.broker
async def test_what_was_made_before_a_pause_is_not_sent_after_it(
    world: World, appliers: Appliers, proxy: TcpProxy
) -> None:
    generation = await world.generation()
    await overwrite(world, generation, 1)
    zombie = await appliers.zombie(PAUSING)
    await world.applied(generation)
    await overwrite(world, generation, 2)
    await zombie.stopped()

    successor = await appliers.successor()
    await overwrite(world, generation, 3)
    await world.applied(generation)
    successor.send(signal.SIGKILL)  # nobody is there to put anything right
    await successor.process.wait()

    proxy.hold(requests=True)
    zombie.send(signal.SIGCONT)
    await zombie.says("lease_lost")
    assert not await is_held(proxy)
    proxy.release()
    assert await equal(world, generation)
