"""The machine is gone, and the how-to brings everything back on another one from an archive."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.bootstrap import DEFAULT, Service, open_service
from adapters.settings import load_settings
from domain.model.recorded import Cursor
from domain.use_cases.relay import CURSOR
from projections import PROJECTIONS
from tests.docs.pages import ROOT, snippets_of
from tests.e2e.application import build, client
from tests.e2e.program import Up, environment, run, running, start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

GOLDEN = ROOT / "tests" / "golden" / "histories" / "2026-11" / "archive"
HOW_TO = ROOT / "docs" / "how-to" / "recover-from-a-disaster.md"
KILLS = 2
INTERRUPTED = 130
PATIENCE_SECONDS = 60


def commands(note: str) -> str:
    """The commands of the how-to that are typed in one place, in order."""
    found = [s.text for s in snippets_of(HOW_TO) if s.language == "sh" and s.note == note]
    assert found, note
    return "\n".join(found)


async def typed(note: str, archive: Path, data_dir: Path, folder: Path) -> str:
    """Type commands of the how-to in a terminal, with another folder for the archive."""
    settings = environment({"MIGRATION_LEDGER_DATA_DIR": str(data_dir)})
    shell = await asyncio.create_subprocess_exec(
        *("/bin/bash", "-eu", "-c", commands(note).replace("/mnt/archive", f"'{archive}'")),
        cwd=folder,
        env={**settings, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{settings['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await shell.communicate()
    assert shell.returncode == 0, out.decode()
    return out.decode()


async def killed_when(process: asyncio.subprocess.Process, begun: Callable[[], bool]) -> None:
    """SIGKILL a process as soon as something is so, unless it has ended by then."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while process.returncode is None and not begun():
            await asyncio.sleep(0.002)
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.communicate()


async def kill_exports(up: Up, archive: Path) -> None:
    """Exports that are killed as soon as they have begun to write."""
    for _ in range(KILLS):
        process = await up.start("archive", "export", str(archive))
        await killed_when(process, lambda: bool(list(archive.glob("events/*"))))
        if not (archive / "manifest.json").exists():
            continue
        found = await up.run("archive", "verify", str(archive))
        assert found.status == 0, found.err
        shutil.rmtree(archive)


async def drills_that_end_early(up: Up) -> None:
    """A drill of another ledger's archive, an export into a file, a drill that is told to end."""
    another = await up.run("drill", str(GOLDEN))
    assert (another.status, "is the archive of ledger" in another.err) == (2, True), another.err
    into = await up.run("archive", "export", str(GOLDEN / "manifest.json"))
    assert (into.status, "File exists" in into.err) == (2, True), into.err
    scratch = up.folder / "scratch"
    told = await up.start("drill", "--scratch", str(scratch))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (scratch / "ledger" / "postgres.password").exists():
            await asyncio.sleep(0.01)
    told.send_signal(signal.SIGTERM)
    await told.communicate()
    assert told.returncode == INTERRUPTED
    assert not scratch.exists()


async def in_use(up: Up) -> dict[str, Any]:
    """What a drill must not change, once everything is published and in the read models."""
    settings = load_settings(
        {"data_dir": str(up.data_dir)}, environment=up.settings, folder=up.folder
    )
    async with open_service(settings) as service, service.publisher() as publisher:
        head = await service.ledger.head()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while {await service.cursors.get(CURSOR), *await view_cursors(service)} != {head}:
                await asyncio.sleep(0.05)
            while not await everything_told(service):
                await asyncio.sleep(0.05)
        views = {one.name: await service.views.find(one.name, limit=1000) for one in PROJECTIONS}
        store = service.stores.store(DEFAULT)
        return {
            "head": head,
            "generations": await service.applications.generations(),
            "views": (await view_cursors(service), views),
            "topics": await publisher.end_offsets(),
            "aliases": await store.aliases(),
            "points": {
                name: [page async for page in store.scan(name)]
                for name in await store.collections()
            },
            "witnesses": [await store.read_witness(one) for one in await store.collections()],
            "files": await asyncio.to_thread(files, up.data_dir),
        }


async def everything_told(service: Service) -> bool:
    """Whether each collection says that it has what was applied to it."""
    store = service.stores.store(DEFAULT)
    for status in await service.applications.generations():
        witness = await store.read_witness(status.physical)
        if not status.gone and (witness is None or witness.version < status.recorded):
            return False
    return True


