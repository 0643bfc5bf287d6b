"""A world for each test: a ledger of its own, and collections of its own in one Qdrant node."""

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.postgres.connection import Database
from adapters.postgres.ledger import PostgresLedger
from adapters.settings import PREFIX
from domain.use_cases import apply_changes, lanes, work_flows
from domain.use_cases.steps import drop
from tests.infra.qdrant import configured_url
from tests.integration.commands import write_settings
from tests.integration.opening import open_world
from tests.integration.worlds import World


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
    monkeypatch.setattr(lanes, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(lanes, "CALL_DEADLINE", 0.5)
    monkeypatch.setattr(lanes, "ACQUIRE_SECONDS", 0.05)
    monkeypatch.setattr(work_flows, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(drop, "SETTLE_SECONDS", 0.05)
    opened = open_world(ledger_database, database, ledger, shared_qdrant_url, tmp_path)
    async with opened as world:
        yield world


@pytest.fixture
def world_settings(world: World, shared_qdrant_url: str, tmp_path: Path) -> None:
    """A settings file with which commands find the world; to be used before `typed_here`."""
    write_settings(world, shared_qdrant_url, tmp_path)


@pytest.fixture
def typed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own; a command in this process logs in its own way while it runs."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], root.level = before


@asynccontextmanager
async def _running_node(folder: Path) -> AsyncIterator[str]:
    async with Supervisor(folder) as supervisor:
        endpoints = await start_servers(supervisor, {"qdrant"})
        assert endpoints.qdrant_url is not None
        yield endpoints.qdrant_url
