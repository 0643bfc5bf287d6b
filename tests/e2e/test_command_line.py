"""One migration through every layer, from the command line, with the processes killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.application import Application, build, write_spec
from tests.e2e.program import Up, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

POINTS = 3000


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    async with running(tmp_path) as up:
        yield up


@pytest.fixture
async def application(up: Up) -> AsyncIterator[Application]:
    application = await build(up.url("database"), up.url("qdrant"), points=POINTS)
    yield application
    await application.qdrant.close()


async def _snapshot(application: Application) -> dict[str, Any]:
    return {name: await application.points(name) for name in ("shared_docs", "shared_code")}


async def test_plan_apply_verify_again_and_roll_back(up: Up, application: Application) -> None:
    before, names = await _snapshot(application), await application.names()
    spec = str(write_spec(up.folder, after="drop"))

    planned = await up.run("plan", spec, "--json")
    assert planned.status == 0, planned.err
    migration = planned.document["id"]
    assert await application.collections() == {"shared_docs", "shared_code"}

    applied = await up.run("apply", migration, "--yes")
    assert applied.status == 0, applied.out + applied.err
    assert "shared_docs" not in await application.collections()
    documents = await application.points("Reseau_Internet_documents")
    source = application.ids["Réseau & Internet"]
    assert documents == {
        key: point
        for key, point in before["shared_docs"].items()
        if point[0]["source_id"] == source
    }
    assert await application.points("Stored-Name.docs")
    assert '"AI_Knowledge_code"' in ((await application.names())["AI Knowledge"] or "")

    verified = await up.run("verify", "Stored-Name.docs", "--json")
    assert (verified.status, verified.document["equal"]) == (0, True)

    again = await up.run("apply", spec, "--yes", "--json")
    assert (again.status, again.document["nothing_to_do"]) == (0, True)

    back = await up.run("rollback", migration, "--yes", "--reason", "as it was")
    assert back.status == 0, back.out + back.err
    assert await _snapshot(application) == before
    assert await application.names() == names
    assert await application.collections() == {"shared_docs", "shared_code"}

    once_more = await up.run("rollback", migration, "--yes", "--json")
    assert (once_more.status, once_more.document["nothing_to_do"]) == (0, True)


@pytest.mark.parametrize("role", ["relay", "applier", "flow", "coordinator", "projector"])
async def test_a_worker_killed_in_the_middle_is_replaced_and_nothing_is_lost(
    up: Up, application: Application, role: str
) -> None:
    before = await _snapshot(application)
    pids = await up.pids()
    applying = await up.start("apply", str(write_spec(up.folder)), "--yes")
    await _until_something_is_recorded(up)
    os.kill(pids[role], signal.SIGKILL)
    out, err = await applying.communicate()

    assert applying.returncode == 0, (out + err).decode()
    found: dict[str, dict[Any, Any]] = {"shared_docs": {}, "shared_code": {}}
    for collection in await application.collections() - found.keys():
        kind = "shared_docs" if "doc" in collection else "shared_code"
        found[kind] |= await application.points(collection)
    assert found == before


async def _until_something_is_recorded(up: Up) -> None:
    async with asyncio.timeout(60):
        while not (await up.run("collection", "list", "--json")).documents:
            await asyncio.sleep(0)


async def test_two_who_apply_at_once_get_one_migration(up: Up, application: Application) -> None:
    spec = str(write_spec(up.folder))

    first, second = await asyncio.gather(
        up.run("apply", spec, "--yes", "--json"), up.run("apply", spec, "--yes", "--json")
    )

    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert first.document["id"] == second.document["id"]
    assert len(await application.points("AI_Knowledge_code")) == pytest.approx(POINTS / 3, abs=1)


async def test_ctrl_c_leaves_a_migration_that_goes_on(up: Up, application: Application) -> None:
    spec = str(write_spec(up.folder))
    applying = await up.start("apply", spec, "--yes")
    await _until_something_is_recorded(up)
    applying.send_signal(signal.SIGINT)
    out, err = await applying.communicate()

    assert applying.returncode == 130, (out + err).decode()
    assert b"Traceback" not in err
    again = await up.run("apply", spec, "--yes", "--json")
    assert again.status == 0, again.err
    assert len(await application.points("AI_Knowledge_code")) == pytest.approx(POINTS / 3, abs=1)
