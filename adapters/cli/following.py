"""Follow a migration to its end: on the console, in a log file, as JSON lines."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TextIO
from uuid import UUID

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from adapters.bootstrap import Service
from adapters.cli.command import FAILED, Cli
from adapters.cli.complaints import waits
from domain.model.errors import NotFound, Unavailable
from domain.model.migration import Migration, State
from domain.model.recorded import Recorded

POLL_SECONDS = 0.2
SILENCE_SECONDS = 4.0
"""How long nothing may happen before the command says what workers wait for."""

PATIENCE_SECONDS = 15.0
"""How long nothing may happen before the command looks whether anybody works at all."""

ROLES = frozenset({"relay", "applier", "flow", "coordinator", "projector"})
"""Who works on a migration."""

COUNTED = {"backup": "captured", "migration": "applied"}
"""Phases in which points are counted, and the count of the read model that says how many."""


@dataclass(frozen=True)
class Observed:
    """What has changed since the last look.

    Attributes:
        events: new events of the migration.
        document: its read model, or None until there is one.
        state: where it is.
        waits: if nothing happens, what workers wait for, by role.
    """

    events: list[Recorded]
    document: dict[str, Any] | None
    state: State
    waits: Mapping[str, str] = field(default_factory=dict)


async def observe(service: Service, migration: UUID, after: int = 0) -> AsyncIterator[Observed]:
    """Whatever changes, until the migration settles and its read model says so too.

    Raises:
        NotFound: there is no such migration.
        Unavailable: it should run, and no worker does.
        Halted: it should run, and work is halted.
    """
    shown: dict[str, Any] | None = None
    quiet = 0.0
    while True:
        events = await service.ledger.events(migration, after=after)
        after = events[-1].version if events else after
        current = await service.ledger.load(Migration, migration)
        if current is None:
            raise NotFound(f"there is no migration {migration}")
        document = await service.views.get("migrations", str(migration))
        if events or document != shown:
            shown, quiet = document, 0.0
            yield Observed(events, document, current.state)
        if current.state.settled and document is not None and document["state"] == current.state:
            return
        await service.ledger.working()
        if quiet > SILENCE_SECONDS:
            reasons = waits(await service.workers.alive())
            if reasons and document is not None:
                yield Observed([], document, current.state, reasons)
        if quiet > PATIENCE_SECONDS:
            await require_workers(service, ROLES, "The migration")
            quiet = 0.0
        await asyncio.sleep(POLL_SECONDS)
        quiet += POLL_SECONDS


async def require_workers(service: Service, roles: AbstractSet[str], what: str) -> None:
    """Check that somebody works in these roles.

    Raises:
        Unavailable: nobody works in one of them.
    """
    alive = {beat.role for beat in await service.workers.alive()}
    missing = roles - alive
    if missing:
        raise Unavailable(
            f"no worker runs as {', '.join(sorted(missing))}; start `migration-ledger up` or "
            f"`migration-ledger worker --roles {','.join(sorted(missing))}`. "
            f"{what} goes on when they run."
        )


class MigrationLog(AbstractContextManager["MigrationLog"]):
    """What happens to a migration, one line an event, appended to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()

    def write(self, recorded: Recorded) -> None:
        """Add an event."""
        level = "ERROR" if recorded.topic.endswith("failed") else "INFO"
        at = recorded.recorded_at.isoformat(timespec="milliseconds")
        self._file.write(f"{at} {level} {describe(recorded)}\n")
        self._file.flush()


def describe(recorded: Recorded) -> str:
    """An event of a migration in a line."""
    fields = vars(recorded.event)
    what = recorded.topic.removeprefix("migration.").replace("-", " ")
    if recorded.topic == "migration.planned":
        return f"{what} {fields['name']} by {recorded.context.actor.id}"
    if "error" in fields:
        return f"{what} {fields['step']}: {fields['error']}"
    if "result" in fields:
        return f"{what} {fields['step']}{_counts(fields['result'])}"
    if "statistics" in fields:
        return f"{what}{_counts(fields['statistics'])}"
    if "step" in fields:
        return f"{what} {fields['step']}"
    return f"{what} by {recorded.context.actor.id}: {recorded.context.reason}"


def _counts(result: dict[str, Any]) -> str:
    counts = []
    for name, value in result.items():
        if isinstance(value, bool) or not value:
            continue
        label = name.replace("_", " ")
        if isinstance(value, int):
            counts.append(f"{label} {value:,}")
        elif isinstance(value, list):
            counts.append(f"{label} {len(value)}")
        elif isinstance(value, dict) and all(isinstance(n, int) for n in value.values()):
            counts.append(f"{label} {sum(value.values()):,}")
    return f" ({', '.join(counts)})" if counts else ""


def _print(cli: Cli, observed: Observed, said: set[str]) -> None:
    """What has happened, or why nothing does: once for each role, until something happens again."""
    for recorded in observed.events:
        cli.console.print(f"  {describe(recorded)}", soft_wrap=True)
        said.clear()
    for role, reason in observed.waits.items():
        if role not in said:
            cli.console.print(f"  {role} waits: {reason}", soft_wrap=True)
        said.add(role)


async def follow(
    cli: Cli, service: Service, migration: Migration, *, log: Path | None, wanted: State | None
) -> int:
    """Show a migration until it settles; returns the exit status.

    With `wanted` None every state but failed is fine.
    """
    bar = Progress(
        TextColumn("  {task.description:<14}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=cli.console,
        transient=True,
        disable=cli.json or not cli.console.is_terminal,
    )
    task = bar.add_task("waiting", total=None)
    last: Observed | None = None
    said: set[str] = set()
    with bar, MigrationLog(log) if log else nullcontext() as written:
        async for observed in observe(service, migration.id, after=migration.version - 1):
            last = observed
            if not cli.json:
                _print(cli, observed, said)
            if written is not None:
                for recorded in observed.events:
                    written.write(recorded)
            document = observed.document
            if document is not None and document["phase"] is not None:
                count = COUNTED.get(document["phase"])
                bar.update(
                    task,
                    description=document["phase"],
                    total=document["points"] if count else None,
                    completed=document[count] if count else 0,
                )
    if last is None or last.document is None:
        raise NotFound(f"there is no migration {migration.id}")
    if cli.json:
        cli.emit(last.document)
    elif log:
        cli.console.print(f"  log: {log}")
    if not cli.json and log is None:
        cli.console.print(f"  {last.state}")
    fine = last.state is not State.FAILED if wanted is None else last.state is wanted
    return 0 if fine else FAILED
