"""Ledgers of every released shape, as archives: whatever was recorded is read for ever.

`tests/golden/histories` has a folder for each shape, and they are never changed. When an event gets
another form, or a new one comes, write one more:

    NEW_HISTORY=name .venv/bin/pytest tests/integration/test_golden_histories.py -k of_today
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from adapters.archive.export import export
from adapters.archive.folder import ArchiveFolder
from adapters.archive.load import load
from adapters.objects.store import SizedObjects, StoredObjects
from adapters.postgres.chain import verify_chain
from adapters.postgres.connection import Database, open_database
from adapters.postgres.derived import verify_derived
from adapters.postgres.objects import PostgresObjects
from tests.integration.histories import live, sum_of
from tests.integration.worlds import World

GOLDEN = Path(__file__).parents[1] / "golden"
HISTORIES = GOLDEN / "histories"
TOPICS = {event["topic"] for event in json.loads((GOLDEN / "stored_events.json").read_bytes())}


@pytest.fixture
async def elsewhere(other_ledger_database: str, tmp_path: Path) -> "Elsewhere":
    return Elsewhere(other_ledger_database, StoredObjects((tmp_path / "elsewhere").as_uri()))


class Elsewhere:
    """A database with an empty ledger, and a storage without objects."""

    def __init__(self, url: str, stored: StoredObjects) -> None:
        self.url = url
        self.stored = stored

    def objects(self, database: Database) -> SizedObjects:
        return SizedObjects(PostgresObjects(database), self.stored)


async def topics(database: Database) -> set[str]:
    async with database.connection() as connection:
        return {row["topic"] for row in await connection.fetch("SELECT topic FROM events")}


@pytest.mark.parametrize("name", sorted(path.name for path in HISTORIES.iterdir()))
async def test_a_released_history_is_read(name: str, elsewhere: Elsewhere) -> None:
    folder = HISTORIES / name
    expected = json.loads((folder / "expected.json").read_bytes())
    async with open_database(elsewhere.url) as database:
        manifest = await load(database, elsewhere.stored, ArchiveFolder(folder / "archive"))

        assert await verify_chain(database) == manifest.head
        await verify_derived(database)
        assert await sum_of(database, elsewhere.objects(database)) == expected


async def test_a_history_of_today_has_every_event_and_comes_to_the_same(
    world: World, database: Database, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    await live(world, database)
    assert await topics(database) == TOPICS
    archive = ArchiveFolder(tmp_path / "archive")
    stored = StoredObjects((tmp_path / "objects").as_uri())
    assert not (await export(database, stored, archive, lambda *_: None)).lacking
    expected = await sum_of(database, SizedObjects(PostgresObjects(database), stored))

    async with open_database(elsewhere.url) as other:
        await load(other, elsewhere.stored, archive)
        assert await sum_of(other, elsewhere.objects(other)) == expected

    if name := os.environ.get("NEW_HISTORY"):
        shutil.copytree(archive.path, HISTORIES / name / "archive", ignore=lambda *_: [".lock"])
        text = json.dumps(expected, indent=1, sort_keys=True)
        (HISTORIES / name / "expected.json").write_text(text + "\n")
