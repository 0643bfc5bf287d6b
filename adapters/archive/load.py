"""Make an empty ledger what an archive holds."""

from datetime import datetime

from adapters.archive.check import answer_rows, checked, event_rows
from adapters.archive.errors import Damaged
from adapters.archive.folder import LARGE_AT_ONCE, ArchiveFolder
from adapters.archive.manifest import OBJECTS, Manifest
from adapters.archive.pages import in_pages
from adapters.objects.store import StoredObjects
from adapters.postgres.connection import Database
from adapters.postgres.copying import EVENT_COLUMNS, PAGE, Loading, is_empty, load_heads
from domain.model.errors import Rejected
from domain.use_cases.concurrently import concurrently


async def load(database: Database, objects: StoredObjects, folder: ArchiveFolder) -> Manifest:
    """Load an archive into an empty ledger, which is that ledger then, with work halted.

    Everything is checked before anything is written. The events come in one transaction, with all
    that is derived from them but the heads of points; these follow, and `db upgrade` goes on with
    them if this is killed.

    Raises:
        NotFound: there is no archive.
        Damaged: it is not what was written, or lacks something.
        Rejected: the ledger has events already.
    """
    if not await is_empty(database):
        raise Rejected(
            f"the ledger in {database.where} is not empty; an archive is imported into a new one"
        )
    async with checked(folder) as (manifest, addresses):
        _refuse_useless(folder, manifest)
        large = StoredObjects(folder.large_url)

        async def copy(address: str) -> None:
            await objects.put(await large.get(address))

        for page in in_pages(addresses, PAGE):
            await concurrently(map(copy, page), LARGE_AT_ONCE)
    await _load(database, folder, manifest)
    await load_heads(database)
    return manifest


def _refuse_useless(folder: ArchiveFolder, manifest: Manifest) -> None:
    if not manifest.head.position:
        raise Rejected(f"the archive in {folder.path} has no event: there is nothing to import")
    for one in manifest.lacking:
        if one.manifest:
            problem = f"the archive lacks manifest {one.address} of a change set: {one.why}"
            raise Damaged((f"{problem}. Without it nobody knows what was changed",))


async def _load(database: Database, folder: ArchiveFolder, manifest: Manifest) -> None:
    async with database.transaction() as connection:
        loading = Loading(connection)
        await loading.begin()
        for page in in_pages(event_rows(folder, manifest), PAGE):
            await loading.add_events(tuple(row[name] for name in EVENT_COLUMNS) for row in page)
        for answers in in_pages(answer_rows(folder, manifest), PAGE):
            await loading.add_answers(answers)
        for part in manifest.of(OBJECTS):
            for contents in folder.objects(part):
                await loading.add_objects({address: content for address, _, content in contents})
        await loading.finish(
            manifest.ledger,
            manifest.head,
            datetime.fromisoformat(manifest.recorded_at),
            f"the ledger was imported from an archive of {manifest.exported_at[:19]} UTC, and "
            "stores and topics are not compared with it yet",
        )
