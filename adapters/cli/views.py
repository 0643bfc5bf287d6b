"""Commands for read models: how far each is, and building one anew from the ledger."""

from typing import Annotated

import typer

from adapters.bootstrap import open_service
from adapters.cli.command import Cli
from adapters.cli.tables import rows
from domain.model.errors import NotFound
from domain.model.spec import nearest
from domain.use_cases.project import rebuild
from projections import PROJECTIONS

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help=f"One of {', '.join(p.name for p in PROJECTIONS)}; all of them if left out.",
    ),
]


async def list_projections(cli: Cli) -> None:
    """List read models and how many events each is behind."""
    async with open_service(cli.settings) as service:
        head = (await service.ledger.head()).position
        found = [
            {"projection": p.name, "behind": head - (await service.views.cursor(p.name)).position}
            for p in PROJECTIONS
        ]
    if cli.json:
        for document in found:
            cli.emit(document)
    else:
        rows(cli.console, ["projection", "behind"], found)


async def rebuild_projection(cli: Cli, *, name: Name = None) -> None:
    """Build read models anew beside the live ones, and swap each in one step."""
    known = {projection.name: projection for projection in PROJECTIONS}
    if name is not None and name not in known:
        raise NotFound(f"there is no projection {name!r}{nearest(name, list(known))}")
    chosen = PROJECTIONS if name is None else [known[name]]
    async with open_service(cli.settings) as service:
        builds = await rebuild(service.ledger, service.views, *chosen)
    found = [
        {"projection": build.name, "build": build.number, "position": build.cursor.position}
        for build in builds
    ]
    if cli.json:
        for document in found:
            cli.emit(document)
    else:
        rows(cli.console, ["projection", "build", "position"], found)
