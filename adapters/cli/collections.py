"""Commands that change one collection: each writes the spec of a migration, and runs it."""

from pathlib import Path
from typing import Annotated

import typer

from adapters.bootstrap import DEFAULT, open_service
from adapters.cli.command import Cli, Name, Reason, Store, Yes
from adapters.cli.migrations import plan_and_run
from adapters.cli.tables import say
from adapters.files.parquet import SUFFIX, ParquetFile
from domain.model.errors import Rejected
from domain.use_cases.export_version import export_version
from domain.use_cases.tools import recorded_schema
from domain.use_cases.versions import find_version


async def adopt(
    cli: Cli,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Physical collection.")],
    *,
    store: Store = DEFAULT,
    yes: Yes = False,
    reason: Reason = "",
) -> int:
    """Let the ledger know every point of a collection; the same as the recipe adopt-collections."""
    if not reason:
        raise Rejected("adopting needs --reason, which is recorded")
    spec = {
        "version": 1,
        "name": f"adopt {name}",
        "recipe": "adopt-collections",
        "reason": reason,
        "store": store,
        "collections": [name],
    }
    return await plan_and_run(cli, spec, yes=yes)


async def rebuild(
    cli: Cli,
    name: Name,
    *,
    at: Annotated[str, typer.Option(metavar="VERSION", help="Label, position, or ISO 8601 time.")],
    into: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="Name of the new collection, or a .parquet file."),
    ],
    store: Store = DEFAULT,
    to_store: Annotated[
        str, typer.Option(help="Vector store connection of the new collection; the same if empty.")
    ] = "",
    without_erased: Annotated[
        bool,
        typer.Option("--without-erased", help="Make it without the points that were erased."),
    ] = False,
    yes: Yes = False,
    reason: Reason = "",
) -> int:
    """Make a collection as another one was; the same as the recipe rebuild-version.

    Into a file it writes the points with their vectors, and changes nothing.
    """
    if into.endswith(SUFFIX):
        return await _rebuild_file(cli, name, at, Path(into), store, without_erased=without_erased)
    if not reason:
        raise Rejected("rebuilding needs --reason, which is recorded")
    spec = {
        "version": 1,
        "name": f"rebuild {name} at {at}",
        "recipe": "rebuild-version",
        "reason": reason,
        "from": {"store": store, "collection": name, "at": at},
        "to": {"store": to_store or store, "collection": into},
        "without_erased": without_erased,
    }
    return await plan_and_run(cli, spec, yes=yes)


async def restore(
    cli: Cli,
    name: Name,
    *,
    to: Annotated[str, typer.Option(metavar="VERSION", help="Label, position, or ISO 8601 time.")],
    discard_later_writes: Annotated[
        bool,
        typer.Option(
            "--discard-later-writes", help="Let writes of applications go that came later."
        ),
    ] = False,
    store: Store = DEFAULT,
    yes: Yes = False,
    reason: Reason = "",
) -> int:
    """Make a collection exactly what it was; the same as the recipe restore-version.

    It is a migration like any other: `rollback` undoes it.
    """
    if not reason:
        raise Rejected("restoring needs --reason, which is recorded")
    spec = {
        "version": 1,
        "name": f"restore {name} to {to}",
        "recipe": "restore-version",
        "reason": reason,
        "store": store,
        "collection": name,
        "to": to,
        "later_writes": "discard" if discard_later_writes else "fail",
    }
    return await plan_and_run(cli, spec, yes=yes)


async def _rebuild_file(
    cli: Cli, name: str, at: str, path: Path, store: str, *, without_erased: bool
) -> int:
    async with open_service(cli.settings) as service:
        place = await find_version(service.tools, store, name, at)
        schema = await recorded_schema(service.ledger, place.status.generation)
        async with ParquetFile(path, schema) as file:
            digest = await export_version(
                service.tools, service.views, place, file.write, without_erased=without_erased
            )
            erased = await service.ledger.count_erased(place.status.generation, place.through)
            document = {
                "collection": place.status.collection,
                "store": place.status.store,
                "physical": place.status.physical,
                "position": place.position,
                "points": digest.points,
                "erased": erased,
                "digest": digest.hexdigest(),
            }
            file.describe({**document, "schema": schema.to_json()})
    say(cli, {**document, "file": str(path)})
    return 0
