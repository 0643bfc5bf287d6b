"""The API over a ledger of its own, and the servers behind it."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from adapters.bootstrap import Service, open_service
from adapters.embedded import broker, qdrant_node
from adapters.embedded.stack import Endpoints, start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.http.app import create_app
from adapters.settings import Settings
from domain.model.aggregate import Actor
from tests.infra.brokers import configured
from tests.integration.http_api.asking import SCHEMA, add_source


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    folder = tmp_path_factory.mktemp("servers")

    async def start(supervisor: Supervisor) -> Endpoints:
        kafka = configured()
        if kafka is None:
            return await start_servers(supervisor, {broker.NAME, qdrant_node.NAME})
        found = await start_servers(supervisor, {qdrant_node.NAME})
        return replace(found, kafka_bootstrap=kafka.bootstrap)

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Supervisor(folder)) as supervisor,
    ):
        yield portal.call(start, supervisor)


@pytest.fixture
def settings(ledger_database: str, servers: Endpoints, tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        actor=Actor("test", "setting"),
        database_url=ledger_database,
        kafka_bootstrap=servers.kafka_bootstrap,
        qdrant_url=servers.qdrant_url,
    )


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    """What a test arranges and looks at things with; the API has a service of its own."""
    async with open_service(settings) as service:
        yield service


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api.test") as client,
    ):
        yield client


@pytest.fixture
async def spec(settings: Settings, service: Service) -> AsyncIterator[dict[str, Any]]:
    """A spec that can be planned: a table with one source, and its shared collection."""
    shared = f"shared_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(settings.database_url)
    await connection.execute(
        """
        CREATE TABLE public.sources (
            id uuid PRIMARY KEY, title text NOT NULL,
            enabled_collections text[] NOT NULL, collection_names jsonb NOT NULL DEFAULT '{}'
        )
        """
    )
    await add_source(connection, "Knowledge")
    await connection.close()
    store = service.stores.store("default")
    await store.create(shared, SCHEMA)
    yield {
        "version": 1,
        "name": "split",
        "recipe": "per-domain-collections",
        "reason": "Domain isolation",
        "from": {
            "connection": "default",
            "table": "public.sources",
            "store": "default",
            "collections": {"documents": shared},
        },
        "to": {"store": "default"},
    }
    await store.drop(shared)
