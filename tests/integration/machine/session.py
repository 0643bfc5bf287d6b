"""A ledger and a node, and processes that work on them until they end or die."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from adapters.postgres.connection import Database, open_database
from adapters.postgres.ledger import PostgresLedger
from domain.model.migration import Migration, State
from domain.model.recorded import Cursor
from domain.ports import GenerationStatus
from domain.use_cases.apply_changes import Applier
from domain.use_cases.names import physical_name
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.run_migration import run_migration
from domain.use_cases.steer_migration import roll_back_migration, start_migration
from domain.use_cases.tools import Tools
from domain.use_cases.verify import looked_after
from domain.use_cases.work_flows import work_flows
from tests.databases import execute, new_ledger_database
from tests.integration.faults import Crash, LedgerDeliveries
from tests.integration.machine.crossing import Boundary
from tests.integration.opening import open_world
from tests.integration.worlds import MARA, STORE, World, eventually

PATIENCE = 60.0
"""Seconds that an operation may take on a busy machine."""

T = TypeVar("T")

# Time passes: who held something and died does not hold it any more.
_LEASES_OVER = """
UPDATE migration_ledger.applications SET lease_until = lease_until - interval '1 day'
"""
_CLAIMS_OVER = """
UPDATE migration_ledger.flow_ranges SET free_at = free_at - interval '1 day', holder = NULL
"""

# Whether an applier gave the lease of a generation back, and left nothing to be looked at again.
_RELEASED = "SELECT released FROM applications WHERE generation = $1"

# All objects; none of this machine's is so large that it is not here.
_OBJECTS = "SELECT content FROM objects"


@dataclass(frozen=True)
class Servers:
    """What is shared between sessions.

    Attributes:
        postgres: URL of the server.
        template: name of a database with an empty ledger.
        qdrant: URL of the node.
        folder: for large objects.
    """

    postgres: str
    template: str
    qdrant: str
    folder: Path


@dataclass
class Session:
    """A ledger of its own.

    Attributes:
        world: with tools that have no faults.
        database: of the ledger.
        deliveries: everything that an applier was told.
        chained: the last event whose hash was recomputed.
    """

    world: World
    database: Database
    deliveries: list[LedgerDeliveries] = field(default_factory=list)
    chained: Cursor = field(default_factory=Cursor)

    # What others look at.

    async def status(self, name: str) -> GenerationStatus:
        """Where the generation stands that serves a name."""
        physical = await physical_name(self.world.tools, STORE, name)
        return await looked_after(self.world.tools, STORE, physical)

    async def settled(self) -> bool:
        """Whether there is nothing left to do for workers."""
        tools = self.world.tools
        return not (await tools.applications.lagging() or await tools.ranges.remaining())

    async def kept(self) -> bytes:
        """Everything that is in any object, uncompressed."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_OBJECTS)
        return b"\n".join(
            value
            for row in rows
            for column in pq.read_table(pa.BufferReader(row["content"])).columns
            for value in column.to_pylist()
            if isinstance(value, bytes)
        )

    async def released(self, generation: UUID) -> bool:
        """Whether the next applier of a generation takes it from nobody."""
        async with self.database.connection() as connection:
            released: bool = await connection.fetchval(_RELEASED, generation)
        return released

    # Workers.

    async def carried(
        self,
        attempt: Callable[[Tools], Awaitable[T]],
        boundary: Boundary,
        *,
        order: int = 0,
        together: bool = False,
    ) -> T:
        """What an operation comes to, which is begun again by another process if one dies.

        Args:
            attempt: the operation; workers are there meanwhile.
            boundary: where something happens on the way.
            order: how changes are delivered: dropped, repeated, and in any order.
            together: whether the applier dies with the others.
        """
        clean, dying = self.world.tools, boundary.tools(self.world.tools)
        async with asyncio.timeout(PATIENCE):
            await execute(self.world.url, _LEASES_OVER)
            if together:
                try:
                    async with self._applier(dying, order), self._flows(dying):
                        return await attempt(dying)
                except* Crash:
                    await execute(self.world.url, f"{_LEASES_OVER}; {_CLAIMS_OVER}")
                async with self._applier(clean, order), self._flows(clean):
                    return await attempt(clean)
            async with self._applier(clean, order):
                try:
                    async with self._flows(dying):
                        return await attempt(dying)
                except* Crash:
                    await execute(self.world.url, _CLAIMS_OVER)
                async with self._flows(clean):
                    return await attempt(clean)

    @asynccontextmanager
    async def _applier(self, tools: Tools, order: int) -> AsyncIterator[None]:
        deliveries = LedgerDeliveries(self.world.ledger, random=Random(order))
        self.deliveries.append(deliveries)
        async with self._worker(Applier(tools, deliveries, uuid4().hex).run):
            yield

    @asynccontextmanager
    async def _flows(self, tools: Tools) -> AsyncIterator[None]:
        async with self._worker(lambda stop: work_flows(tools, uuid4().hex, stop)):
            yield

    @asynccontextmanager
    async def _worker(self, run: Callable[[asyncio.Event], Any]) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(run(stop))
            yield
            stop.set()

    async def settle(
        self, boundary: Boundary | None = None, *, order: int = 0, together: bool = False
    ) -> None:
        """Let workers do everything that there is to do."""

        async def attempt(_tools: Tools) -> bool:
            return await eventually(self.settled, PATIENCE)

        boundary = boundary or Boundary({})
        await self.carried(attempt, boundary, order=order, together=together)

    # Migrations.

    async def migrate(self, spec: dict[str, Any], boundary: Boundary, **how: Any) -> Migration:
        """Plan and run a migration, which completes."""
        known: list[UUID] = []

        async def attempt(tools: Tools) -> Migration:
            if not known:
                known.append((await plan_migration(tools, spec, MARA)).migration.id)
            migration = await self.world.migration(known[0])
            if migration.state is State.PLANNED:
                await start_migration(tools, migration, MARA)
            return await self._run(tools, known[0])

        done = await self.carried(attempt, boundary, **how)
        assert done.state is State.COMPLETED, f"migration: {done.state}: {done.error}"
        return done

    async def roll_back(self, migration: UUID, boundary: Boundary, **how: Any) -> None:
        """Undo a migration."""

        async def attempt(tools: Tools) -> Migration:
            await roll_back_migration(tools, migration, MARA)
            return await self._run(tools, migration)

        done = await self.carried(attempt, boundary, **how)
        assert done.state is State.ROLLED_BACK, f"rollback: {done.state}: {done.error}"

    async def _run(self, tools: Tools, migration: UUID) -> Migration:
        await run_migration(tools, migration, asyncio.Event())
        return await self.world.migration(migration)


@asynccontextmanager
async def open_session(servers: Servers) -> AsyncIterator[Session]:
    """A session with an empty ledger."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        url = await enter(new_ledger_database(servers.postgres, servers.template))
        database = await enter(open_database(url))
        ledger = await enter(PostgresLedger(database))
        opened = open_world(url, database, ledger, servers.qdrant, servers.folder)
        yield Session(await enter(opened), database)
