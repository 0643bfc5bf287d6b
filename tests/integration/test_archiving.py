"""A ledger is written to a folder, and read back where there is nothing: it is the same ledger."""

import asyncio
import gzip
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.archive import export as exporting
from adapters.archive import folder as folders
from adapters.archive import load as loading
from adapters.archive.check import check
from adapters.archive.errors import Damaged
from adapters.archive.export import export
from adapters.archive.folder import ArchiveFolder
from adapters.archive.load import load
from adapters.archive.manifest import EVENTS, OBJECTS, Manifest
from adapters.cli.archive import named_after
from adapters.objects import store as objects_module
from adapters.objects.store import SizedObjects, StoredObjects
from adapters.postgres import copying
from adapters.postgres.applications import PostgresApplications
from adapters.postgres.chain import Altered, verify_chain
from adapters.postgres.connection import Database, open_database
from adapters.postgres.derived import verify_derived
from adapters.postgres.flow_ranges import PostgresFlowRanges
from adapters.postgres.leaders import PostgresLeaders
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.objects import PostgresObjects
from adapters.postgres.views import PostgresViews
from domain.model.errors import Conflict, Corrupt, DiskFull, Halted, NotFound, Rejected
from domain.model.migration import State
from domain.model.recorded import Cursor
from domain.use_cases.flows import reading
from domain.use_cases.tools import Tools
from domain.use_cases.write_points import Delete
from tests.contract.tampering import tampering, write_hashes_anew
from tests.disks import small_disk
from tests.integration.builders import document_points
from tests.integration.faults import Crash, Wrapped
from tests.integration.worlds import MARA, STORE, World, eventually
from tests.integration.writers import adopted, live_write, one, payloads

