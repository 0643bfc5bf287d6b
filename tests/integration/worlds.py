"""A world to migrate in: an application with its table and shared collections, and our workers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

import asyncpg
import orjson

from adapters.postgres.garbage import PostgresGarbage
from adapters.postgres.leaders import PostgresLeaders
from adapters.postgres.views import PostgresViews
from adapters.tables.sources import PostgresSourceTable
from domain.model.aggregate import Actor, Context
from domain.model.bodies import encode_body
from domain.model.errors import NotFound
from domain.model.generation import Generation
from domain.model.migration import Migration, State
from domain.model.points import Digest, PointBatch
from domain.model.recorded import ChangeSetDraft, Recorded
from domain.model.schema import CollectionSchema
from domain.ports import GenerationStatus, Ledger, SourceTable, VectorStore
from domain.use_cases.apply_changes import Applier
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.project import project
from domain.use_cases.run_migration import coordinate
from domain.use_cases.steer_migration import roll_back_migration, start_migration
from domain.use_cases.tools import Tools, save
from domain.use_cases.verify import Verification, looked_after, verify
from domain.use_cases.work_flows import work_flows
from projections import PROJECTIONS
from tests.integration.builders import CODE, DOCS, code_points, document_points
from tests.integration.faults import LedgerDeliveries

STORE = "prod"
CONNECTION = "app"
MARA = Context(Actor("mara", "os-user"), reason="domains of their own")
T = TypeVar("T")

# The application's own table, with a column that is none of our business.
CREATE_SOURCES = """
CREATE TABLE {schema}.sources (
    id integer PRIMARY KEY,
    title text,
    enabled_collections text[],
    collection_names jsonb,
    note text DEFAULT 'kept'
)
"""


async def eventually(check: Callable[[], Awaitable[T]], within: float = 60.0) -> T:
    """What `check` returns, as soon as that is true."""
    async with asyncio.timeout(within):
        while not (found := await check()):
            await asyncio.sleep(0.01)
    return found


@dataclass(frozen=True)
class WorldStores:
    """The one store and the one connection of a world."""

    vectors: VectorStore
    url: str
    names: Sequence[str] = (STORE,)

    def store(self, name: str) -> VectorStore:
        if name != STORE:
            raise NotFound(f"no store is named {name!r}")
        return self.vectors

    def table(self, connection: str, table: str) -> SourceTable:
        if connection != CONNECTION:
            raise NotFound(f"no connection is named {connection!r}")
        return PostgresSourceTable(self.url, table)


@dataclass(frozen=True)
class World:
    """Everything real, and named so that worlds can share a Qdrant node.

    Attributes:
        prefix: of every collection and title.
        url: of the database that has the ledger and the application's table.
        schema: of the application's table.
        tools: ports without faults.
    """

    prefix: str
    url: str
    schema: str
    tools: Tools
    garbage: PostgresGarbage
    leaders: PostgresLeaders
    views: PostgresViews

    @property
    def ledger(self) -> Ledger:
        return self.tools.ledger

    @property
    def store(self) -> VectorStore:
        return self.tools.stores.store(STORE)

    @property
    def table(self) -> SourceTable:
        return self.tools.stores.table(CONNECTION, f"{self.schema}.sources")

    @property
    def docs(self) -> str:
        return self.named("shared_docs")

    @property
    def code(self) -> str:
        return self.named("shared_code")

    def named(self, name: str) -> str:
        """A name that no other world has."""
        return f"{self.prefix}_{name}"

    def with_store(self, store: Any) -> Tools:
        """The tools, with another store."""
        return replace(self.tools, stores=WorldStores(store, self.url))

    # The application: its table and its shared collections.

    async def sql(self, statement: str, *arguments: Any) -> None:
        """Run a statement on the application's table, as the application would."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement.format(schema=self.schema), *arguments)
        finally:
            await connection.close()

    async def add_source(
        self, number: int, title: str | None, types: Sequence[str], names: Any = None
    ) -> None:
        """Add a row; `names` becomes the JSONB of stored names, None is SQL NULL."""
        await self.sql(
            "INSERT INTO {schema}.sources VALUES ($1, $2, $3, $4)",
            number,
            title,
            types,
            None if names is None else orjson.dumps(names).decode(),
        )

    async def fill(self) -> None:
        """Three sources and two shared collections of some hundred points."""
        await self.add_source(1, self.named("AI Knowledge"), ["documents", "code"])
        await self.add_source(2, self.named("Réseau & Internet"), ["documents"], {})
        await self.add_source(
            3,
            self.named("Stored"),
            ["documents", "code"],
            {"documents": self.named("MiXeD-naïve.docs")},
        )
        await self.share(
            self.docs, DOCS, document_points([(1, "2", "3")[n % 3] for n in range(300)])
        )
        await self.share(self.code, CODE, code_points([("1", 3)[n % 2] for n in range(120)]))

    async def share(self, name: str, schema: CollectionSchema, points: PointBatch) -> None:
        """Make a shared collection that holds these points."""
        await self.store.create(name, schema)
        if len(points):
            await self.store.upsert(name, points)

    @property
    def names(self) -> dict[tuple[str, str], str]:
        """Names that sources of `fill` get, by source and type."""
        return {
            ("1", "documents"): self.named("AI_Knowledge_documents"),
            ("1", "code"): self.named("AI_Knowledge_code"),
            ("2", "documents"): self.named("Reseau_Internet_documents"),
            ("3", "documents"): self.named("MiXeD-naïve.docs"),
            ("3", "code"): self.named("Stored_code"),
        }

    def spec(self, **changes: Any) -> dict[str, Any]:
        """The spec of a migration of this world."""
        return {
            "version": 1,
            "name": "split",
            "recipe": "per-domain-collections",
            "reason": MARA.reason,
            "from": {
                "connection": CONNECTION,
                "table": f"{self.schema}.sources",
                "store": STORE,
                "collections": {"documents": self.docs, "code": self.code},
            },
            "to": {"store": STORE},
            "batch": {"size": 50},
            **changes,
        }

    # What is there.

    async def points(self, name: str) -> PointBatch:
        """All points of a collection."""
        return PointBatch.concatenate([page async for page in self.store.scan(name)])

    async def digest(self, name: str) -> str:
        """The digest of a collection, read without the ledger's verification."""
        digest, points = Digest(), await self.points(name)
        for key, point_hash in zip(points.keys, points.hashes(), strict=True):
            digest.add(key, point_hash)
        return f"{digest.points} points {digest.hexdigest()}"

    async def collections(self) -> set[str]:
        """Physical collections of this world."""
        return {name for name in await self.store.collections() if self.owns(name)}

    async def aliases(self) -> dict[str, str]:
        """Aliases of this world."""
        return {a: name for a, name in (await self.store.aliases()).items() if self.owns(name)}

    def owns(self, physical: str) -> bool:
        return physical.startswith(self.prefix)

    async def picture(self) -> dict[str, Any]:
        """Everything that the application can see: collections, points, aliases, rows."""
        return {
            "collections": {name: await self.digest(name) for name in await self.collections()},
            "schemas": {name: await self.store.describe(name) for name in await self.collections()},
            "aliases": await self.aliases(),
            "rows": await self.table.digest(),
        }

    async def events(self, topics: str) -> list[Recorded]:
        """All events whose topics have this prefix."""
        return await self.ledger.read(0, 10_000, topics=topics)

    async def verify(self, physical: str) -> Verification:
        """Compare a collection with the ledger."""
        return await verify(self.tools, STORE, physical)

    async def looked_after(self, physical: str) -> GenerationStatus:
        """Where the generation that looks after a collection stands."""
        return await looked_after(self.tools, STORE, physical)

    # Generations that are written to without a migration.

    async def generation(
        self, name: str = "direct", schema: CollectionSchema = DOCS, tools: Tools | None = None
    ) -> UUID:
        """Record a new generation."""
        made = Generation(
            collection=name,
            store=STORE,
            physical=self.named(name),
            number=1,
            schema=schema.to_json(),
            origin="created",
        )
        await save((tools or self.tools).ledger, made, f"create/{name}", MARA)
        return made.id

    async def write(self, generation: UUID, points: PointBatch, **more: Any) -> str:
        """Record a change set of full images; returns the address of its body."""
        address = await self.tools.objects.put(encode_body(points))
        await self.record(
            ChangeSetDraft.images(generation, points.keys, points.hashes(), address, **more)
        )
        return address

    async def delete(self, generation: UUID, keys: list[bytes]) -> None:
        """Record tombstones."""
        nothing = [0] * len(keys)
        await self.record(
            ChangeSetDraft(generation, keys, [None] * len(keys), [], nothing, nothing)
        )

    async def record(self, draft: ChangeSetDraft) -> None:
        """Record a change set."""
        await self.ledger.record(f"test/{uuid4()}", MARA, [draft])

    async def status(self, generation: UUID) -> GenerationStatus:
        """Where a generation stands."""
        found = await self.tools.applications.status(generation)
        assert found is not None
        return found

    async def applied(self, generation: UUID) -> GenerationStatus:
        """Wait until the store has everything that is recorded, or refuses some of it."""

        async def done() -> GenerationStatus | None:
            status = await self.status(generation)
            through = status.applied >= status.recorded or status.halted_at is not None
            return status if through else None

        return cast("GenerationStatus", await eventually(done))

    # Workers.

    async def end_leadership(self, role: str) -> None:
        """Let the server end the connection that leads a role."""
        await self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = $1",
            f"migration-ledger leader {role}",
        )

    @asynccontextmanager
    async def workers(
        self,
        tools: Tools | None = None,
        *,
        deliveries: LedgerDeliveries | None = None,
        projector: bool = False,
    ) -> AsyncIterator[None]:
        """Coordinator, flow worker, applier, and projector where it matters; a clean stop."""
        tools = tools or self.tools
        stop, holder = asyncio.Event(), uuid4().hex
        async with asyncio.TaskGroup() as group:
            group.create_task(coordinate(tools, self.leaders, holder, stop))
            group.create_task(work_flows(tools, holder, stop))
            changes = deliveries or LedgerDeliveries(self.ledger)
            group.create_task(Applier(tools, changes, holder).run(stop))
            if projector:
                group.create_task(
                    project(self.ledger, self.views, self.leaders, PROJECTIONS, holder, stop)
                )
            try:
                yield
            finally:
                stop.set()

    @asynccontextmanager
    async def applier(
        self, tools: Tools | None = None, deliveries: LedgerDeliveries | None = None
    ) -> AsyncIterator[None]:
        """An applier alone; a clean stop."""
        stop = asyncio.Event()
        changes = deliveries or LedgerDeliveries(self.ledger)
        async with asyncio.TaskGroup() as group:
            group.create_task(Applier(tools or self.tools, changes, uuid4().hex).run(stop))
            try:
                yield
            finally:
                stop.set()

    @asynccontextmanager
    async def flow_worker(self) -> AsyncIterator[None]:
        """A flow worker alone; a clean stop."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(work_flows(self.tools, uuid4().hex, stop))
            try:
                yield
            finally:
                stop.set()

    async def migration(self, migration: UUID) -> Migration:
        """A migration as it is now."""
        found = await self.ledger.load(Migration, migration)
        assert found is not None
        return found

    async def settled(self, migration: UUID) -> Migration:
        """Wait until nothing more happens to a migration unless somebody asks for it."""

        async def settled() -> Migration | None:
            found = await self.migration(migration)
            return found if found.state.settled else None

        return cast("Migration", await eventually(settled))

    async def plan(self, **changes: Any) -> Migration:
        """Plan a migration and record the plan."""
        return (await plan_migration(self.tools, self.spec(**changes), MARA)).migration

    async def start(self, migration: Migration) -> UUID:
        """Ask for a plan to be run; returns its id."""
        await start_migration(self.tools, await self.migration(migration.id), MARA)
        return migration.id

    async def run(self, migration: Migration, tools: Tools | None = None) -> Migration:
        """Start a migration and run workers until it has settled."""
        await self.start(migration)
        async with self.workers(tools):
            return await self.settled(migration.id)

    async def migrate(self, **changes: Any) -> Migration:
        """Plan and run a migration, which completes."""
        done = await self.run(await self.plan(**changes))
        assert done.state is State.COMPLETED, done.error
        return done

    async def roll_back(self, migration: Migration) -> Migration:
        """Roll a migration back, to the end."""
        await roll_back_migration(self.tools, migration.id, MARA)
        async with self.workers():
            return await self.settled(migration.id)
