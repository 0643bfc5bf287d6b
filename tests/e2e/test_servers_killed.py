"""Each server is killed in the middle of a migration, comes back, and nothing is lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
import yaml

from adapters.bootstrap import open_service
from adapters.cli.stack import Stack, running_stack
from adapters.settings import load_settings
from domain.model.aggregate import Actor, Context
from domain.model.errors import Unavailable
from domain.model.migration import Migration, State
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.steer_migration import roll_back_migration, start_migration
from tests.e2e.application import Application, build, write_spec
from tests.infra.kafka.admin import delete_topics
from tests.infra.kafka.server import Kafka

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("servers killed"),
]

POINTS = 3000
PATIENCE_SECONDS = 120
LOOK_SECONDS = 0.05
CONTEXT = Context(Actor("test", "test"), reason="a test")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, own_kafka: Kafka | None
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("servers")
    flags = {"data_dir": str(folder)}
    if own_kafka is not None:
        await own_kafka.start()
        await delete_topics(own_kafka.settings)
        flags |= {"kafka_bootstrap": own_kafka.bootstrap, "embed": "database,qdrant"}
    settings = load_settings(flags, environment={}, folder=folder)
    async with running_stack(settings) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="module")
async def application(stack: Stack) -> AsyncIterator[Application]:
    settings = stack.settings
    name = f"a{uuid4().hex[:6]}"
    application = await build(
        name, settings.database_url or "", settings.qdrant_url or "", points=POINTS
    )
    yield application
    await application.qdrant.close()


@pytest.mark.parametrize(
    "server", ["postgres", pytest.param("broker", marks=pytest.mark.broker), "qdrant"]
)
async def test_a_server_killed_in_the_middle_comes_back_and_nothing_is_lost(
    stack: Stack, application: Application, tmp_path: Path, own_kafka: Kafka | None, server: str
) -> None:
    kafka = own_kafka if server == "broker" else None
    before, names = await application.snapshot(), await application.names()
    spec = yaml.safe_load(write_spec(application, tmp_path, after="drop").read_text())
    async with open_service(stack.settings) as service:
        planned = await plan_migration(service.tools, spec, CONTEXT)
        await start_migration(service.tools, planned.migration, CONTEXT)
    migration = planned.migration.id
    await _until_step(stack, migration, "flow")
    await _kill(stack, server, kafka)

    assert await _settled(stack, migration) is State.COMPLETED
    assert not set(application.shared.values()) & await application.collections()

    async with open_service(stack.settings) as service:
        await roll_back_migration(service.tools, migration, CONTEXT)
    await _until_undone(stack, migration, "drop")
    await _kill(stack, server, kafka)
    assert await _settled(stack, migration) is State.ROLLED_BACK
    assert await application.snapshot() == before
    assert await application.names() == names
    assert await application.collections() == set(application.shared.values())


async def _kill(stack: Stack, server: str, kafka: Kafka | None) -> None:
    if kafka is not None:
        # It keeps its data, and nobody starts it again but us.
        kafka.kill()
        await kafka.start()
        return
    pid = stack.supervisor.pid(server)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def _load(stack: Stack, migration: UUID) -> Migration | None:
    """The migration, or None while the database is away."""
    try:
        async with open_service(stack.settings) as service:
            return await service.ledger.load(Migration, migration)
    except Unavailable:
        return None


async def _until_step(stack: Stack, migration: UUID, step: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await _load(stack, migration)
            if found is not None and step in found.started:
                return
            await asyncio.sleep(LOOK_SECONDS)


async def _until_undone(stack: Stack, migration: UUID, step: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await _load(stack, migration)
            if found is not None and step in found.compensated:
                return
            await asyncio.sleep(LOOK_SECONDS)


async def _settled(stack: Stack, migration: UUID) -> State:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await _load(stack, migration)
            if found is not None and found.state.settled:
                assert found.error is None
                return found.state
            await asyncio.sleep(LOOK_SECONDS)
