"""A person is erased with one command, which is killed in the middle, and no file has them."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
from qdrant_client import models

from tests.e2e.application import Application, build, write_spec
from tests.e2e.program import Up, running
from tests.e2e.traces import Planted

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ID = 424_242
EMAIL = "zaphod.beeblebrox@example.org"
WHY = ("--reason", "request 4711", "--basis", "GDPR Art. 17")
PATIENCE_SECONDS = 60


async def plant(application: Application) -> Planted:
    """One more point in the shared collection: a person."""
    shared = application.shared["documents"]
    vector = np.random.default_rng(42).standard_normal(16).tolist()
    payload = {
        "source_id": next(iter(application.ids.values())),
        "text": "a heart of gold and two heads",
        "person": {"email": EMAIL},
    }
    point = models.PointStruct(id=ID, vector=vector, payload=payload)
    await application.qdrant.upsert(shared, [point], wait=True)
    _, stored = (await application.points(shared))[ID]
    return Planted(EMAIL.encode(), np.asarray(stored, "<f4").tobytes())


async def killed_when_begun(up: Up, *arguments: str) -> None:
    """SIGKILL a command as soon as the ledger says that it began to erase."""
    connection = await asyncpg.connect(up.url("database"))
    process = await up.start(*arguments)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM migration_ledger.events WHERE topic = 'erasure.begun')"
            ):
                assert process.returncode is None
                await asyncio.sleep(0.001)
    finally:
        await connection.close()
    process.send_signal(signal.SIGKILL)
    await process.communicate()


async def succeeded(up: Up, *arguments: str) -> list[dict[str, Any]]:
    done = await up.run(*arguments, "--json")
    assert done.status == 0, done.out + done.err
    return done.documents


async def test_a_person_is_nowhere_any_more(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    async with running(tmp_path, settings={}) as up:
        application = await build("a", up.url("database"), up.url("qdrant"), points=3000)
        planted = await plant(application)
        spec = write_spec(application, tmp_path, batch={"size": 2000}, after="drop")
        await succeeded(up, "apply", str(spec), "--yes")
        [moved] = [
            one
            for one in await succeeded(up, "collection", "list")
            if ID in await application.points(one["physical"])
        ]
        name = moved["collection"]
        lines = tmp_path / "more.jsonl"
        lines.write_text(json.dumps({"id": ID, "payload": {"also": EMAIL}}))
        await succeeded(up, "points", "set-payload", name, str(lines), "--wait", "readable")
        await succeeded(up, "version", "tag", name, "with-them")
        await succeeded(up, "archive", "export", str(archive))
        before = await planted.anywhere(up.data_dir)
        assert {"text", "vector"} == before["qdrant"] == before["objects"]
        assert "vector" in before["postgres"]
        assert await planted.in_database(up.url("database")) == {"text", "vector"}
        assert await planted.anywhere(archive)
        digest = await tagged(up, name)

        await refused_without_consent(up)
        erase = ("erase", "--filter", f"person.email={EMAIL}", *WHY, "--accept-irreversible")
        await killed_when_begun(up, *erase)
        [again] = await succeeded(up, *erase[:3], *WHY, "--accept-irreversible", "--no-record")
        assert (again["unfinished"], again["subjects"]) == ([1], [])
        [done] = await succeeded(up, "erase")

        assert [(one["ids"], one["generations"]) for one in done["erased"]] == [(1, 2)]
        [over] = await succeeded(up, "erase", "--ids", str(ID), *WHY)
        assert (over["erased_before"], over["nothing_to_do"]) == ([ID], True)
        never = await up.run("erase", "--ids", "99999999", *WHY)
        assert (never.status, "was never in" in never.out) == (1, True), never.out
        assert done["by_hand"] == []
        assert await planted.anywhere(up.data_dir) == {}
        assert await planted.in_database(up.url("database")) == set()
        assert await planted.in_topics(up.url("kafka")) == set()
        assert ID not in await application.points(moved["physical"])
        await succeeded(up, "verify", name)
        await says_so(up, name, digest, tmp_path)

        await succeeded(up, "archive", "export", str(archive))
        assert await planted.anywhere(archive) == {}
        await succeeded(up, "archive", "verify", str(archive))
        await succeeded(up, "rollback", "a", "--yes", "--reason", "not after all")
        shared = await application.points(application.shared["documents"])
        assert (len(shared), ID in shared) == (2999, False)
        await succeeded(up, "log", "verify")
        await application.qdrant.close()


async def tagged(up: Up, name: str) -> str:
    [one] = [v for v in await succeeded(up, "version", "list", name) if v["label"]]
    digest: str = one["digest"]
    return digest


async def refused_without_consent(up: Up) -> None:
    plain = ("erase", "--ids", str(ID))
    told = await up.run(*plain)
    assert (told.status, "--reason and --basis" in told.err) == (2, True), told.err
    told = await up.run(*plain, *WHY)
    assert (told.status, "--accept-irreversible" in told.err) == (2, True), told.err
    assert "copy" not in told.out
    [shown] = await succeeded(up, *plain, "--no-record")
    assert [(one["is"], one["points"], one["earlier"]) for one in shown["subjects"]] == [
        ("dropped", 0, 1),
        ("there", 1, 0),
    ]
    assert (shown["erased"], shown["recorded"]) == ([], False)


async def says_so(up: Up, name: str, digest: str, folder: Path) -> None:
    """The version is not what it was, and says what it is; it is only given to who accepts that."""
    listed = await up.run("version", "list", name)
    assert "not rebuildable exactly: erased: 1 points" in listed.out, listed.out
    [version] = [v for v in await succeeded(up, "version", "list", name) if v["label"]]
    assert version["digest"] == digest
    assert version["remains"]["erased"] == 1
    assert version["remains"]["digest"] != digest
    into = ("rebuild", name, "--at", "with-them", "--into", str(folder / "then.parquet"))
    told = await up.run(*into)
    assert (told.status, "--without-erased" in told.err) == (2, True), told.err
    [rebuilt] = await succeeded(up, *into, "--without-erased")
    assert (rebuilt["digest"], rebuilt["erased"]) == (version["remains"]["digest"], 1)
    as_collection = ("rebuild", name, "--at", "with-them", "--into", "then", "--reason", "to see")
    told = await up.run(*as_collection, "--yes")
    assert (told.status, "--without-erased" in told.err) == (2, True), told.err
