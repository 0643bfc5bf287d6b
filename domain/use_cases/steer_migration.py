"""Start, cancel and roll back migrations: what people ask of the coordinator."""

from contextlib import aclosing
from uuid import UUID, uuid4

from domain.model.aggregate import Context
from domain.model.errors import PlanStale, Rejected
from domain.model.migration import Migration, State
from domain.model.plan import StepKind
from domain.ports import Ledger
from domain.use_cases.plan_migration import replan
from domain.use_cases.tools import Tools, stream_events, update
from domain.use_cases.versions import named_collections, place_at


async def start_migration(
    tools: Tools, migration: Migration, context: Context, key: str | None = None
) -> Migration:
    """Let the coordinator run exactly the recorded plan, or go on after a failure.

    Raises:
        PlanStale: the facts that the plan depends on have changed.
        Rejected: the migration is over, or going back.
    """
    if migration.state is State.RUNNING:
        return migration
    if migration.state is State.PLANNED:
        drift = (await replan(tools, migration)).drift_from(migration.plan)
        if drift:
            raise PlanStale(str(migration.id), drift)
    return await update(
        tools.ledger,
        Migration,
        migration.id,
        key or f"start/{uuid4()}",
        context,
        lambda found: _start(found, migration.plan_hash),
    )


def _start(migration: Migration, plan_hash: str) -> None:
    if migration.state is not State.RUNNING:  # somebody else may have started it meanwhile
        migration.start(plan_hash)


async def cancel_migration(
    tools: Tools, migration: UUID, context: Context, key: str | None = None
) -> Migration:
    """Give a migration up and undo what it did.

    Raises:
        NotFound: there is no such migration.
        Rejected: it is completed.
    """
    key = key or f"cancel/{uuid4()}"
    return await update(tools.ledger, Migration, migration, key, context, Migration.cancel)


async def roll_back_migration(
    tools: Tools, migration: UUID, context: Context, key: str | None = None
) -> Migration:
    """Undo a migration; one that is undone already stays so.

    Raises:
        NotFound: there is no such migration.
        Rejected: it was only planned, or retention has archived what it would go back to.
    """
    await _refuse_archived(tools, migration)
    key = key or f"rollback/{uuid4()}"
    return await update(
        tools.ledger, Migration, migration, key, context, Migration.request_rollback
    )


async def _refuse_archived(tools: Tools, stream: UUID) -> None:
    """A rollback reads what collections were when the migration began.

    Raises:
        Rejected: retention has archived that of one of them.
    """
    migration = await tools.ledger.load(Migration, stream)
    if migration is None or migration.state is not State.COMPLETED:
        return
    began = await _began(tools.ledger, stream)
    for store, physical in named_collections(migration, *StepKind):
        for status in await tools.applications.generations(store=store, physical=physical):
            then = await tools.ledger.event_at(status.generation, began)
            # One that the migration adopted or made itself is what it became.
            version = then.version if then is not None else status.recorded - status.gone
            # It needs everything since, so one version that is kept by its label is not enough.
            through = (await place_at(tools.ledger, status, version)).through
            if through < status.archived_before:
                raise Rejected(
                    f"retention has archived what {physical!r} was when this migration began, so "
                    "it cannot be rolled back any more; `restore` goes to a version that is kept"
                )


async def _began(ledger: Ledger, stream: UUID) -> int:
    """The position at which a migration was started."""
    async with aclosing(stream_events(ledger, stream)) as events:
        async for recorded in events:
            if isinstance(recorded.event, Migration.Started):
                return recorded.position
    return (await ledger.head()).position
