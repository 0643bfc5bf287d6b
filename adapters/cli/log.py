"""Commands for the ledger itself: its events as they are recorded, and whether they still are."""

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import orjson
import typer

from adapters.bootstrap import Service, open_service
from adapters.cli.bar import events_bar
from adapters.cli.command import FAILED, Cli, ctrl_c_ends
from adapters.postgres.chain import Altered, walk_chain
from adapters.postgres.derived import verify_derived
from adapters.postgres.history import Selection, StoredRecord, following, latest
from domain.model.errors import Rejected
from domain.model.recorded import Cursor

SHOWN = 50
WAIT_SECONDS = 60.0
FIELDS_SHOWN = 300
"""Characters of an event's fields on the console; `--json` gives all."""

_HEAD = re.compile(r"(?<!\d)(\d{1,18}):([0-9a-fA-F]{64})(?![0-9a-fA-F])")
_BEGINS_LIKE_A_HEAD = re.compile(r"\d+:")

Against = Annotated[
    str,
    typer.Option(
        metavar="POSITION:HASH|FILE",
        help="Compare with what an earlier `log verify` printed: the head, a file with one or "
        "more such lines, or - for standard input.",
    ),
]
From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="POSITION:HASH|FILE",
        help="Trust the ledger up to this head, the last one of a file, and check only what "
        "came later.",
    ),
]
Stream = Annotated[UUID | None, typer.Option(metavar="ID", help="Only events of this stream.")]
Topic = Annotated[
    str, typer.Option(metavar="PREFIX", help="Only events whose topic begins so: `migration.`.")
]
After = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=2**63 - 1,
        metavar="POSITION",
        help="Begin after this one instead of at the end.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        show_default=False,
        help=f"How many events; {SHOWN} by default, and without end with --after and --follow.",
    ),
]
Follow = Annotated[bool, typer.Option("--follow", help="Go on with new events until ctrl-C.")]


async def verify(cli: Cli, *, against: Against = "", trusted: From = "") -> int:
    """Recompute the hash of every event, and name the first that is not what was recorded."""
    noted = _heads(against) if against else []
    after = _heads(trusted)[-1] if trusted else Cursor()
    if noted and noted[0].position < after.position:
        raise Rejected(
            f"--against has event {noted[0].position}, which is before --from {after.position} "
            "and would not be looked at"
        )
    async with open_service(cli.settings) as service:
        try:
            head = await _walked(service, after, noted)
            await verify_derived(service.database)
        except Altered as error:
            _say_altered(cli, error)
            return FAILED
    checked = head.position - after.position
    if cli.json:
        cli.emit({"unaltered": True, "checked": checked, "noted": len(noted), "head": _text(head)})
    else:
        compared = f", {len(noted):,} noted heads compared" if noted else ""
        cli.console.print(
            f"unaltered  {_text(head)}  {checked:,} events checked{compared}", soft_wrap=True
        )
    return 0


async def _walked(service: Service, after: Cursor, noted: list[Cursor]) -> Cursor:
    """Walk the chain to its end, with a bar for whoever waits in front of a terminal."""
    with events_bar() as bar:
        end = (await service.ledger.head()).position
        task = bar.add_task("events", total=max(end - after.position, 0))
        at = after
        async for reached in walk_chain(service.database, after, noted):
            at = reached
            bar.update(task, completed=at.position - after.position)
    return at


def _say_altered(cli: Cli, error: Altered) -> None:
    if cli.json:
        cli.emit({"unaltered": False, "position": error.position, "problem": str(error)})
        return
    cli.console.print("altered", style="red", end="  ")
    cli.console.print(str(error), soft_wrap=True)


def _text(head: Cursor) -> str:
    return f"{head.position}:{head.hash.hex()}"


def _heads(source: str) -> list[Cursor]:
    """The heads that a word, a file or standard input names, in the order of their positions.

    Raises:
        Rejected: there is none, a line has none, or two disagree.
    """
    if _HEAD.fullmatch(source):
        lines = [source]
    elif _BEGINS_LIKE_A_HEAD.match(source):
        raise Rejected(f"{source!r} is not POSITION:HASH: a hash has 64 hexadecimal digits")
    else:
        lines = _read(source).splitlines()
    heads: dict[int, Cursor] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _HEAD.search(line)
        if found is None:
            raise Rejected(f"line {number} of {source} has no POSITION:HASH")
        head = Cursor(int(found[1]), bytes.fromhex(found[2]))
        if heads.setdefault(head.position, head) != head:
            raise Rejected(f"{source} has two different hashes of event {head.position}")
    if not heads:
        raise Rejected(f"{source} has no POSITION:HASH")
    return sorted(heads.values(), key=lambda one: one.position)


def _read(source: str) -> str:
    if source == "-":
        with ctrl_c_ends():
            return sys.stdin.read()
    try:
        return Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(f"{source} cannot be read: {error}") from error


async def events(
    cli: Cli,
    *,
    after: After = None,
    limit: Limit = None,
    stream: Stream = None,
    topic: Topic = "",
    follow: Follow = False,
) -> None:
    """Show events as they are recorded: the last ones, or those after a position."""
    selection = Selection(stream, topic)
    async with open_service(cli.settings) as service:
        if after is None:
            after = (await service.ledger.head()).position
            for record in await latest(service.database, selection, after, limit or SHOWN):
                _show(cli, record)
            if not follow:
                return
            limit = None
        elif not follow:
            limit = limit or SHOWN
        shown = 0
        async for record in _from(service, selection, after, follow=follow):
            _show(cli, record)
            shown += 1
            if shown == limit:
                return


async def _from(
    service: Service, selection: Selection, after: int, *, follow: bool
) -> AsyncIterator[StoredRecord]:
    while True:
        head = (await service.ledger.head()).position
        async for record in following(service.database, selection, after, head):
            yield record
        if not follow:
            return
        after = max(after, head)
        await service.ledger.wait(after, WAIT_SECONDS)


def _show(cli: Cli, record: StoredRecord) -> None:
    if cli.json:
        cli.emit(record.to_json())
        return
    at = record.recorded_at.isoformat(timespec="milliseconds")
    reason = record.context.get("reason")
    why = f": {reason}" if reason else ""
    who = f"{record.context.get('actor')}{why}"
    cli.console.print(f"{record.position:>8}  {at}  {record.topic}  {who}", soft_wrap=True)
    cli.console.print(
        f"{'':8}  {record.stream} {record.version}  {_fields(record.state)}",
        soft_wrap=True,
        style="dim",
    )


def _fields(state: dict[str, Any]) -> str:
    """An event's fields in one line."""
    shown = " ".join(
        f"{name}={orjson.dumps(value).decode()}"
        for name, value in state.items()
        if name != "originator_topic"
    )
    return shown if len(shown) <= FIELDS_SHOWN else f"{shown[:FIELDS_SHOWN]}…"
