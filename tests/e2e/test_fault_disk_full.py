"""The disk under everything is full in the middle of a migration.

Work waits, `apply` and `doctor` say why, and when there is room again it goes on by itself.
"""

from pathlib import Path

import pytest

from tests.disks import small_disk
from tests.e2e.application import build, write_spec
from tests.e2e.program import run, running, until_says

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.xdist_group("disk full")]

MEGABYTES = 400
POINTS = 4000


@pytest.mark.broker
async def test_work_waits_for_room_and_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data of a test", MEGABYTES) as disk:
        async with running(tmp_path) as up:
            application = await build("a", up.url("database"), up.url("qdrant"), points=POINTS)
            before, names = await application.snapshot(), await application.names()
            spec = write_spec(application, tmp_path, after="drop")
            apply = await up.start("apply", str(spec), "--yes")
            await until_says(apply, "step started adopt")
            disk.fill()

            waits = await until_says(apply, " waits: ")
            assert "No space left on device; make room there" in waits or "has 0.0 MB free" in waits
            found = await up.run("doctor")
            assert " waits: " in found.out

            disk.make_room()
            out, _ = await apply.communicate()
            assert apply.returncode == 0, out.decode()
            assert (await up.run("dead-letter", "list", "--json")).out == ""
            assert not set(application.shared.values()) & await application.collections()

            migration = (await up.run("migration", "list", "--json")).document["id"]
            undone = await up.run("rollback", migration, "--yes", "--reason", "a test")
            assert undone.status == 0, undone.err
            assert await application.snapshot() == before
            assert await application.names() == names
            await application.qdrant.close()


async def test_up_on_a_full_disk_says_where(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data of a test", 1) as disk:
        disk.fill()
        ended = await run("up", "--data-dir", str(disk.folder), folder=tmp_path)
    assert ended.status == 3
    assert "No space left on device" in ended.err
