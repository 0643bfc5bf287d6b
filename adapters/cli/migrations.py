"""Commands that plan migrations, run them, watch them and take them back."""

import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.bootstrap import Service, open_service
from adapters.cli.command import FAILED, Cli, ExitCode, Reason, Yes
from adapters.cli.following import describe, follow, observe
from adapters.cli.specs import read_spec
from adapters.cli.tables import pairs, rows, say, show_plan
from domain.model.errors import NotFound, Rejected
from domain.model.migration import Migration, State
from domain.model.recipes import recipe_for
from domain.use_cases.no_longer_true import no_longer_true
from domain.use_cases.old_sides import old_sides
from domain.use_cases.plan_migration import Planned, plan_migration
from domain.use_cases.progress import progress
from domain.use_cases.steer_migration import (
    cancel_migration,
    roll_back_migration,
    start_migration,
)
from domain.use_cases.tools import migration_named

Spec = Annotated[Path, typer.Argument(help="Spec file, YAML or JSON.")]
Target = Annotated[str, typer.Argument(metavar="ID|SPEC", help="Migration id, or a spec file.")]
Id = Annotated[
    str, typer.Argument(metavar="ID|NAME", help="Migration id, or a name: the latest that has it.")
]
Record = Annotated[
    bool, typer.Option("--record/--no-record", help="Record the plan, or only show it.")
]
Skip = Annotated[
    bool, typer.Option("--skip-invalid", help="Leave malformed sources out, migrate the others.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Start it and return.")]
UUID_SHAPE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

LogFile = Annotated[
    Path | None, typer.Option(help="Log file; by default one below the data directory.")
]


async def plan(
    cli: Cli,
    spec: Spec,
    *,
    record: Record = True,
    skip_invalid: Skip = False,
    exit_code: ExitCode = False,
) -> int:
    """Show what a migration would do, and record the plan with its id and hash."""
    document = _checked(spec, skip_invalid=skip_invalid)
    async with open_service(cli.settings) as service:
        planned = await _planned(cli, service, document, record=record)
    _show(cli, planned)
    pending = planned.migration.state is not State.COMPLETED
    return FAILED if exit_code and pending else 0


def _checked(path: Path, *, skip_invalid: bool) -> dict[str, Any]:
    """The document of a spec file, checked before anything is connected to."""
    document = read_spec(path)
    if skip_invalid:
        document["skip_invalid"] = True
    recipe_for(document)
    return document


async def _planned(
    cli: Cli, service: Service, document: dict[str, Any], *, record: bool
) -> Planned:
    context = cli.context(document["reason"])
    return await plan_migration(service.tools, document, context, record=record)


def _show(cli: Cli, planned: Planned) -> None:
    migration, made = planned.migration, planned.plan
    if cli.json:
        cli.emit(
            {
                "id": str(migration.id) if planned.recorded else None,
                "hash": made.hash,
                "state": migration.state if planned.recorded else "not recorded",
                **made.to_json(),
            }
        )
        return
    show_plan(cli.console, made, title=f"{migration.name}: {len(made.steps)} steps")
    if planned.recorded:
        cli.console.print(f"id   {migration.id}  ({migration.state})")
    else:
        cli.console.print("not recorded (dry run)")
    cli.console.print(f"hash {made.hash}")


async def apply(
    cli: Cli,
    target: Target,
    *,
    yes: Yes = False,
    reason: Reason = "",
    detach: Detach = False,
    skip_invalid: Skip = False,
    log_file: LogFile = None,
) -> int:
    """Run exactly the recorded plan and wait for its end; once done, the same does nothing."""
    by_id = UUID_SHAPE.fullmatch(target) is not None
    document = {} if by_id else _checked(Path(target), skip_invalid=skip_invalid)
    async with open_service(cli.settings) as service:
        if by_id:
            migration = await _named(service, target)
        else:
            migration = (await _planned(cli, service, document, record=True)).migration
        return await _run(
            cli, service, migration, yes=yes, reason=reason, detach=detach, log_file=log_file
        )


async def _run(
    cli: Cli,
    service: Service,
    migration: Migration,
    *,
    yes: bool,
    reason: str,
    detach: bool = False,
    log_file: Path | None = None,
) -> int:
    if migration.state is State.COMPLETED:
        return await _already_done(cli, service, migration)
    if migration.state in {State.ROLLED_BACK, State.CANCELLED}:
        raise Rejected(
            f"migration {migration.id} is {migration.state}, which is for good; "
            "to make another attempt, apply its spec, or run the command that made it, again"
        )
    if migration.state in {State.PLANNED, State.FAILED}:
        if not (cli.json or yes):
            show_plan(cli.console, migration.plan, title=migration.name)
        cli.confirm("Apply this plan?", yes=yes)
        context = cli.context(reason or migration.spec["reason"])
        migration = await start_migration(service.tools, migration, context)
    if detach:
        say(cli, {"id": str(migration.id), "state": migration.state})
        return 0
    log = log_file or _log(cli, migration)
    return await follow(cli, service, migration, log=log, wanted=State.COMPLETED)


def _log(cli: Cli, migration: Migration) -> Path:
    return cli.settings.data_dir / "logs" / f"migration-{migration.id}.log"


async def _already_done(cli: Cli, service: Service, migration: Migration) -> int:
    untrue = await no_longer_true(service.tools, migration)
    say(
        cli,
        {
            "id": str(migration.id),
            "state": migration.state,
            "nothing_to_do": not untrue,
            **({"no_longer_true": untrue} if untrue else {}),
            **migration.statistics,
        },
    )
    return FAILED if untrue else 0


