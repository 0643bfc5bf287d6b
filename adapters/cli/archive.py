"""Commands for archives: a ledger as a folder of files."""

import errno
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.archive.check import check
from adapters.archive.export import export as write_archive
from adapters.archive.folder import ArchiveFolder
from adapters.archive.load import load
from adapters.archive.manifest import EVENTS, OBJECTS, Lacking, Manifest
from adapters.bootstrap import object_storage, with_endpoints
from adapters.cli.bar import events_bar
from adapters.cli.command import FAILED, Cli, Yes
from adapters.embedded import postgres
from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from adapters.postgres.connection import Database, open_database
from adapters.postgres.schema import require_current, upgrade
from adapters.postgres.workers import PostgresWorkers
from adapters.settings import Settings
from domain.model.errors import DiskFull, Rejected

MEBIBYTE = 2**20
LACKING_NAMED = 5

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the archive.")]


async def export(cli: Cli, folder: Folder) -> int:
    """Write the ledger and its objects to a folder, or what came since the last time."""
    settings = with_endpoints(cli.settings)
    async with open_database(settings.database_url or "") as database:
        await require_current(database)
        with named_after(folder), events_bar() as bar:
            task = bar.add_task("events", total=None)
            manifest = await write_archive(
                database,
                object_storage(settings),
                ArchiveFolder(folder),
                lambda at, end: bar.update(task, completed=at.position, total=end),
            )
    _show(cli, manifest, folder, "exported")
    return FAILED if manifest.lacking else 0


async def verify(cli: Cli, folder: Folder) -> int:
    """Read an archive as `import` does, and say whether it is whole; needs no server."""
    with named_after(folder):
        manifest = await check(ArchiveFolder(folder))
    _show(cli, manifest, folder, "unaltered")
    return FAILED if manifest.lacking else 0


async def import_(cli: Cli, folder: Folder, *, yes: Yes = False) -> int:
    """Make a new, empty ledger what an archive holds; then `recover` fills stores and topics."""
    archive = ArchiveFolder(folder)
    with named_after(folder):
        held = archive.written()
    cli.confirm(f"Import {held.count(EVENTS):,} events of ledger {held.ledger}?", yes=yes)
    async with _database(cli.settings) as database:
        alive = await PostgresWorkers(database).alive()
        if alive:
            roles = ", ".join(sorted({beat.role for beat in alive}))
            raise Rejected(
                f"workers are at this database ({roles}); stop them, wait 15 seconds, and try again"
            )
        with named_after(folder):
            manifest = await load(database, object_storage(cli.settings), archive)
    _show(cli, manifest, folder, "imported")
    if not cli.json:
        cli.console.print(
            "Work is halted. Start everything (`up`, or your workers), then run "
            "`migration-ledger recover`: it fills stores and topics, and lets work go on.",
            soft_wrap=True,
        )
    return FAILED if manifest.lacking else 0


@contextmanager
def named_after(folder: Path) -> Iterator[None]:
    """Turn what the file system says of an archive into errors that name its folder.

    Raises:
        DiskFull: there is no room in it.
        Rejected: it is not a folder, or not ours to read or write.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise DiskFull("the folder for temporary files", str(error)) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(str(folder), error.strerror or str(error)) from error
        if error.filename is None:  # of a connection
            raise
        raise Rejected(f"{error.filename}: {error.strerror}") from error


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    """The database, with a current schema; an embedded one runs as long as this.

    Raises:
        DataDirInUse: `up` runs in the data directory.
    """
    if "database" not in settings.embedded:
        async with open_database(settings.database_url or "") as database:
            await upgrade(database)
            yield database
        return
    async with Supervisor(settings.data_dir) as supervisor:
        try:
            endpoints = await start_servers(supervisor, {postgres.NAME})
            async with open_database(endpoints.database_url or "") as database:
                await upgrade(database)
                yield database
        finally:
            await supervisor.stop([postgres.NAME])


def _show(cli: Cli, manifest: Manifest, folder: Path, what: str) -> None:
    document: dict[str, Any] = {
        "archive": str(folder),
        "ledger": manifest.ledger,
        "head": f"{manifest.head.position}:{manifest.head.hash.hex()}",
        "recorded_at": manifest.recorded_at,
        "exported_at": manifest.exported_at,
        "events": manifest.count(EVENTS),
        "objects": manifest.count(OBJECTS) + manifest.large,
        "bytes": manifest.size,
        "lacking": [vars(one) for one in manifest.lacking],
    }
    if cli.json:
        cli.emit({what: True, **document})
        return
    cli.console.print(
        f"{what}  {document['head']}  {document['events']:,} events, {document['objects']:,} "
        f"objects, {manifest.size / MEBIBYTE:,.1f} MiB",
        soft_wrap=True,
    )
    if manifest.lacking:
        cli.console.print(
            f"{len(manifest.lacking)} objects could not be read and are not in it:", style="red"
        )
        name_lacking(cli, manifest.lacking)


def name_lacking(cli: Cli, lacking: Sequence[Lacking]) -> None:
    """Name the first objects that an archive lacks, and why it does."""
    for one in lacking[:LACKING_NAMED]:
        cli.console.print(f"  {one.address}: {one.why}", soft_wrap=True)
