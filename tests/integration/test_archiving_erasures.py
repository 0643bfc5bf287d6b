"""An archive follows an erasure, and what is imported of it is the same ledger."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from adapters.archive import export as exporting
from adapters.archive.check import check
from adapters.archive.errors import Damaged
from adapters.archive.export import export
from adapters.archive.folder import ArchiveFolder
from adapters.archive.load import load
from adapters.archive.manifest import OBJECTS, Manifest
from adapters.objects import store as objects_module
from adapters.objects.store import StoredObjects
from adapters.postgres.connection import Database, open_database
from domain.model.errors import Conflict
from domain.model.points import id_of
from domain.use_cases import erase as erasing_module
from domain.use_cases.flows import reading
from tests.e2e.traces import Planted
from tests.integration.erasures import ART_17, erase, erasing, find
from tests.integration.faults import Crash, Wrapped, before
from tests.integration.test_archiving import said
from tests.integration.worlds import World
from tests.integration.writers import adopted, live_write, one

TEXT = "a person with two heads"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some bodies are rows and some are files."""
    monkeypatch.setattr(reading, "CHANGE_SETS_A_RANGE", 1)
    monkeypatch.setattr(objects_module, "SMALL_OBJECT", 3500)
    monkeypatch.setattr(erasing_module, "SMALL_OBJECT", 3500)


@dataclass(frozen=True)
class Places:
    """A ledger, its archive, and where it is imported."""

    database: Database
    stored: StoredObjects
    archive: ArchiveFolder
    elsewhere: Database
    others: StoredObjects

    async def export(self) -> Manifest:
        return await export(self.database, self.stored, self.archive, lambda *_: None)

    async def load(self) -> None:
        await load(self.elsewhere, self.others, self.archive)
        before, after = await said(self.database), await said(self.elsewhere)
        for name in before.keys() - {"objects"}:
            assert after[name] == before[name], name


@pytest.fixture
async def places(
    database: Database, other_ledger_database: str, tmp_path: Path
) -> AsyncIterator[Places]:
    async with open_database(other_ledger_database) as elsewhere:
        stored, others = (StoredObjects((tmp_path / n).as_uri()) for n in ("objects", "others"))
        yield Places(database, stored, ArchiveFolder(tmp_path / "archive"), elsewhere, others)


async def lived(world: World) -> tuple[int | str, Planted]:
    """Collections that were split, with a person in a large body and in a small one."""
    await adopted(world)
    docs = await world.points(world.docs)
    vector = docs.vectors[""][0]
    assert vector is not None
    await live_write(world, world.docs, one(int(id_of(docs.keys[0])), 1, TEXT))
    await world.migrate()
    return id_of(docs.keys[0]), Planted(TEXT.encode(), vector)


async def test_the_next_export_leaves_out_who_was_erased(world: World, places: Places) -> None:
    person, planted = await lived(world)
    first = await places.export()
    assert await planted.anywhere(places.archive.path) == {
        "large": {"vector"},
        OBJECTS: {"text"},
    }
    await erase(world, await find(world, [person]))

    last = await places.export()

    assert await planted.anywhere(places.archive.path) == {}
    assert last.lacking == ()
    assert await check(places.archive) == last
    assert {p.path for p in last.parts if "-without-" in p.path}
    assert not {p.path for p in first.of(OBJECTS)} <= {p.path for p in last.of(OBJECTS)}
    again = await places.export()
    assert again.of(OBJECTS) == last.of(OBJECTS)
    await places.load()


async def test_an_archive_that_is_begun_afterwards(world: World, places: Places) -> None:
    person, planted = await lived(world)
    await erase(world, await find(world, [person]))
    await live_write(world, world.names["1", "documents"], one(80_001, 1, "somebody"))
    await erase(world, await find(world, [80_001]))
    manifest = await places.export()
    assert manifest.lacking == ()
    assert await planted.anywhere(places.archive.path) == {}
    await places.load()


async def test_one_in_the_middle_is_the_same_elsewhere(
    world: World, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left to be rewritten is known there, too, and what is rewritten."""
    monkeypatch.setattr(erasing_module, "BODIES_AT_ONCE", 1)
    person, _ = await lived(world)
    dying = Wrapped(world.ledger, record=before(world.ledger.record, Crash(), nth=3))
    work = erasing(world, replace(world.tools, ledger=dying))
    (part,) = (await find(world, [person])).parts()
    async with world.applier():
        begun = await work.begin(part, ART_17)
        with pytest.raises(Crash):
            await work.finish(begun.number)
    here = await said(places.database)
    assert here["erasing"]
    assert len(here["rewritten"]) == 1
    await places.export()
    await places.load()


async def test_an_older_archive_has_who_was_erased_since(world: World, places: Places) -> None:
    person, planted = await lived(world)
    await places.export()
    await erase(world, await find(world, [person]))
    await check(places.archive)
    assert await planted.anywhere(places.archive.path) != {}


async def test_an_export_that_meets_an_erasure_is_done_again(
    world: World, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, _ = await lived(world)
    found = await find(world, [person])
    looked, erased = exporting.present_bodies, list[bool]()

    async def then_erased(*args: Any) -> dict[str, str]:
        if not erased:
            erased.append(True)
            await erase(world, found)
        return await looked(*args)

    monkeypatch.setattr(exporting, "present_bodies", then_erased)
    with pytest.raises(Conflict, match="export again"):
        await places.export()
    assert (await places.export()).lacking == ()
    await places.load()


async def test_a_check_wants_what_is_there_instead(world: World, places: Places) -> None:
    person, _ = await lived(world)
    found = await find(world, [person])
    await erase(world, found)
    await places.export()
    large = [file for file in (places.archive.path / "large").rglob("*") if file.is_file()]
    large[0].unlink()
    with pytest.raises(Damaged, match="is missing"):
        await check(places.archive)