async def _named(service: Service, reference: str) -> Migration:
    """The migration with this id, or the latest with this name."""
    found = await migration_named(service.tools.ledger, reference)
    if found is None:
        same = await service.views.find("migrations", match={"name": reference}, limit=1000)
        if not same:
            raise NotFound(f"there is no migration {reference!r}; see `migration list`")
        latest = max((document for _, document in same), key=lambda d: str(d["planned_at"]))
        found = await migration_named(service.tools.ledger, latest["id"])
    if found is None:
        raise NotFound(f"there is no migration {reference!r}; see `migration list`")
    return found


async def roll_back(
    cli: Cli, migration: Id, *, yes: Yes = False, reason: Reason = "", log_file: LogFile = None
) -> int:
    """Undo a migration, and wait until it is undone."""
    async with open_service(cli.settings) as service:
        found = await _named(service, migration)
        if found.state in {State.ROLLED_BACK, State.CANCELLED}:
            say(cli, {"id": str(found.id), "state": found.state, "nothing_to_do": True})
            return 0
        if not reason:
            raise Rejected("a rollback needs --reason, which is recorded")
        if not cli.json:
            for side in await old_sides(service.tools, found):
                cli.console.print(f"old side {side.collection}: {side}")
            undone = [s for s in reversed(found.plan.steps) if s.id in found.started]
            rows(cli.console, ["step", "undo"], [{"step": s.id, "undo": s.undo} for s in undone])
        cli.confirm("Roll back?", yes=yes)
        asked = await roll_back_migration(service.tools, found.id, cli.context(reason))
        wanted = State.CANCELLED if asked.cancelled else State.ROLLED_BACK
        log = log_file or _log(cli, found)
        return await follow(cli, service, asked, log=log, wanted=wanted)


async def plan_and_run(cli: Cli, spec: dict[str, Any], *, yes: bool) -> int:
    """Plan a spec that a command made, show it, ask, and run it to its end."""
    reason = spec["reason"]
    async with open_service(cli.settings) as service:
        planned = await plan_migration(service.tools, spec, cli.context(reason))
        return await _run(cli, service, planned.migration, yes=yes, reason=reason)


async def cancel(cli: Cli, migration: Id, *, yes: Yes = False, reason: Reason = "") -> int:
    """Give up a migration that is not completed, and undo what it did."""
    async with open_service(cli.settings) as service:
        found = await _named(service, migration)
        if not reason:
            raise Rejected("a cancellation needs --reason, which is recorded")
        cli.confirm(f"Cancel {found.name}?", yes=yes)
        asked = await cancel_migration(service.tools, found.id, cli.context(reason))
        return await follow(cli, service, asked, log=_log(cli, found), wanted=State.CANCELLED)


async def list_migrations(
    cli: Cli,
    *,
    state: Annotated[str, typer.Option(help="Only those in this state.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
) -> None:
    """List migrations."""
    async with open_service(cli.settings) as service:
        match = {"state": state} if state else None
        found = [d for _, d in await service.views.find("migrations", limit=limit, match=match)]
    found.sort(key=lambda document: document["planned_at"])
    if cli.json:
        for document in found:
            cli.emit(document)
    else:
        shown = [{**d, "planned_at": datetime.fromisoformat(d["planned_at"])} for d in found]
        rows(cli.console, ["id", "name", "state", "points", "planned_at", "planned_by"], shown)


async def show(cli: Cli, migration: Id) -> None:
    """Show a migration: its progress, its steps, and who asked for what and why."""
    async with open_service(cli.settings) as service:
        found = await _named(service, migration)
        document = await service.views.get("migrations", str(found.id)) or {}
        events = await service.ledger.events(found.id)
        sides = await old_sides(service.tools, found)
    if cli.json:
        cli.emit(
            {
                **document,
                "progress": progress(document, datetime.now(UTC)),
                "old_sides": [asdict(side) for side in sides],
            }
        )
        return
    cli.console.print(found.name, style="bold", end="  ")
    cli.console.print(str(found.id))
    counts = progress(document, datetime.now(UTC))
    pairs(
        cli.console,
        {
            "state": found.state,
            "recipe": found.recipe,
            "plan": found.plan_hash,
            "phase": counts["phase"],
            "points": f"{counts['processed']:,} of {counts['total']:,}",
            "without a place": counts["failed"],
            "points per second": counts["rate"],
            "seconds to go": counts["eta_seconds"],
        },
    )
    for side in sides:
        cli.console.print(f"  old side {side.collection}: {side}", soft_wrap=True)
    for name, gap in found.gaps.items():
        line = f"  gap: nothing answered under {name} for {gap:,} ms"
        cli.console.print(line, soft_wrap=True)
    for recorded in events:
        at = recorded.recorded_at.isoformat(timespec="seconds")
        line = f"  {recorded.position:>6}  {at}  {describe(recorded)}"
        cli.console.print(line, soft_wrap=True)


async def watch(cli: Cli, migration: Id) -> int:
    """Follow a migration until it settles; fails if the migration does."""
    async with open_service(cli.settings) as service:
        found = await _named(service, migration)
        if not cli.json:
            return await follow(cli, service, found, log=None, wanted=None)
        state = found.state
        async for observed in observe(service, found.id):
            state = observed.state
            if observed.document is not None:
                cli.emit(observed.document)
    return FAILED if state is State.FAILED else 0
