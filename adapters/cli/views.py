"""Commands for read models: how far each is, and building one anew from the ledger."""

from typing import Annotated

import typer

from adapters.bootstrap import open_service
from adapters.cli.command import Cli
from adapters.cli.tables import pairs, rows
from domain.model.errors import NotFound
from domain.model.spec import nearest
from domain.use_cases.project import rebuild
from projections import PROJECTIONS

Name = Annotated[
    str, typer.Argument(metavar="NAME", help=f"One of {', '.join(p.name for p in PROJECTIONS)}.")
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


async def rebuild_projection(cli: Cli, name: Name) -> None:
    """Build a read model anew beside the live one, and swap them in one step."""
    known = {projection.name: projection for projection in PROJECTIONS}
    if name not in known:
        raise NotFound(f"there is no projection {name!r}{nearest(name, list(known))}")
    async with open_service(cli.settings) as service:
        build = await rebuild(service.ledger, service.views, known[name])
    document = {"projection": name, "build": build.number, "position": build.cursor.position}
    if cli.json:
        cli.emit(document)
    else:
        pairs(cli.console, document)
