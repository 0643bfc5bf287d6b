"""A world for each test: a ledger of its own, and collections of its own in one Qdrant node."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from anyio.from_thread import start_blocking_portal

from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.objects.store import SizedObjects, StoredObjects
from adapters.postgres.applications import PostgresApplications
from adapters.postgres.connection import Database
from adapters.postgres.flow_ranges import PostgresFlowRanges
from adapters.postgres.garbage import PostgresGarbage, SparingObjects
from adapters.postgres.leaders import PostgresLeaders
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.objects import PostgresObjects
from adapters.postgres.views import PostgresViews
from adapters.qdrant.store import QdrantStore
from domain.use_cases import apply_changes, work_flows
from domain.use_cases.steps import drop
from domain.use_cases.tools import Tools
from tests.infra.qdrant import configured_url, endpoint
from tests.integration.worlds import CREATE_SOURCES, World, WorldStores


@pytest.fixture(scope="session")
def shared_qdrant_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gRPC URL of `MIGRATION_LEDGER_QDRANT_URL`, or of an embedded node of the session."""
    if configured := configured_url():
        yield configured
        return
    folder = tmp_path_factory.mktemp("node")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_running_node(folder)) as url,
    ):
        yield url


@pytest.fixture
async def world(
    ledger_database: str,
    database: Database,
    ledger: PostgresLedger,
    shared_qdrant_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """An empty table of sources and nothing else; what a test leaves in the node is dropped."""
    monkeypatch.setattr(apply_changes, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(work_flows, "IDLE_SECONDS", 0.05)
    # Workers of these tests die often, and others wait for their leases.
    monkeypatch.setattr(apply_changes, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(apply_changes, "CALL_DEADLINE", 0.5)
    monkeypatch.setattr(apply_changes, "ACQUIRE_SECONDS", 0.05)
    monkeypatch.setattr(work_flows, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(drop, "SETTLE_SECONDS", 0.05)
    async with QdrantStore(endpoint(shared_qdrant_url), random=Random(1), deadline=10.0) as store:
        world = World(
            prefix=f"W{uuid4().hex[:8]}",
            url=ledger_database,
            schema="application",
            tools=Tools(
                ledger=ledger,
                objects=SparingObjects(
                    database,
                    SizedObjects(
                        PostgresObjects(database), StoredObjects((tmp_path / "objects").as_uri())
                    ),
                ),
                applications=PostgresApplications(database, ledger.wakeups),
                ranges=PostgresFlowRanges(database, retry_delay=0.0),
                stores=WorldStores(store, ledger_database),
            ),
            garbage=PostgresGarbage(database, ledger.wakeups),
            leaders=PostgresLeaders(database),
            views=PostgresViews(database),
        )
        await world.sql("CREATE SCHEMA {schema}")
        await world.sql(CREATE_SOURCES)
        yield world
        for alias in await world.aliases():
            await store.remove_alias(alias)
        for name in await world.collections():
            await store.drop(name)


@asynccontextmanager
async def _running_node(folder: Path) -> AsyncIterator[str]:
    async with Supervisor(folder) as supervisor:
        endpoints = await start_servers(supervisor, {"qdrant"})
        assert endpoints.qdrant_url is not None
        yield endpoints.qdrant_url
