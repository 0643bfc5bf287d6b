"""Migrations as benches run them: an application's table, a shared collection, a spec."""

import asyncio
from typing import Any

import asyncpg

from bench import points
from bench.servers import Running
from domain.model.aggregate import Actor, Context
from domain.model.migration import Migration, State
from domain.model.recorded import Recorded
from domain.use_cases.plan_migration import plan_migration
from domain.use_cases.steer_migration import start_migration

WHO = Context(Actor("bench", "service"))
WARM_POINTS = 1_000
POLL_SECONDS = 0.02

# The application's table.
_CREATE_SOURCES = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.sources (
    id integer PRIMARY KEY, title text, enabled_collections text[], collection_names jsonb
);
INSERT INTO {schema}.sources
SELECT n, '{schema} ' || n, ARRAY['documents'], NULL FROM generate_series(1, {sources}) n;
"""


def shared(name: str) -> str:
    """The shared collection of an application."""
    return f"{name}_shared"


async def make(stack: Running, name: str, count: int, dimension: int, sources: int) -> None:
    """Make an application: a table of sources, and a shared collection with its points."""
    connection = await asyncpg.connect(stack.database_url)
    try:
        await connection.execute(_CREATE_SOURCES.format(schema=name, sources=sources))
    finally:
        await connection.close()
    store = stack.service.stores.store("default")
    await points.fill(store, shared(name), count, dimension, sources)


async def migrate(stack: Running, name: str, **changes: Any) -> list[Recorded]:
    """Give each source of an application its collection; returns the migration's events.

    Args:
        stack: where.
        name: of the application.
        changes: to the spec.

    Raises:
        RuntimeError: the migration did not complete.
    """
    spec = {
        "version": 1,
        "name": name,
        "recipe": "per-domain-collections",
        "reason": "measuring",
        "from": {
            "connection": "default",
            "table": f"{name}.sources",
            "store": "default",
            "collections": {"documents": shared(name)},
        },
        "to": {"store": "default"},
        **changes,
    }
    return await run_spec(stack, spec)


async def run_spec(stack: Running, spec: dict[str, Any]) -> list[Recorded]:
    """Plan a migration and run it to its end; returns its events.

    Raises:
        RuntimeError: it did not complete.
    """
    tools = stack.service.tools
    planned = await plan_migration(tools, spec, WHO)
    await start_migration(tools, planned.migration, WHO)
    while True:
        found = await tools.ledger.load(Migration, planned.migration.id)
        if found is None or found.state.settled:
            break
        await asyncio.sleep(POLL_SECONDS)
    if found is None or found.state is not State.COMPLETED:
        raise RuntimeError(f"the migration did not complete: {found and found.error}")
    return await tools.ledger.events(found.id)


async def warm_up(stack: Running, dimension: int) -> None:
    """Migrate a little, so that workers have joined, connected and imported what they need."""
    await make(stack, "warm", WARM_POINTS, dimension, 2)
    await migrate(stack, "warm")


def step_seconds(events: list[Recorded]) -> dict[str, float]:
    """How long each step took, by the database's clock; `all` from the request to the end."""
    at = {(one.topic, getattr(one.event, "step", "")): one.recorded_at for one in events}
    began = at["migration.started", ""]
    seconds = {
        step: (ended - at["migration.step-started", step]).total_seconds()
        for (topic, step), ended in at.items()
        if topic == "migration.step-completed"
    }
    return {**seconds, "all": (at["migration.completed", ""] - began).total_seconds()}
