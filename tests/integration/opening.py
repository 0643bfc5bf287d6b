"""Opens a world: a ledger of its own, and collections of its own in a node that others use, too."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from uuid import uuid4

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
from domain.use_cases.tools import Tools
from tests.infra.qdrant import endpoint
from tests.integration.worlds import CREATE_SOURCES, World, WorldStores


@asynccontextmanager
async def open_world(
    url: str, database: Database, ledger: PostgresLedger, qdrant_url: str, folder: Path
) -> AsyncIterator[World]:
    """An empty table of sources and nothing else; what is left in the node is dropped.

    Args:
        url: of the database.
        database: connected.
        ledger: in it, empty.
        qdrant_url: of the node.
        folder: for large objects.
    """
    async with QdrantStore(endpoint(qdrant_url), random=Random(1), deadline=10.0) as store:
        world = World(
            prefix=f"W{uuid4().hex[:8]}",
            url=url,
            schema="application",
            tools=Tools(
                ledger=ledger,
                objects=SparingObjects(
                    database,
                    SizedObjects(
                        PostgresObjects(database), StoredObjects((folder / "objects").as_uri())
                    ),
                ),
                applications=PostgresApplications(database, ledger.wakeups),
                ranges=PostgresFlowRanges(database, retry_delay=0.0),
                stores=WorldStores(store, url),
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
