"""Run migrations: the process manager behind the coordinator worker."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from domain.model.aggregate import Actor, Context
from domain.model.errors import Conflict, LedgerError, Unavailable
from domain.model.migration import Migration, State
from domain.model.plan import Step, StepKind
from domain.model.version import Occasion
from domain.ports import Leaders, Ledger
from domain.use_cases.histories import refuse_newer_stores
from domain.use_cases.holds import resume_writes
from domain.use_cases.steps import EXECUTORS
from domain.use_cases.steps.step_run import BACK, FORWARD, StepRun
from domain.use_cases.tools import Tools, save_first
from domain.use_cases.versions import note_versions
from domain.use_cases.way_back import secure_way_back

logger = logging.getLogger("migration_ledger.coordinator")


class StepCrashed(LedgerError):
    """A step ended with an error that is a defect of ours."""


COORDINATOR = Actor("coordinator", "service")
LONGEST_WAIT = 5.0
RETRY_SECONDS = 0.2


async def run_migration(tools: Tools, migration_id: UUID, changed: asyncio.Event) -> None:
    """Take a migration to its next settled state, forward or back.

    Args:
        tools: the ports.
        migration_id: its stream.
        changed: set whenever somebody recorded something about the migration; the step that
            runs is cancelled if the migration now goes another way.
    """
    while True:
        migration = await tools.ledger.load(Migration, migration_id)
        if migration is None or migration.state.settled:
            return
        context = await _context(tools.ledger, migration)
        if migration.state is State.RUNNING:
            step = migration.next_step
            if step is None:
                await note_versions(tools, migration, Occasion.COMPLETED, context)
                migration.complete(_statistics(migration))
                await _record(tools.ledger, migration, context)
            else:
                await _run_step(tools, migration, step, context, changed)
        else:
            step = migration.next_compensation
            if step is None:
                await note_versions(tools, migration, Occasion.ROLLED_BACK, context)
                await _let_go(tools, migration, context)
                migration.finish_rollback()
                await _record(tools.ledger, migration, context)
            else:
                await _run_step(tools, migration, step, context, changed)


async def _let_go(tools: Tools, migration: Migration, context: Context) -> None:
    """After a rollback nothing is held by the migration any more, whatever became of it."""
    for status in await tools.applications.generations():
        if str(migration.id) in status.holders and not status.gone:
            await resume_writes(tools, status.generation, migration.id, context)


async def _context(ledger: Ledger, migration: Migration) -> Context:
    """Who and why of what the coordinator records: the request that it carries out."""
    events = await ledger.events(migration.id)
    asked = next(
        recorded
        for recorded in reversed(events)
        if recorded.topic
        in {
            Migration.Created.TOPIC,
            "migration.started",
            "migration.rollback-requested",
        }
    )
    return Context(
        actor=COORDINATOR,
        reason=asked.context.reason,
        correlation_id=str(migration.id),
        causation_id=str(asked.position),
    )


async def _run_step(
    tools: Tools, migration: Migration, step: Step, context: Context, changed: asyncio.Event
) -> None:
    await tools.ledger.working()  # a step that began before records nothing when it goes on
    forward = migration.state is State.RUNNING
    if forward:
        migration.start_step(step)
        if not await _record(tools.ledger, migration, context):
            return
    run = StepRun(tools, migration.id, step, FORWARD if forward else BACK, context)
    work = EXECUTORS[step.kind].do(run) if forward else _undo(run, migration)
    logger.info("step_started", extra={"migration": str(migration.id), "step": step.id})
    result = await _unless_redirected(tools.ledger, migration, work, changed)
    if result is None:
        return
    if isinstance(result, Unavailable):
        raise result
    if isinstance(result, LedgerError):
        logger.warning("step_failed", extra={"migration": str(migration.id), "step": step.id})
        migration.fail_step(step, type(result).__name__, str(result))
        if forward and migration.spec["on_failure"] == "rollback":
            migration.request_rollback()
        await _record(tools.ledger, migration, context)
        return
    if forward:
        migration.complete_step(step, result)
    else:
        migration.compensate_step(step, result)
    await _record(tools.ledger, migration, context)


async def _undo(run: StepRun, migration: Migration) -> dict[str, Any]:
    """Compensate a step; before the first one, make sure that nothing would be lost."""
    if not migration.compensated and migration.verified:
        await secure_way_back(run, migration)
    return await EXECUTORS[run.step.kind].undo(run)


async def _unless_redirected(
    ledger: Ledger,
    migration: Migration,
    work: Coroutine[Any, Any, dict[str, Any]],
    changed: asyncio.Event,
) -> dict[str, Any] | LedgerError | None:
    """The result or the error of a step, or None if the migration took another way meanwhile."""

    async def outcome() -> dict[str, Any] | LedgerError:
        try:
            return await work
        except LedgerError as error:
            return error
        except Exception as error:  # a defect of ours must not stop the other migrations
            logger.exception("step_crashed", extra={"migration": str(migration.id)})
            return StepCrashed(f"defect: {type(error).__name__}; the coordinator's log has more")

    async with asyncio.TaskGroup() as group:
        step = group.create_task(outcome())

        async def watch() -> None:
            while True:
                changed.clear()
                try:
                    now = await ledger.load(Migration, migration.id)
                except Unavailable:
                    await asyncio.sleep(RETRY_SECONDS)
                    changed.set()
                    continue
                if now is not None and now.state is not migration.state:
                    step.cancel()
                    return
                await changed.wait()

        watcher = group.create_task(watch())
        step.add_done_callback(lambda _: watcher.cancel())
    return None if step.cancelled() else step.result()


async def _record(ledger: Ledger, migration: Migration, context: Context) -> bool:
    """Record what was decided; False if somebody else recorded something first."""
    key = f"migration/{migration.id}/version/{migration.version}"
    return await save_first(ledger, migration, key, context)


def _statistics(migration: Migration) -> dict[str, Any]:
    planned = migration.plan.estimates
    targets = sum(
        len(step.params["collections"])
        for step in migration.plan.steps
        if step.kind is StepKind.CREATE
    )
    made = migration.results.get("create", {})
    created, existing = len(made.get("created", [])), len(made.get("existing", []))
    flow = migration.results.get("flow", {})
    unplaced = migration.results.get("hand-over", {}).get("unplaced", {})
    restored = migration.results.get("restore")
    return {
        **({"points_restored": sum(restored.values())} if restored is not None else {}),
        "sources_processed": planned.get("sources", 0),
        "sources_skipped": len(planned.get("skipped_sources", [])),
        "collections_created": created,
        "collections_existing": existing,
        "collections_failed": targets - created - existing,
        "points_moved": sum(flow.get("placed", {}).values()),
        "points_unplaced": sum(sum(one["unplaced"].values()) for one in unplaced.values()),
        "rows_changed": len(migration.results.get("restructure", {}).get("rows", [])),
        "errors": migration.failures,
    }


async def coordinate(tools: Tools, leaders: Leaders, holder: str, stop: asyncio.Event) -> None:
    """Run all migrations that are under way, as the only coordinator, until told to stop."""
    while not stop.is_set():
        try:
            async with leaders.lead("coordinator", holder):
                await _carry_all(tools, stop)
        except Conflict as error:
            logger.warning("leadership_lost", extra={"holder": holder, "error": str(error)})


async def _carry_all(tools: Tools, stop: asyncio.Event) -> None:
    """Start what events of migrations ask for, and cancel it when told to stop."""
    await refuse_newer_stores(tools.ledger, tools.stores)
    running: dict[UUID, tuple[asyncio.Task[None], asyncio.Event]] = {}
    position = 0
    async with asyncio.TaskGroup() as group:
        while not stop.is_set():
            try:
                # Read first, so that what comes meanwhile is not passed over.
                head = await tools.ledger.head()
                events = await tools.ledger.read(position, 1000, topics="migration.")
                if not events:
                    position = max(position, head.position)
                    await tools.ledger.wait(position, 0.5)
            except Unavailable as error:
                logger.warning("coordinator_waits", extra={"error": str(error)})
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for recorded in events:
                position = recorded.position
                task, changed = running.get(recorded.stream, (None, asyncio.Event()))
                changed.set()
                if task is None or task.done():
                    task = group.create_task(_carry(tools, recorded.stream, changed))
                    running[recorded.stream] = task, changed
            running = {k: v for k, v in running.items() if not v[0].done()}
        for task, _ in running.values():
            task.cancel()


async def _carry(tools: Tools, migration: UUID, changed: asyncio.Event) -> None:
    """Run one migration; wait and go on when a server does not answer."""
    pause = 0.2
    while changed.is_set():
        changed.clear()
        try:
            await run_migration(tools, migration, changed)
        except Unavailable as error:
            logger.warning(
                "waiting_for_server", extra={"migration": str(migration), "error": str(error)}
            )
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_WAIT)
            changed.set()
