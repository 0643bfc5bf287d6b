"""A collection becomes an alias of its own name: planned, killed in its gap, shown, rolled back."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
import yaml

from adapters.postgres.connection import SCHEMA
from tests.e2e.application import DIMENSIONS, Application, build
from tests.e2e.program import Up, running

pytestmark = [
    pytest.mark.broker,
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("replaced by an alias"),
]

POINTS = 1000
LATER = 10_000_000

POSITION = f"SELECT max(position) FROM {SCHEMA}.events WHERE topic = $1"  # noqa: S608


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    async with running(tmp_path_factory.mktemp("up")) as up:
        yield up


@pytest_asyncio.fixture(loop_scope="module")
async def application(up: Up) -> AsyncIterator[Application]:
    name = f"a{uuid4().hex[:6]}"
    application = await build(name, up.url("database"), up.url("qdrant"), points=POINTS)
    yield application
    await application.qdrant.close()


def written(folder: Path, collection: str, **to: Any) -> str:
    """A spec file that replaces a collection, or chooses nothing."""
    spec = {
        "version": 1,
        "name": "an alias in front",
        "recipe": "new-generation",
        "reason": "so that it can change",
        "from": {"store": "default", "collection": collection},
        "to": to,
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return str(path)


async def killed_in_the_gap(up: Up, coordinator: int) -> None:
    """Kill the coordinator as soon as the ledger has the drop, and not yet the alias."""
    connection = await asyncpg.connect(up.url("database"))
    try:
        async with asyncio.timeout(60):
            while await connection.fetchval(POSITION, "generation.dropped") is None:
                pass
        os.kill(coordinator, signal.SIGKILL)
        assert await connection.fetchval(POSITION, "generation.alias-pointed") is None
    finally:
        await connection.close()


async def test_a_collection_becomes_an_alias_of_its_name_and_comes_back(
    up: Up, application: Application
) -> None:
    name = application.shared["documents"]
    before = await application.points(name)
    refused = await up.run("plan", written(up.folder, name))
    assert refused.status == 2
    assert "choose between to.name and to.replace" in " ".join(refused.err.split())

    spec = written(up.folder, name, replace=True)
    planned = await up.run("plan", spec)
    assert planned.status == 0, planned.err
    assert "There will be a gap" in planned.out
    coordinator = (await up.pids())["coordinator"]
    started = await up.run("apply", spec, "--yes", "--detach", "--json")
    await killed_in_the_gap(up, coordinator)
    migration = started.document["id"]
    done = await up.run("watch", migration)
    assert done.status == 0, done.out + done.err

    assert await application.points(name) == before
    assert await application.collections() == {f"{name}__g1", application.shared["code"]}
    gap = await shown_gap(up, migration, name)
    assert gap > 0

    vector = [0.5] * DIMENSIONS["documents"]
    (up.folder / "later.jsonl").write_text(json.dumps({"id": LATER, "vector": vector}))
    later = await up.run("points", "upsert", name, str(up.folder / "later.jsonl"))
    assert later.status == 0, later.err
    back = await up.run("rollback", migration, "--yes", "--reason", "as it was")
    assert back.status == 0, back.out + back.err
    after = await application.points(name)
    assert after.pop(LATER)[0] == {}
    assert after == before
    assert await application.collections() == set(application.shared.values())
    assert (await application.qdrant.get_aliases()).aliases == []
    assert await shown_gap(up, migration, name) == gap


async def shown_gap(up: Up, migration: str, name: str) -> int:
    """The gap in milliseconds, which the command line and the API say the same of."""
    document = (await up.run("migration", "show", migration, "--json")).document
    gap: int = document["gaps"][name]
    shown = await up.run("migration", "show", migration)
    assert f"gap: nothing answered under {name} for {gap:,} ms" in shown.out
    async with httpx.AsyncClient(base_url=up.url("api"), timeout=30) as api:
        answer = await api.get(f"/v1/migrations/{migration}")
    assert answer.json()["gaps"] == {name: gap}
    return gap
