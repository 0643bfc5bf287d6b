"""The command that erases the points of a person for good."""

import os
import socket
import sys
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import uuid4

import typer

from adapters.bootstrap import Service, open_service
from adapters.cli.command import FAILED, Cli, Reason, asked
from adapters.cli.following import require_workers
from adapters.cli.tables import rows
from domain.model.erasure import Erasure
from domain.model.errors import Rejected
from domain.model.points import id_of, key_of
from domain.use_cases.erase import Erasing, Finished, unfinished
from domain.use_cases.find_subjects import Affected, Found, Scope, find_by_ids, find_by_values

COLUMNS = ["collection", "store", "in", "is", "points", "earlier", "objects", "found"]
NAMED = 5

Ids = Annotated[
    list[str] | None,
    typer.Option("--ids", help="Ids of points, with commas between them; may come several times."),
]
Filter = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="FIELD=VALUE",
        help="Payload field and its value, now or in any version; of several, all must be there. "
        "Turned into ids, and kept nowhere.",
    ),
]
Within = Annotated[
    list[str] | None,
    typer.Option(
        "--collection", help="Only in this one and in copies of it; may come several times."
    ),
]


async def erase(
    cli: Cli,
    *,
    ids: Ids = None,
    values: Filter = None,
    collections: Within = None,
    store: Annotated[str, typer.Option(help="Only in this vector store connection.")] = "",
    basis: Annotated[str, typer.Option(help="On which ground; recorded.")] = "",
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Erase, or only show what would be erased.")
    ] = True,
    accept_irreversible: Annotated[
        bool, typer.Option("--accept-irreversible", help="Do not ask: nothing undoes it.")
    ] = False,
    reason: Reason = "",
) -> int:
    """Erase points for good: from collections, all their versions, and objects. Nothing undoes it.

    Without --ids and --filter it finishes what was begun.
    """
    wanted = _Wanted(ids or [], values or [], Scope(tuple(collections or ()), store))
    if wanted and record and not (reason and basis):
        raise Rejected("an erasure needs --reason and --basis, which are recorded")
    async with open_service(cli.settings) as service:
        found = await wanted.find(service)
        left = await unfinished(service.tools)
        if not cli.json:
            _show(cli, found, left, recorded=record)
        finished = list[Finished]()
        if record and (found.affected or left):
            if found.affected:
                _ask(cli, accepted=accept_irreversible)
            finished = await _run(cli, service, found, basis, reason)
    _end(cli, found, left, finished, recorded=record)
    return FAILED if found.unknown else 0


class _Wanted:
    """What is asked for; false if nothing is, and only what was begun is to be finished."""

    def __init__(self, ids: Sequence[str], values: Sequence[str], scope: Scope) -> None:
        split = [one.strip() for text in ids for one in text.split(",")]
        self._keys = {key_of(int(one) if one.isdecimal() else one) for one in split}
        self._match = dict(_pair(text) for text in values)
        self._scope = scope
        if self._keys and self._match:
            raise Rejected("say --ids or --filter, not both")

    def __bool__(self) -> bool:
        return bool(self._keys or self._match)

    async def find(self, service: Service) -> Found:
        """The points, wherever they are and were."""
        if self._keys:
            return await find_by_ids(service.tools, self._keys, self._scope)
        if self._match:
            return await find_by_values(service.tools, self._match, self._scope)
        return Found()


def _pair(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not (field and equals):
        raise Rejected("--filter is FIELD=VALUE")  # what it says may be personal
    return field, value


def _ask(cli: Cli, *, accepted: bool) -> None:
    """Ask before something goes for good.

    Raises:
        Rejected: nobody is there to ask, and `--accept-irreversible` is missing.
        typer.Exit: the answer is no.
    """
    if accepted:
        return
    if cli.json or not sys.stdin.isatty():
        raise Rejected("nothing undoes an erasure: say --accept-irreversible to confirm it")
    if not asked("Erase them for good? Nothing undoes it."):
        raise typer.Exit(FAILED)


async def _run(cli: Cli, service: Service, found: Found, basis: str, reason: str) -> list[Finished]:
    """Finish what was begun, then erase what was found."""

    async def silence() -> None:
        await require_workers(service, {"applier"}, "The erasure is recorded, and")

    tools, context = service.tools, cli.context(reason)
    work = Erasing(tools, service.leaders, service.garbage, service.traces, context, silence)
    holder = f"erase-{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
    async with work.alone(holder):
        finished = [await work.finish(one.number) for one in await unfinished(tools)]
        return finished + await work.erase(found.parts(), basis)


def _show(cli: Cli, found: Found, left: Sequence[Erasure], *, recorded: bool) -> None:
    """What is going to happen."""
    say = cli.console.print
    then = "is finished first" if recorded else "is not finished"
    for begun in left:
        say(f"erasure {begun.number} of {len(begun.ids):,} points was begun, and {then}")
    for key in found.unknown[:NAMED]:
        say(f"point {id_of(key)} was never in these collections")
    if len(found.unknown) > NAMED:
        say(f"and {len(found.unknown) - NAMED:,} more are in none")
    if found.erased:
        say(f"{len(found.erased):,} of the points were erased before")
    if found.affected:
        say(f"{len(found.keys):,} points, in {len(found.objects):,} objects that are rewritten:")
        rows(cli.console, COLUMNS, [_row(one) for one in found.affected])
        say("Nothing undoes it: versions that had them are not rebuildable exactly any more.")
    for one in found.affected:
        if one.released:
            say(
                f"the ledger does not look after {one.status.physical!r} any more: what the store "
                "has there stays",
                soft_wrap=True,
            )


def _row(one: Affected) -> dict[str, Any]:
    status = one.status
    gone = "released" if one.released else "dropped"
    return {
        "collection": status.collection,
        "store": status.store,
        "in": status.physical,
        "is": gone if status.gone else "there",
        "points": 0 if status.gone else one.there,
        "earlier": len(one.keys) - (0 if status.gone else one.there),
        "objects": len(one.objects),
        "found": "asked for" if one.named else "copy",
    }


def _end(
    cli: Cli,
    found: Found,
    left: Sequence[Erasure],
    finished: Sequence[Finished],
    *,
    recorded: bool,
) -> None:
    by_hand = [*dict.fromkeys(sentence for one in finished for sentence in one.by_hand)]
    if cli.json:
        cli.emit(
            {
                "subjects": [_row(one) for one in found.affected],
                "points": len(found.keys),
                "objects": len(found.objects),
                "unknown": [id_of(key) for key in found.unknown],
                "erased_before": [id_of(key) for key in found.erased],
                "unfinished": [one.number for one in left],
                "erased": [_erased(one.erasure) for one in finished],
                "by_hand": by_hand,
                "recorded": recorded,
                "nothing_to_do": not (found.affected or left),
            }
        )
        return
    for one in finished:
        done = _erased(one.erasure)
        cli.console.print(
            f"erased: {done['ids']:,} points, in {done['generations']:,} collections and "
            f"{done['objects']:,} objects (erasure {done['number']})"
        )
    for sentence in by_hand:
        cli.console.print(f"left to do: {sentence}", soft_wrap=True)
    if not (found.affected or left):
        cli.console.print("nothing to erase")
    elif not recorded:
        cli.console.print("nothing was erased (--no-record)")
    elif not finished:
        cli.console.print("nothing to erase: somebody else has erased these points meanwhile")


def _erased(erasure: Erasure) -> dict[str, int]:
    return {
        "number": erasure.number,
        "ids": len(erasure.ids),
        "generations": len(erasure.subjects),
        "objects": len(erasure.objects),
    }
