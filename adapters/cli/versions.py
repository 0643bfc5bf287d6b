"""Commands for versions of collections."""

from typing import Annotated

import typer

from adapters.bootstrap import DEFAULT, open_service
from adapters.cli.command import At, Cli, Name, Reason, Store
from adapters.cli.tables import pairs, rows
from domain.use_cases.versions import list_versions as versions_of
from domain.use_cases.versions import tag_version

DIGEST_SHOWN = 12


async def list_versions(cli: Cli, name: Name, *, store: Store = DEFAULT) -> None:
    """List the versions of a collection that were noted: by migrations, and by people."""
    async with open_service(cli.settings) as service:
        found = await versions_of(service.tools, service.views, store, name)
    if cli.json:
        for document in found:
            cli.emit(document)
        return
    shown = [
        {**d, "label": d["label"] or d["occasion"], "digest": d["digest"][:DIGEST_SHOWN]}
        for d in found
    ]
    rows(cli.console, ["position", "label", "physical", "points", "digest", "at", "actor"], shown)


async def tag(
    cli: Cli,
    name: Name,
    label: Annotated[str, typer.Argument(help="What to call it; unique for the collection.")],
    *,
    at: At = None,
    store: Store = DEFAULT,
    reason: Reason = "",
) -> None:
    """Give a version of a collection a label, by default the last one."""
    async with open_service(cli.settings) as service:
        context = cli.context(reason)
        version = await tag_version(service.tools, store, name, label, at, context)
    document = {
        "collection": version.collection,
        "label": version.label,
        "position": version.position,
        "physical": version.physical,
        "points": version.points,
        "digest": version.digest,
    }
    if cli.json:
        cli.emit(document)
    else:
        pairs(cli.console, document)
