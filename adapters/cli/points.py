"""Commands with which applications and people write points."""

import asyncio
from collections.abc import Awaitable, Iterator
from functools import partial
from typing import Annotated
from uuid import uuid4

import typer

from adapters.bootstrap import DEFAULT, Service, open_service
from adapters.cli.background import in_background
from adapters.cli.command import Cli, Command, Name, Reason, Store, console
from adapters.cli.following import PATIENCE_SECONDS, require_workers
from adapters.cli.tables import say
from adapters.files.read_points import STDIN, read_writes
from domain.model.errors import LedgerError, Rejected
from domain.use_cases.wait_applied import Wait, wait_applied
from domain.use_cases.write_points import LiveCollection, Write, Written, open_live

File = Annotated[
    str, typer.Argument(help="JSON Lines, or a .parquet file; - for either on standard input.")
]
Waiting = Annotated[
    Wait,
    typer.Option(
        "--wait", help="Return when it is recorded durably, or when searches find it in the store."
    ),
]
Batch = Annotated[int, typer.Option(min=1, max=10_000, help="Points of one write.")]
Key = Annotated[
    str,
    typer.Option(
        help="Name of this command: with the same file it may be run again, and each write in it "
        "counts once. A new one by default."
    ),
]


def _command(kind: str, does: str) -> Command:
    """A command that writes what a file says."""

    async def write(
        cli: Cli,
        name: Name,
        file: File = STDIN,
        *,
        wait: Waiting = Wait.DURABLE,
        batch: Batch = 500,
        key: Key = "",
        store: Store = DEFAULT,
        reason: Reason = "",
    ) -> None:
        await _write(cli, kind, name, file, wait, batch, key, store, reason)

    write.__doc__ = does
    return write


upsert = _command(
    "upsert",
    "Write whole points: id, payload and vector, new or in place of those with these ids.",
)
delete = _command(
    "delete", "Delete points: an id a line. Ids that are not there are recorded and change nothing."
)
set_payload = _command(
    "set-payload", "Set payload fields of points: id and payload. Other fields and vectors stay."
)


async def _write(
    cli: Cli,
    kind: str,
    name: str,
    file: str,
    wait: Wait,
    batch: int,
    key: str,
    store: str,
    reason: str,
) -> None:
    done = _Done(key or str(uuid4()))
    if not key:  # said before anything can go wrong
        console().print(f"key {done.key}")
    async with open_service(cli.settings) as service:
        live = await open_live(service.tools, store, name)
        try:
            await _record(live, read_writes(kind, file, live.schema, batch), done, cli, reason)
        except LedgerError as error:
            if not done.writes:
                raise
            _tell_how_far(cli, error, done)
        if done.last is None:
            raise Rejected(f"{file} has no points; nothing was written")
        if wait is Wait.READABLE:
            try:
                await _readable(service, done.last)
            except LedgerError as error:
                _tell_recorded(error, done.last)
    shown = {
        "collection": name,
        "physical": live.status.physical,
        "points": done.given,
        "upserted": done.upserts,
        "deleted": done.deletes,
        "unchanged": done.given - done.upserts - done.deletes,
        "writes": done.writes,
        "recorded_before": done.repeated,
        "position": done.last.position,
        "through": done.last.through,
        "is": str(wait),
        "key": done.key,
    }
    say(cli, shown)


class _Done:
    """What was recorded so far.

    Attributes:
        key: name of the command.
        writes: how many.
        repeated: how many of these had been recorded before.
        given: points that they name.
        upserts: points that they changed.
        deletes: points that they deleted.
        last: of these writes.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.writes = self.repeated = self.given = self.upserts = self.deletes = 0
        self.last: Written | None = None

    def add(self, written: Written) -> None:
        """Count a write."""
        self.writes += 1
        self.repeated += written.repeated
        self.given += written.given
        self.upserts += written.upserts
        self.deletes += written.deletes
        self.last = written


async def _record(
    live: LiveCollection, writes: Iterator[Write], done: _Done, cli: Cli, reason: str
) -> None:
    """Record one write after the other, each while the next one is read."""
    context = cli.context(reason)

    async def following() -> Write | None:
        return await in_background(partial(next, writes, None))

    write = await following()
    while write is not None:
        recording = live.write(write, f"points/{done.key}/{done.writes}", context)
        write = await _both(recording, following(), done)


async def _both(
    recording: Awaitable[Written], following: Awaitable[Write | None], done: _Done
) -> Write | None:
    """Record a write while the next one is read; if that one is wrong, this one counts."""
    written, write = await asyncio.gather(recording, following, return_exceptions=True)
    if isinstance(written, BaseException):
        raise written
    done.add(written)
    if isinstance(write, BaseException):
        raise write
    return write


def _tell_how_far(cli: Cli, error: LedgerError, done: _Done) -> None:
    """Say with an error what was recorded before it.

    Raises:
        LedgerError: the same kind of error.
    """
    so_far = (
        f"{done.writes} writes with {done.given:,} points were recorded before it; when it is "
        f"mended, run the same command with --key {done.key}"
    )
    if cli.json:
        cli.emit({"key": done.key, "writes": done.writes, "points": done.given})
    error.args = (f"{error}. {so_far}", *error.args[1:])
    raise error


def _tell_recorded(error: LedgerError, last: Written) -> None:
    """Say with an error that what was to be readable is recorded.

    Raises:
        LedgerError: the same kind of error.
    """
    error.args = (f"everything is recorded (position {last.position}): {error}", *error.args[1:])
    raise error


async def _readable(service: Service, written: Written) -> None:
    async def silence() -> None:
        await require_workers(service, {"applier", "relay"}, "The write is recorded, and it")

    await wait_applied(
        service.tools, written.generation, written.through, silence, PATIENCE_SECONDS
    )
