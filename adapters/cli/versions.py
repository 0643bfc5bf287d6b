"""Commands for versions of collections."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

import orjson
import typer

from adapters.bootstrap import DEFAULT, open_service
from adapters.cli.command import FAILED, At, Cli, ExitCode, Name, Reason, Store
from adapters.cli.tables import pairs, rows, say
from domain.model.points import id_of
from domain.model.schema import CollectionSchema
from domain.use_cases.diff_versions import (
    Changed,
    Contents,
    Shown,
    VersionDiff,
    diff_versions,
    with_contents,
)
from domain.use_cases.list_versions import list_versions as versions_of
from domain.use_cases.list_versions import with_details
from domain.use_cases.versions import find_version, tag_version

COLUMNS = [
    "position",
    "label",
    "migration",
    "in",
    "points",
    "vectors",
    "digest",
    "rebuild",
    "at",
    "actor",
]
HEX_SHOWN = 8
"""Of digests and ids in tables; JSON has them whole."""

EXAMPLES = 20


async def list_versions(cli: Cli, name: Name, *, store: Store = DEFAULT) -> None:
    """List the versions of a collection that were noted: by migrations, and by people."""
    async with open_service(cli.settings) as service:
        noted = await versions_of(service.tools, service.views, store, name)
        found = await with_details(service.tools, noted)
    if cli.json:
        for document in found:
            cli.emit(document)
        return
    rows(cli.console, COLUMNS, [_shown(document) for document in found])
    for document in found:
        if document["not_rebuildable"]:
            exactly = "not rebuildable exactly: " if document["remains"] else ""
            text = f"position {document['position']}: {exactly}{document['not_rebuildable']}"
            cli.console.print(text, soft_wrap=True)


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    """A version as a row of a table."""
    vectors = CollectionSchema.from_json(document["schema"]).vectors
    return {
        **document,
        "label": document["label"] or document["occasion"].removeprefix("migration "),
        "migration": document["migration"][:HEX_SHOWN],
        "in": document["physical"].removeprefix(f"{document['collection']}__"),
        "digest": document["digest"][:HEX_SHOWN],
        "vectors": [f"{name} {spec.shape}".lstrip() for name, spec in sorted(vectors.items())],
        "rebuild": document["not_rebuildable"] is None,
    }


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
    say(cli, document)


async def diff(
    cli: Cli,
    name: Name,
    one: Annotated[
        str, typer.Argument(metavar="VERSION", help="A label, position, or ISO 8601 time.")
    ],
    other: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="Another one; the last by default.")
    ] = None,
    *,
    ids: Annotated[bool, typer.Option("--ids", help="Every id that differs, one a line.")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Every point that differs, with its payloads.")
    ] = False,
    exit_code: ExitCode = False,
    store: Store = DEFAULT,
) -> int:
    """Show what became of the points of a collection from one version to another."""
    found, examples = VersionDiff(), dict[str, list[int | str]]()
    async with open_service(cli.settings) as service:
        tools = service.tools
        before = await find_version(tools, store, name, one)
        after = await find_version(tools, store, name, other)
        different = diff_versions(tools, before, after, found)
        if show:
            await _show_all(cli, with_contents(Contents(tools), before, after, different))
        else:
            await _list_ids(cli, different, examples, everything=ids)
    _sum_up(cli, found, {} if show or ids else examples)
    return FAILED if exit_code and not found.equal else 0


async def _show_all(cli: Cli, points: AsyncGenerator[Shown, None]) -> None:
    async with aclosing(points):
        async for point in points:
            if cli.json:
                cli.emit(point.to_json())
                continue
            cli.console.print(f"{point.kind} {id_of(point.key)}")
            for sign, payload in (("-", point.before), ("+", point.after)):
                if payload is not None:
                    text = orjson.dumps(payload).decode()
                    cli.console.print(f"  {sign} {text}", soft_wrap=True)
            if point.kind == "changed" and point.vectors:
                names = ", ".join(one or "(unnamed)" for one in point.vectors)
                cli.console.print(f"  vectors that differ: {names}", soft_wrap=True)


async def _list_ids(
    cli: Cli,
    points: AsyncGenerator[Changed, None],
    examples: dict[str, list[int | str]],
    *,
    everything: bool,
) -> None:
    async with aclosing(points):
        async for kind, key in points:
            if not everything:
                listed = examples.setdefault(kind, [])
                if len(listed) < EXAMPLES:
                    listed.append(id_of(key))
            elif cli.json:
                cli.emit({"kind": kind, "id": id_of(key)})
            else:
                cli.console.print(f"{kind} {id_of(key)}")


def _sum_up(cli: Cli, found: VersionDiff, examples: dict[str, list[int | str]]) -> None:
    document: dict[str, Any] = {**vars(found), "equal": found.equal}
    if cli.json:
        cli.emit({**document, **({"examples": examples} if examples else {})})
        return
    first, second = found.points
    shown: dict[str, Any] = {"points": f"{first:,} before, {second:,} after"}
    for kind in ("added", "removed", "changed"):
        such = f" (such as {', '.join(map(str, examples[kind][:3]))})" if kind in examples else ""
        shown[kind] = f"{document[kind]:,}{such}"
    if found.schema:
        shown["schema"] = "; ".join(found.schema)
    if any(found.erased):
        gone, also = found.erased
        shown["erased"] = f"{gone:,} of the first version, {also:,} of the second: not compared"
    pairs(cli.console, shown)
