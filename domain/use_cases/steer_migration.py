"""Start, cancel and roll back migrations: what people ask of the coordinator."""

from uuid import UUID, uuid4

from domain.model.aggregate import Context
from domain.model.errors import PlanStale
from domain.model.migration import Migration, State
from domain.use_cases.plan_migration import replan
from domain.use_cases.tools import Tools, update


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
        Rejected: it was only planned.
    """
    key = key or f"rollback/{uuid4()}"
    return await update(
        tools.ledger, Migration, migration, key, context, Migration.request_rollback
    )