async def view_cursors(service: Service) -> list[Cursor]:
    """How far each read model is."""
    return [await service.views.cursor(one.name) for one in PROJECTIONS]


def files(data_dir: Path) -> set[Path]:
    """Names in the data directory, without those that PostgreSQL and the node keep for themselves.

    Of the node's collections only the folders are among them.
    """
    return {
        found
        for pattern in ("*", "*/*", "objects/**/*", "qdrant/shards/*")
        for found in data_dir.glob(pattern)
    }


async def versions(up: Up, name: str) -> list[dict[str, Any]]:
    listed = await up.run("version", "list", name, "--json")
    assert listed.status == 0, listed.err
    return [{**one, "not_rebuildable": None} for one in listed.documents]


async def looked_after(up: Up, name: str) -> None:
    """Let the ledger know a collection, write a point to it, and give that version a label."""
    adopted = await up.run("collection", "adopt", name, "--yes", "--reason", "from here on")
    assert adopted.status == 0, adopted.err
    lines = up.folder / "new.jsonl"
    point = {"id": 90_001, "payload": {"source_id": "1"}, "vector": [1.0] + [0.0] * 15}
    lines.write_text(json.dumps(point))
    written = await up.run("points", "upsert", name, str(lines), "--wait", "readable")
    assert written.status == 0, written.err
    tagged = await up.run("version", "tag", name, "before-the-fire")
    assert tagged.status == 0, tagged.err


async def test_the_how_to_brings_back_what_a_machine_had(tmp_path: Path) -> None:
    archive = tmp_path / "the archive"
    for machine in ("first", "second"):
        (tmp_path / machine).mkdir()
    async with running(tmp_path / "first", settings={}) as up:
        application = await build("a", up.url("database"), up.url("qdrant"), points=400)
        shared = application.shared["documents"]
        await looked_after(up, shared)
        await kill_exports(up, archive)
        before = await in_use(up)
        assert before["topics"]
        assert before["points"].keys() == set(application.shared.values())

        told = await typed("in use", archive, up.data_dir, up.folder)

        assert told.count("\nequal\n") == 1, told
        assert "RPO: nothing of what is recorded would be lost" in told
        assert re.search(r"^RTO: \d+\.\d s to bring everything back$", told, re.MULTILINE), told
        points, noted = await application.points(shared), await versions(up, shared)
        head = (await up.run("log", "verify")).out
        assert points[90_001][0] == {"source_id": "1"}
        await drills_that_end_early(up)
        assert await in_use(up) == before
        refused = await up.run("archive", "import", str(archive), "--yes")
        assert (refused.status, "is in use by process" in refused.err) == (2, True), refused.err
        await application.qdrant.close()
    shutil.rmtree(tmp_path / "first")

    second = tmp_path / "second"
    data_dir = second / "data of a test"
    killed = await start(
        *("archive", "import", str(archive), "--yes", "--data-dir", str(data_dir)), folder=second
    )
    await killed_when(killed, (data_dir / "objects").exists)
    await typed("new machine", archive, data_dir, second)
    again = await run(
        *("archive", "import", str(archive), "--yes", "--data-dir", str(data_dir)), folder=second
    )
    assert (again.status, "is not empty" in again.err) == (2, True), again.err
    async with running(second, settings={}) as up:
        halted = await up.run("points", "delete", shared, str(second / "nothing.jsonl"))
        assert halted.status != 0
        told = await typed("new machine, up", archive, data_dir, second)

        qdrant = client(up.url("qdrant"))
        found, _ = await qdrant.scroll(shared, limit=10_000, with_payload=True, with_vectors=True)
        await qdrant.close()
        assert {one.id: (one.payload, one.vector) for one in found} == points
        assert await versions(up, shared) == noted
        again_head = (await up.run("log", "verify")).out
        assert int(again_head.split()[1].partition(":")[0]) > int(head.split()[1].partition(":")[0])
        trusted = await up.run("log", "verify", "--against", head.split()[1])
        assert trusted.status == 0, trusted.out
        written = await up.run("points", "delete", shared, str(await ids(second, [90_001])))
        assert written.status == 0, written.err


async def ids(folder: Path, numbers: list[int]) -> Path:
    path = folder / "ids.jsonl"
    path.write_text("\n".join(map(str, numbers)))
    return path
