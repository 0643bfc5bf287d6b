"""Requests that change something, carried out once each with the use cases."""

from uuid import UUID

from adapters.http.asking import Caller
from adapters.http.documents import Application, MigrationDocument, PlanDocument, Reason
from adapters.http.idempotency import Once
from adapters.http.reading import read_migration, shown_plan
from domain.model.errors import Conflict, NotFound
from domain.model.migration import Migration, State
from domain.model.recipes import recipe_for
from domain.use_cases.plan_migration import Planned, plan_migration
from domain.use_cases.steer_migration import (
    cancel_migration,
    roll_back_migration,
    start_migration,
)


async def plan_once(
    once: Once, caller: Caller, document: dict[str, object], *, start: bool
) -> PlanDocument:
    """Record the plan of a spec, and start it where asked.

    Raises:
        InvalidSpec: the spec cannot be planned.
        KeyReused: the key belongs to another request.
    """
    _, spec = recipe_for(document)
    await once.claim()
    tools = once.service.tools
    migration = await once.answered_attempt(spec.model_dump(mode="json", by_alias=True))
    if migration is None:
        context = caller.context(spec.reason)
        migration = (await plan_migration(tools, document, context)).migration
        if start and migration.state in {State.PLANNED, State.FAILED}:
            context = caller.context(spec.reason, str(migration.id))
            migration = await start_migration(tools, migration, context, once.part("start"))
        await once.finish(migration.id, context)
    return shown_plan(Planned(migration.plan, migration, recorded=True))


async def plan_only(once: Once, caller: Caller, document: dict[str, object]) -> PlanDocument:
    """The plan of a spec; nothing is recorded, not even the key.

    Raises:
        InvalidSpec: the spec cannot be planned.
    """
    context = caller.context("")
    return shown_plan(await plan_migration(once.service.tools, document, context, record=False))


async def apply_once(
    once: Once, caller: Caller, stream: UUID, asked: Application
) -> MigrationDocument:
    """Start a migration; one that runs or is completed stays as it is.

    Raises:
        NotFound: there is no such migration.
        Conflict: it has another plan, or the world has changed since.
        Rejected: it is going back, or is over.
        KeyReused: the key belongs to another request.
    """
    migration = await once.service.ledger.load(Migration, stream)
    if migration is None:
        raise NotFound(f"there is no migration {stream}")
    if asked.plan_hash != migration.plan_hash:
        raise Conflict(f"migration {stream} has plan {migration.plan_hash}, not {asked.plan_hash}")
    await once.claim()
    if not await once.answered(stream):
        context = caller.context(asked.reason, str(stream))
        if migration.state is not State.COMPLETED:
            await start_migration(once.service.tools, migration, context, once.part("start"))
        await once.finish(stream, context)
    return await read_migration(once.service, stream)


async def cancel_once(once: Once, caller: Caller, stream: UUID, asked: Reason) -> MigrationDocument:
    """Give a migration up and undo what it did.

    Raises:
        NotFound: there is no such migration.
        Rejected: it is completed.
        KeyReused: the key belongs to another request.
    """
    await once.claim()
    if not await once.answered(stream):
        context = caller.context(asked.reason, str(stream))
        await cancel_migration(once.service.tools, stream, context, once.part("cancel"))
        await once.finish(stream, context)
    return await read_migration(once.service, stream)


async def roll_back_once(
    once: Once, caller: Caller, stream: UUID, asked: Reason
) -> MigrationDocument:
    """Undo a migration.

    Raises:
        NotFound: there is no such migration.
        Rejected: it was only planned.
        KeyReused: the key belongs to another request.
    """
    await once.claim()
    if not await once.answered(stream):
        context = caller.context(asked.reason, str(stream))
        await roll_back_migration(once.service.tools, stream, context, once.part("rollback"))
        await once.finish(stream, context)
    return await read_migration(once.service, stream)
