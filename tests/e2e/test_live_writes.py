"""Live writes through every layer: killed, sent again, restored away, and carried back."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from tests.e2e.application import DIMENSIONS, Application, build, write_spec
from tests.e2e.program import Up, running

pytestmark = [
    pytest.mark.broker,
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("live writes"),
]

WRITTEN = 4000
FIRST = 10_000_000
RECORDED_BEFORE = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    async with running(tmp_path_factory.mktemp("up")) as up:
        yield up


@pytest_asyncio.fixture(loop_scope="module")
async def application(up: Up) -> AsyncIterator[Application]:
    name = f"a{uuid4().hex[:6]}"
    application = await build(name, up.url("database"), up.url("qdrant"), points=300)
    yield application
    await application.qdrant.close()


def lines(up: Up, application: Application, count: int) -> str:
    """A file of new points of one source."""
    random = Random(1)
    source = application.ids["Réseau & Internet"]
    path = up.folder / f"{application.name}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            vector = [random.uniform(-1, 1) for _ in range(DIMENSIONS["documents"])]
            point = {"id": FIRST + number, "payload": {"source_id": source}, "vector": vector}
            file.write(json.dumps(point) + "\n")
    return str(path)


def new(points: dict[Any, Any]) -> set[int]:
    """Ids of points that were written here."""
    return {key for key in points if isinstance(key, int) and key >= FIRST}


async def test_writes_are_killed_repeated_restored_and_carried_back(
    up: Up, application: Application
) -> None:
    before = await application.snapshot()
    applied = await up.run("apply", str(write_spec(application, up.folder)), "--yes", "--json")
    assert applied.status == 0, applied.err
    shared, name = application.shared["documents"], f"{application.name}_Reseau_Internet_documents"
    split = await application.points(name)
    file = lines(up, application, WRITTEN)
    tagged = await up.run("version", "tag", name, "as split", "--json")
    assert tagged.status == 0, tagged.err

    held = await up.run("points", "upsert", shared, file)
    assert held.status == 1
    assert applied.document["id"] in held.err
    how = ("--batch", "50", "--key", "k1", "--json")
    await kill_in_the_middle(up, name, file, *how)
    written = await up.run("points", "upsert", name, file, *how, "--wait", "readable")
    assert written.status == 0, written.err
    assert written.document["points"] == WRITTEN
    assert RECORDED_BEFORE - 10 < written.document["recorded_before"] <= WRITTEN / 2 / 50
    assert new(await application.points(name)) == set(range(FIRST, FIRST + WRITTEN))
    assert (await up.run("verify", name)).status == 0

    restore = ("restore", name, "--to", "as split", "--reason", "OPS-7", "--yes")
    unasked = await up.run(*restore)
    assert unasked.status == 2
    assert f"{WRITTEN:,} points would be deleted" in unasked.err
    restored = await up.run(*restore, "--discard-later-writes", "--json")
    assert restored.status == 0, restored.err
    assert await application.points(name) == split
    undone = await up.run("rollback", restored.document["id"], "--yes", "--reason", "no")
    assert undone.status == 0, undone.err
    assert new(await application.points(name)) == set(range(FIRST, FIRST + WRITTEN))

    await by_http(up, name)
    back = await up.run("rollback", applied.document["id"], "--yes", "--reason", "as it was")
    assert back.status == 0, back.out + back.err
    after = await application.points(shared)
    assert new(after) == set(range(FIRST + 2, FIRST + WRITTEN))
    assert after[FIRST + 2][0]["read"] is True
    assert {key: after[key] for key in before[shared]} == before[shared]
    assert await application.collections() == set(application.shared.values())


async def test_writes_go_on_while_a_collection_is_split_and_reach_both_sides_afterwards(
    up: Up, application: Application
) -> None:
    shared, name = application.shared["documents"], f"{application.name}_Reseau_Internet_documents"
    adopted = await up.run("collection", "adopt", shared, "--yes", "--reason", "OPS-8")
    assert adopted.status == 0, adopted.err
    spec = str(write_spec(application, up.folder, warm_for="1h"))
    started = await up.run("apply", spec, "--yes", "--detach", "--json")
    source = application.ids["Réseau & Internet"]
    acknowledged = await write_until_held(up, shared, source, started.document["id"])
    done = await up.run("watch", started.document["id"])
    assert done.status == 0, done.out + done.err
    assert acknowledged
    assert new(await application.points(name)) == acknowledged

    written = await up.run("points", "upsert", name, lines(up, application, WRITTEN))
    assert written.status == 0, written.err
    async with httpx.AsyncClient(base_url=up.url("api"), timeout=30) as api, asyncio.timeout(60):
        path = f"/v1/migrations/{started.document['id']}/old-sides"
        while (sides := (await api.get(path)).json())[-1]["behind"]:
            assert sides[-1]["stuck"] is None
    assert {(side["collection"], side["warm"]) for side in sides} == {
        (collection, True) for collection in application.shared.values()
    }
    shown = await up.run("migration", "show", started.document["id"])
    assert f"old side {shared}: up to date, kept so until" in shown.out
    (up.folder / "gone.jsonl").write_text(f'{{"id": {FIRST}}}\n')
    warm = await up.run("points", "delete", name, str(up.folder / "gone.jsonl"))
    assert warm.status == 0, warm.err
    back = await up.run("rollback", started.document["id"], "--yes", "--reason", "as it was")
    assert back.status == 0, back.out + back.err
    assert f"old side {shared}: " in back.out
    assert new(await application.points(shared)) == (
        acknowledged | set(range(FIRST, FIRST + WRITTEN))
    ) - {FIRST}


async def write_until_held(up: Up, name: str, source: int | str, migration: str) -> set[int]:
    """Write point after point by HTTP until a migration holds the collection; their ids."""
    acknowledged: set[int] = set()
    async with httpx.AsyncClient(base_url=up.url("api"), timeout=30) as api:
        for number in count(FIRST + 10 * WRITTEN):
            vector = [0.5] * DIMENSIONS["documents"]
            point = {"id": number, "payload": {"source_id": source}, "vector": vector}
            answer = await api.post(
                f"/v1/collections/{name}/points",
                json={"points": [point]},
                headers={"Idempotency-Key": str(uuid4()), "X-Actor": "mara"},
            )
            if answer.status_code == 409:
                assert migration in answer.text
                break
            assert answer.status_code == 200, answer.text
            acknowledged.add(number)
    return acknowledged


async def kill_in_the_middle(up: Up, name: str, file: str, *command: str) -> None:
    """Give a command half of a file, wait until it is recorded, and kill it."""
    pipe = up.folder / "half.jsonl"
    os.mkfifo(pipe)
    process = await up.start("points", "upsert", name, str(pipe), *command)
    whole = await asyncio.to_thread(Path(file).read_bytes)
    half = whole.splitlines(keepends=True)[: WRITTEN // 2]
    with await asyncio.to_thread(pipe.open, "wb") as writer:
        await asyncio.to_thread(writer.writelines, half)
        writer.flush()
        async with asyncio.timeout(60):
            while (await recorded(up, name)) < RECORDED_BEFORE:
                assert process.returncode is None
        process.kill()
        await process.wait()
    assert process.returncode == -signal.SIGKILL


async def recorded(up: Up, name: str) -> int:
    """The last version of the generation that serves a name."""
    [generation] = (await up.run("collection", "show", name, "--json")).document["generations"]
    version: int = generation["recorded"]
    return version


async def by_http(up: Up, name: str) -> None:
    """Delete two points and set a field of a third, and send each again."""
    async with httpx.AsyncClient(base_url=up.url("api"), timeout=30) as api:
        path = f"/v1/collections/{name}/points"
        for end, body in (
            ("/delete", {"ids": [FIRST, FIRST + 1]}),
            ("/payload", {"points": [{"id": FIRST + 2, "payload": {"read": True}}]}),
        ):
            header = {"Idempotency-Key": str(uuid4()), "X-Actor": "mara"}
            for repeated in (False, True):
                answer = await api.post(
                    path + end, json=body, headers=header, params={"wait": "readable"}
                )
                assert answer.status_code == 200, answer.text
                assert (answer.json()["readable"], answer.json()["repeated"]) == (True, repeated)
