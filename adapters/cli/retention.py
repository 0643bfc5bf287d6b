"""Commands about how long one can go back to the versions of a collection."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from adapters.bootstrap import DEFAULT, open_service
from adapters.cli.command import Cli, Name, Reason, Store, Yes
from adapters.cli.tables import rows, say
from domain.model.durations import duration
from domain.model.errors import Rejected
from domain.model.retention import Retention
from domain.use_cases.retain import Archived, archive_versions, leaving, retentions
from domain.use_cases.retention import decide_retention, place_hold
from domain.use_cases.sweep import GRACE
from domain.use_cases.sweep import sweep as sweep_bodies

Hold = Annotated[
    str, typer.Argument(metavar="HOLD", help="What you call it, such as the number of a case.")
]
COLUMNS = ("collection", "store", "last", "since", "holds")


async def set_policy(
    cli: Cli,
    name: Name,
    *,
    last: Annotated[
        int | None,
        typer.Option(metavar="N", help="Keep what came since the last N noted versions."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Keep what came since, such as 90d.")
    ] = None,
    store: Store = DEFAULT,
    reason: Reason = "",
) -> None:
    """Keep the versions since some point, and those with a label; archive what is older."""
    within = None if since is None else duration(since)
    await _decide(cli, store, name, reason, partial(Retention.set_policy, last=last, since=within))


async def remove_policy(
    cli: Cli, name: Name, *, store: Store = DEFAULT, reason: Reason = ""
) -> None:
    """Keep every version from now on; what was archived stays so."""
    await _decide(cli, store, name, reason, Retention.remove_policy)


async def hold(
    cli: Cli, name: Name, hold: Hold, *, store: Store = DEFAULT, reason: Reason = ""
) -> None:
    """Archive and erase nothing of a collection until the hold is lifted."""
    _refuse_without(reason)
    async with open_service(cli.settings) as service:
        context = cli.context(reason)
        done = await place_hold(service.tools, service.leaders, store, name, hold, context)
    say(cli, _document(done))


async def lift(
    cli: Cli, name: Name, hold: Hold, *, store: Store = DEFAULT, reason: Reason = ""
) -> None:
    """End a hold."""
    await _decide(cli, store, name, reason, partial(Retention.lift_hold, hold=hold))


async def show(cli: Cli) -> None:
    """Show what was decided about which collections."""
    async with open_service(cli.settings) as service:
        documents = [_document(one) for one in await retentions(service.ledger)]
    if cli.json:
        for document in documents:
            cli.emit(document)
    else:
        rows(cli.console, COLUMNS, documents)


async def apply(
    cli: Cli,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be archived, and change nothing.")
    ] = False,
    yes: Yes = False,
    reason: Reason = "",
) -> None:
    """Archive what leaves the window of its policy, and delete the bodies that only that had."""
    async with open_service(cli.settings) as service:
        tools = service.tools
        archived = await leaving(tools)
        _list(cli, archived)
        if dry_run:
            return
        if archived:
            cli.confirm("Archive these? Nobody can go back to them afterwards.", yes=yes)
            archived = await archive_versions(tools, cli.context(reason))
        swept = await sweep_bodies(tools, service.garbage, GRACE, cli.context(reason))
    say(cli, {"archived": len(archived), **vars(swept)})


def _list(cli: Cli, archived: Sequence[Archived]) -> None:
    if cli.json:
        for one in archived:
            cli.emit(vars(one))
    elif archived:
        rows(
            cli.console, ("physical", "store", "before", "kept", "position"), [*map(vars, archived)]
        )
    else:
        cli.console.print("nothing leaves its window")


async def _decide(
    cli: Cli, store: str, name: str, reason: str, decide: Callable[[Retention], None]
) -> None:
    _refuse_without(reason)
    async with open_service(cli.settings) as service:
        done = await decide_retention(service.tools, store, name, cli.context(reason), decide)
    say(cli, _document(done))


def _refuse_without(reason: str) -> None:
    if not reason:
        raise Rejected("this needs --reason, which is recorded")


def _document(retention: Retention) -> dict[str, Any]:
    return {
        "collection": retention.collection,
        "store": retention.store,
        "last": retention.last,
        "since": None if retention.seconds is None else f"{retention.seconds}s",
        "holds": sorted(retention.holds),
    }