# Everything that a ledger says, whatever numbers its rows have.
TABLES = {
    "events": "SELECT * FROM events ORDER BY position",
    "commands": "SELECT * FROM commands ORDER BY key",
    "streams": "SELECT * FROM streams ORDER BY stream",
    "tip": "SELECT * FROM tip",
    "generations": """
        SELECT stream, collection, store, physical, number, recorded, points, gone, holders,
            has_past
        FROM generations ORDER BY stream
    """,
    "heads": """
        SELECT g.stream, h.id, h.hash, b.address, h."row", h.version
        FROM heads h JOIN generations g USING (gid) LEFT JOIN bodies b ON b.id = h.body
        ORDER BY g.stream, h.id
    """,
    "past heads": """
        SELECT g.stream, h.id, h.version, h.until, h.hash, b.address, h."row"
        FROM past_heads h JOIN generations g USING (gid) JOIN bodies b ON b.id = h.body
        ORDER BY g.stream, h.id, h.version
    """,
    "erased": """
        SELECT g.stream, e.id, e.version, e.until, e.hash, b.address, e."row"
        FROM erased e JOIN generations g USING (gid) JOIN bodies b ON b.id = e.body
        ORDER BY g.stream, e.id, e.version
    """,
    "rewritten": """
        SELECT r.address AS was, b.address FROM rewritten r JOIN bodies b ON b.id = r.body
        ORDER BY r.address
    """,
    "erasing": "SELECT address FROM bodies WHERE erasing ORDER BY address",
    "applications": """
        SELECT generation, applied, halted_at FROM applications ORDER BY generation
    """,
    "flows": "SELECT flow, next_number, source, until FROM flows ORDER BY flow",
    "ranges": "SELECT flow, number, request FROM flow_ranges ORDER BY flow, number",
    "objects": "SELECT address, content FROM objects ORDER BY address",
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages, ranges and objects are small, so that there are several of each."""
    monkeypatch.setattr(copying, "PAGE", 40)
    monkeypatch.setattr(folders, "OBJECTS_AT_ONCE", 3)
    monkeypatch.setattr(exporting, "OBJECTS_AT_ONCE", 3)
    monkeypatch.setattr(loading, "PAGE", 7)
    monkeypatch.setattr(reading, "CHANGE_SETS_A_RANGE", 1)
    monkeypatch.setattr(objects_module, "SMALL_OBJECT", 3500)


@dataclass(frozen=True)
class Places:
    """Where a ledger is exported from, to, and imported into.

    Attributes:
        database: of the world.
        stored: where the world keeps large objects.
        archive: the folder.
        elsewhere: a database with an empty ledger, where nothing of the world is.
        others: a storage without objects.
        tmp_path: has all of their folders.
    """

    database: Database
    stored: StoredObjects
    archive: ArchiveFolder
    elsewhere: Database
    others: StoredObjects
    tmp_path: Path

    async def export(self) -> Manifest:
        """Export the world's ledger."""
        return await export(self.database, self.stored, self.archive, silent)

    async def load(self) -> Manifest:
        """Import the archive elsewhere."""
        return await load(self.elsewhere, self.others, self.archive)


@pytest.fixture
async def places(
    database: Database, other_ledger_database: str, tmp_path: Path
) -> AsyncIterator[Places]:
    def storage(name: str) -> StoredObjects:
        return StoredObjects((tmp_path / name).as_uri())

    async with open_database(other_ledger_database) as elsewhere:
        archive = ArchiveFolder(tmp_path / "archive")
        stored, others = storage("objects"), storage("other objects")
        yield Places(database, stored, archive, elsewhere, others, tmp_path)


def silent(*_: Any) -> None:
    pass


async def said(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """What a database says of a ledger."""
    async with database.connection() as connection:
        return {
            name: [tuple(row) for row in await connection.fetch(query)]
            for name, query in TABLES.items()
        }


async def same_ledger(places: Places) -> None:
    """Every table says the same in both databases; objects that nobody needs are left out."""
    before, after = await said(places.database), await said(places.elsewhere)
    for name in TABLES.keys() - {"objects"}:
        assert after[name] == before[name], name
    assert set(after["objects"]) <= set(before["objects"])


async def ledger_id(database: Database) -> str:
    async with database.connection() as connection:
        return str(await connection.fetchval("SELECT ledger FROM timeline"))


@asynccontextmanager
async def moved(world: World, database: Database, objects: StoredObjects) -> AsyncIterator[World]:
    """The world with the ledger in another database, whose halt is over."""
    async with database.connection() as connection:
        await connection.execute("UPDATE timeline SET halted_since = NULL")
    async with PostgresLedger(database) as ledger:
        yield replace(
            world,
            tools=Tools(
                ledger,
                SizedObjects(PostgresObjects(database), objects),
                PostgresApplications(database, ledger.wakeups),
                PostgresFlowRanges(database, retry_delay=0.0),
                world.tools.stores,
            ),
            leaders=PostgresLeaders(database),
            views=PostgresViews(database),
        )


async def busy(world: World) -> None:
    """A split whose old side is kept warm, with live writes before and after it."""
    await adopted(world)
    done = await world.migrate(warm_for="7d")
    name = world.names["1", "documents"]
    await live_write(world, name, one(70_001, 1, "written"))
    await live_write(world, name, one(70_001, 1, "written again"))
    await live_write(world, name, Delete((await world.points(name)).keys[:2]))
    await world.ledger.record("a key that came to nothing", MARA, [])

    async def through() -> bool:
        return not await world.tools.ranges.remaining()

    async with world.workers():
        await eventually(through)
        for status in await world.tools.applications.generations():
            await world.applied(status.generation)
    assert done.state is State.COMPLETED


async def written(world: World) -> None:
    """A collection that nobody applies: points are written, written again, and deleted."""
    generation = await world.generation()
    for number in range(25):
        points = document_points(
            ["1"] * (40 + 60 * (number % 2)), first=1 + number * 10, seed=number
        )
        await world.write(generation, points)
        await world.delete(generation, points.keys[:2])


async def test_what_is_imported_is_the_ledger_that_was_exported(
    world: World, places: Places
) -> None:
    await busy(world)

    manifest = await places.export()
    loaded = await places.load()

    head = await world.ledger.head()
    assert manifest == loaded
    assert (manifest.head, manifest.lacking) == (head, ())
    assert manifest.count(EVENTS) == head.position
    assert len(manifest.of(EVENTS)) > 1
    assert manifest.large > 1
    assert manifest.count(OBJECTS) > 1
    await same_ledger(places)
    assert sorted(_names(places.tmp_path / "other objects")) == sorted(large(places.archive))
    assert await ledger_id(places.elsewhere) == await ledger_id(places.database)
    assert await verify_chain(places.elsewhere) == head
    await verify_derived(places.elsewhere)


async def test_a_later_export_adds_what_came_since(world: World, places: Places) -> None:
    await busy(world)
    first = await places.export()
    written = {part.path: (places.archive.path / part.path).stat().st_ino for part in first.parts}

    again = await places.export()
    name = world.names["2", "documents"]
    await live_write(world, name, one(70_003, 2, "later"))
    await live_write(world, name, one(70_003, 2, "later still"))
    last = await places.export()

    assert again.head == first.head
    assert last.head == await world.ledger.head()
    kept = [part for part in first.parts if "none-" not in part.path]
    assert list(last.parts[: len(kept)]) == kept
    # Those of the archive before stay for whoever is just reading it, and no longer.
    assert {part.path for part in (*again.parts, *last.parts)} == {
        f"{file.parent.name}/{file.name}" for file in places.archive.path.glob("[aeo]*/*")
    }
    for part in kept:
        assert (places.archive.path / part.path).stat().st_ino == written[part.path]
    await places.load()
    await same_ledger(places)


async def test_work_waits_after_an_import(world: World, places: Places) -> None:
    await written(world)
    await places.export()
    await places.load()

    async with PostgresLedger(places.elsewhere) as ledger:
        with pytest.raises(Halted, match=r"imported from an archive of .* recover"):
            await ledger.working()


@pytest.mark.parametrize("step", ["flow", "hand-over", "aliases"])
async def test_a_migration_goes_on_where_it_was_exported(
    world: World, step: str, places: Places
) -> None:
    """The coordinator is gone right before a step is completed, and its database with it."""
    await adopted(world)
    migration = await world.plan(warm_for="7d")
    await world.start(migration)

    async def append(command: Any) -> Any:
        if any(getattr(e, "step", None) == step and "result" in vars(e) for e in command.events):
            raise Crash
        return await world.ledger.append(command)

    tools = replace(world.tools, ledger=Wrapped(world.ledger, append=append))
    with pytest.raises(BaseExceptionGroup):
        async with world.workers(tools):
            await world.settled(migration.id)

    await places.export()
    await places.load()
    async with moved(world, places.elsewhere, places.others) as there, there.workers():
        done = await there.settled(migration.id)
        assert done.state is State.COMPLETED, done.error
        name = there.names["1", "documents"]
        await live_write(there, name, one(70_001, 1, "after the move"))
        await there.applied((await there.looked_after(await _physical(there, name))).generation)

        async def back() -> bool:
            return 70_001 in await payloads(there, there.docs)

        await eventually(back)
        for physical in await there.collections():
            assert (await there.verify(physical)).equal


async def _physical(world: World, alias: str) -> str:
    return (await world.aliases())[alias]


async def test_a_rollback_gives_back_what_the_archive_says(world: World, places: Places) -> None:
    await world.fill()
    before = await world.picture()
    done = await world.migrate()
    await places.export()
    await places.load()

    async with moved(world, places.elsewhere, places.others) as there:
        back = await there.roll_back(done)

        assert back.state is State.ROLLED_BACK, back.error
        assert await there.picture() == before


async def test_a_way_back_that_waits_for_a_rollback_goes_on_waiting(
    world: World, places: Places
) -> None:
    await adopted(world)
    done = await world.migrate()
    for source in (1, 2):
        name = world.names[str(source), "documents"]
        await live_write(world, name, one(70_001, source, "one id for two points"))
    refused = await world.roll_back(done)
    assert refused.state is State.FAILED
    assert await world.tools.ranges.remaining() == 0

    await places.export()
    await places.load()

    assert await PostgresFlowRanges(places.elsewhere).remaining() == 0


Damage = Callable[[ArchiveFolder, Manifest], str]
"""Changes an archive; returns what must be named."""


def large(archive: ArchiveFolder) -> list[str]:
    """Addresses of large objects."""
    return [file.parent.name + file.name for file in (archive.path / "large").glob("*/*")]


def flipped(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def a_bit_of(kind: str) -> Damage:
    def damage(archive: ArchiveFolder, manifest: Manifest) -> str:
        part = manifest.of(kind)[-1]
        flipped(archive.path / part.path, part.size * 4)
        return f"{part.path} is not what was written"

    return damage


def a_bit_of_a_large_object(archive: ArchiveFolder, _: Manifest) -> str:
    address = min(large(archive))
    flipped(archive.path / "large" / address[:2] / address[2:], 1000)
    return address


def a_bit_of_the_manifest(archive: ArchiveFolder, _: Manifest) -> str:
    path = archive.path / "manifest.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"position": ', b'"position": 1', 1))
    return "manifest.json"


def a_missing_large_object(archive: ArchiveFolder, _: Manifest) -> str:
    address = max(large(archive))
    (archive.path / "large" / address[:2] / address[2:]).unlink()
    return address


def a_missing_file(archive: ArchiveFolder, manifest: Manifest) -> str:
    part = manifest.of(OBJECTS)[0]
    (archive.path / part.path).unlink()
    return part.path


def signed_anew(archive: ArchiveFolder, manifest: Manifest, kept: Callable[[Any], bool]) -> None:
    """Let the manifest say that some parts were never written."""
    parts = tuple(part for part in manifest.parts if kept(part))
    (archive.path / "manifest.json").write_bytes(replace(manifest, parts=parts).encode())


def small_objects_that_the_manifest_forgets(archive: ArchiveFolder, manifest: Manifest) -> str:
    signed_anew(archive, manifest, lambda part: part.kind != OBJECTS)
    return "is missing"


def events_that_the_manifest_forgets(archive: ArchiveFolder, manifest: Manifest) -> str:
    first = manifest.of(EVENTS)[0]
    signed_anew(archive, manifest, lambda part: part is not first)
    return "event 1 is missing"


def last_events_that_the_manifest_forgets(archive: ArchiveFolder, manifest: Manifest) -> str:
    last = manifest.of(EVENTS)[-1]
    signed_anew(archive, manifest, lambda part: part is not last)
    return f"it says {manifest.head.position}"


def an_end_that_the_manifest_forgets(archive: ArchiveFolder, manifest: Manifest) -> str:
    """Events are cut off where the hashes are whole; the answers know better."""
    last = manifest.of(EVENTS)[-1]
    line = list(archive.lines(manifest.of(EVENTS)[-2]))[-1]
    head = Cursor(line["position"], bytes.fromhex(line["hash"]))
    signed_anew(archive, replace(manifest, head=head), lambda part: part is not last)
    return "was answered with an event that is not in the archive"


def a_small_object_that_was_exchanged(archive: ArchiveFolder, manifest: Manifest) -> str:
    """With the hash of its file, and that of the manifest, computed anew."""
    old = manifest.of(OBJECTS)[0]
    objects = [one for page in archive.objects(old) for one in page]
    address = objects[0][0]
    with archive.pack("exchanged") as pack:
        pack.add({address: b"something else"}, manifests=True)
        for address_, is_manifest, content in objects[1:]:
            pack.add({address_: content}, manifests=is_manifest)
    assert pack.part is not None
    parts = tuple(pack.part if one is old else one for one in manifest.parts)
    (archive.path / "manifest.json").write_bytes(replace(manifest, parts=parts).encode())
    return f"object {address} in objects/exchanged.parquet has other content"


def an_event_that_was_edited(archive: ArchiveFolder, manifest: Manifest) -> str:
    """With the hash of its file, and that of the manifest, computed anew."""
    part = manifest.of(EVENTS)[0]
    path = archive.path / part.path
    lines = gzip.decompress(path.read_bytes()).splitlines()
    document = orjson.loads(lines[0])
    assert "mara" in document["context"]
    document["context"] = document["context"].replace("mara", "john")
    lines[0] = orjson.dumps(document)
    content = gzip.compress(b"\n".join(lines) + b"\n")
    path.write_bytes(content)
    edited = replace(part, size=len(content), digest=sha256(content).hexdigest())
    parts = tuple(edited if one is part else one for one in manifest.parts)
    (archive.path / "manifest.json").write_bytes(replace(manifest, parts=parts).encode())
    return "event 1 is not what was recorded"


DAMAGES: list[Damage] = [
    *map(a_bit_of, ["events", "answers", "objects"]),
    a_bit_of_a_large_object,
    a_bit_of_the_manifest,
    a_missing_large_object,
    a_missing_file,
    small_objects_that_the_manifest_forgets,
    events_that_the_manifest_forgets,
    last_events_that_the_manifest_forgets,
    an_end_that_the_manifest_forgets,
    a_small_object_that_was_exchanged,
    an_event_that_was_edited,
]


async def test_a_damaged_archive_is_named_and_nothing_is_imported(
    world: World, places: Places
) -> None:
    await written(world)
    manifest = await places.export()
    empty = await said(places.elsewhere)

    for number, damage in enumerate(DAMAGES):
        copy = ArchiveFolder(places.tmp_path / f"copy {number}")
        shutil.copytree(places.archive.path, copy.path)
        assert await check(copy) == manifest
        named = damage(copy, manifest)

        with pytest.raises(Damaged) as refused:
            await load(places.elsewhere, places.others, copy)

        assert named in str(refused.value), damage
        assert await said(places.elsewhere) == empty
        assert not list(_files(places.tmp_path / "other objects"))
    await places.load()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


async def test_all_files_that_differ_are_named(world: World, places: Places) -> None:
    await written(world)
    manifest = await places.export()
    for part in manifest.of(EVENTS):
        flipped(places.archive.path / part.path, 80)

    with pytest.raises(Damaged) as refused:
        await check(places.archive)

    assert len(refused.value.problems) == len(manifest.of(EVENTS)) > 1


async def test_a_ledger_that_has_events_is_not_imported_into(world: World, places: Places) -> None:
    await written(world)
    await places.export()
    before = await said(places.database)

    with pytest.raises(Rejected, match="is not empty"):
        await load(places.database, places.stored, places.archive)

    assert await said(places.database) == before


async def test_two_imports_at_once_are_one(world: World, places: Places) -> None:
    await written(world)
    await places.export()

    ended = await asyncio.gather(
        load(places.elsewhere, places.others, places.archive),
        load(places.elsewhere, places.others, places.archive),
        return_exceptions=True,
    )

    assert sorted(type(one).__name__ for one in ended) == ["Conflict", "Manifest"]
    assert (await said(places.elsewhere))["heads"] == (await said(places.database))["heads"]


async def test_where_no_archive_is_nothing_is_imported(places: Places) -> None:
    with pytest.raises(NotFound, match="there is no archive in"):
        await places.load()


async def test_an_empty_ledger_gives_an_archive_of_nothing(places: Places) -> None:
    manifest = await places.export()

    assert manifest.count(EVENTS) == 0
    with pytest.raises(Rejected, match="has no event"):
        await places.load()


async def test_an_altered_ledger_is_not_exported(world: World, places: Places) -> None:
    await written(world)
    async with tampering(world.url) as owner:
        await owner.execute("UPDATE events SET state = state || ' ' WHERE position = 45")

    with pytest.raises(Altered, match="event 45 is not what was recorded"):
        await places.export()

    assert places.archive.manifest() is None


async def test_a_ledger_that_was_set_back_goes_to_another_folder(
    world: World, places: Places
) -> None:
    await written(world)
    first = await places.export()
    async with tampering(world.url) as owner:
        await owner.execute("UPDATE events SET context = '{}' WHERE position = 45")
        await write_hashes_anew(owner, 45)

    with pytest.raises(Rejected, match="set back to an older backup"):
        await places.export()

    assert places.archive.manifest() == first


async def test_an_archive_of_another_ledger_is_left(world: World, places: Places) -> None:
    await written(world)
    first = await places.export()

    with pytest.raises(Rejected, match="is the archive of ledger"):
        await export(places.elsewhere, places.stored, places.archive, silent)

    assert places.archive.manifest() == first


async def test_a_folder_of_others_is_left(places: Places) -> None:
    places.archive.path.mkdir()
    (places.archive.path / "thesis.odt").write_text("years of work")

    with pytest.raises(Rejected, match=r"has files of others, such as 'thesis\.odt'"):
        await places.export()

    assert [file.name for file in places.archive.path.iterdir() if file.name != ".lock"] == [
        "thesis.odt"
    ]


@pytest.mark.parametrize("leave", [0, 40_000])
async def test_a_full_disk_ends_an_export_and_the_next_one_goes_on(
    world: World, places: Places, leave: int
) -> None:
    await written(world)
    with small_disk(places.tmp_path / "volume", 8) as disk:
        archive = ArchiveFolder(disk.folder / "archive")
        first = await export(places.database, places.stored, archive, silent)
        await world.write(await world.generation("more"), document_points(["1"] * 2000, seed=77))
        disk.fill(leave=leave)

        with pytest.raises(DiskFull, match=str(disk.folder)), named_after(archive.path):
            await export(places.database, places.stored, archive, silent)

        assert await check(archive) == first
        disk.make_room()
        last = await export(places.database, places.stored, archive, silent)
        assert await check(archive) == last
        assert last.head == await world.ledger.head()


async def test_one_export_at_a_time(places: Places) -> None:
    with places.archive.writing(), pytest.raises(Conflict, match="another export"):
        await places.export()


async def test_an_object_that_is_missing_is_named_and_comes_with_a_later_export(
    world: World, places: Places
) -> None:
    await written(world)
    lost = min(_files(places.tmp_path / "objects"))
    address = lost.parent.name + lost.name
    kept = lost.read_bytes()
    lost.unlink()

    lacking = await places.export()
    assert [(one.address, one.manifest) for one in lacking.lacking] == [(address, False)]
    assert address in lacking.lacking[0].why
    assert await check(places.archive) == lacking

    lost.write_bytes(kept)
    whole = await places.export()
    assert whole.lacking == ()
    assert address in large(places.archive)
    await places.load()
    assert (await said(places.elsewhere))["heads"] == (await said(places.database))["heads"]


async def test_what_nobody_needs_does_not_stop_an_import(world: World, places: Places) -> None:
    """As after a power cut in the middle of a later export, or from a file manager."""
    await written(world)
    await places.export()
    torn = places.archive.path / "large" / "ab" / ("cd" * 31)
    torn.parent.mkdir(exist_ok=True)
    torn.touch()
    (places.archive.path / "large" / ".DS_Store").touch()

    await places.load()

    assert (await said(places.elsewhere))["heads"] == (await said(places.database))["heads"]


async def test_a_large_object_of_an_export_that_was_cut_off_is_written_again(
    world: World, places: Places
) -> None:
    await written(world)
    await places.export()
    generation = (await world.looked_after(world.named("direct"))).generation
    await world.write(generation, document_points(["1"] * 100, first=5000, seed=99))
    new = set(_names(places.tmp_path / "objects")) - set(large(places.archive))
    (address,) = new
    torn = places.archive.path / "large" / address[:2] / address[2:]
    torn.parent.mkdir(exist_ok=True)
    torn.write_bytes(b"half of")

    await places.export()

    await check(places.archive)


def _names(folder: Path) -> list[str]:
    return [file.parent.name + file.name for file in _files(folder)]


async def test_files_that_are_gone_are_noticed_by_the_next_export(
    world: World, places: Places
) -> None:
    await written(world)
    first = await places.export()
    part = first.of(EVENTS)[0]
    (places.archive.path / part.path).write_bytes(b"")

    with pytest.raises(Damaged, match=f"{part.path} is not what was written; export to another"):
        await places.export()

    assert places.archive.manifest() == first


async def test_an_archive_without_a_manifest_of_a_change_set_is_not_imported(
    world: World, places: Places
) -> None:
    await written(world)
    async with tampering(world.url) as owner:
        await owner.execute(
            "DELETE FROM objects WHERE address ="
            " (SELECT decode(convert_from(state, 'UTF8')::jsonb->>'manifest', 'hex') FROM events"
            " WHERE topic = 'generation.change-set-recorded' LIMIT 1)"
        )
    manifest = await places.export()
    assert [one.manifest for one in manifest.lacking] == [True]

    with pytest.raises(Damaged, match="lacks manifest"):
        await places.load()

    assert (await said(places.elsewhere))["events"] == []


async def test_a_storage_that_has_nothing_is_not_taken_for_lost_objects(
    world: World, monkeypatch: pytest.MonkeyPatch, places: Places
) -> None:
    monkeypatch.setattr(exporting, "MOST_LACKING", 5)
    await written(world)

    with pytest.raises(Corrupt, match=r"is file:.* the storage of this ledger"):
        await export(places.database, places.others, places.archive, silent)


async def test_events_that_are_gone_from_the_end_are_noticed(world: World, places: Places) -> None:
    await written(world)
    end = (await world.ledger.head()).position
    async with tampering(world.url) as owner:
        await owner.execute("DELETE FROM events WHERE position = $1", end)

    with pytest.raises(Altered, match=f"tip disagrees with event {end}"):
        await places.export()


async def test_an_altered_small_object_is_named(world: World, places: Places) -> None:
    await written(world)
    async with tampering(world.url) as owner:
        address = await owner.fetchval(
            "UPDATE objects SET content = content || ' ' WHERE address ="
            " (SELECT o.address FROM objects o JOIN bodies b USING (address) LIMIT 1)"
            " RETURNING address"
        )

    manifest = await places.export()

    assert [one.address for one in manifest.lacking] == [address.hex()]
    assert "not what it was" in manifest.lacking[0].why


async def test_dead_letters_are_still_there(world: World, places: Places) -> None:
    await adopted(world)
    status = await world.looked_after(world.docs)
    applications = world.tools.applications
    lease = await applications.acquire(status.generation, "tester", 60.0, 0.0)
    assert lease is not None
    await live_write(world, world.docs, one(70_001, 1, "refused"))
    await applications.dead_letter(lease, status.recorded + 1, "Rejected", "no", MARA)

    await places.export()
    await places.load()

    found = await PostgresApplications(places.elsewhere, None).status(status.generation)  # type: ignore[arg-type]
    assert found is not None
    assert found.halted_at == status.recorded + 1
    assert found.store == STORE
