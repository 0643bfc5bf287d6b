"""A person is erased with one command, which is killed in the middle, and no file has them."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
from qdrant_client import models

from tests.docs.pages import ROOT, snippets_of
from tests.e2e.application import Application, build, write_spec
from tests.e2e.program import Up, environment, running
from tests.e2e.traces import Planted

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ZAPHOD, FORD = 424_242, 424_243
EMAILS = {ZAPHOD: "zaphod.beeblebrox@example.org", FORD: "ford.prefect@example.org"}
HOW_TO = ROOT / "docs" / "how-to" / "erase-a-person.md"
WHY = ("--reason", "request 4711", "--basis", "GDPR Art. 17")
PATIENCE_SECONDS = 60


async def plant(application: Application, number: int) -> Planted:
    """One more point in the shared collection: a person."""
    shared = application.shared["documents"]
    vector = np.random.default_rng(number).standard_normal(16).tolist()
    payload = {
        "source_id": next(iter(application.ids.values())),
        "text": "a heart of gold and two heads",
        "person": {"email": EMAILS[number]},
    }
    point = models.PointStruct(id=number, vector=vector, payload=payload)
    await application.qdrant.upsert(shared, [point], wait=True)
    _, stored = (await application.points(shared))[number]
    return Planted(EMAILS[number].encode(), np.asarray(stored, "<f4").tobytes())


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


async def typed(up: Up, archive: Path, collection: str) -> str:
    """Type the commands of the how-to in a terminal, with another folder for the archive."""
    commands = [s.text for s in snippets_of(HOW_TO) if (s.language, s.note) == ("sh", "in use")]
    assert len(commands) == 4
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"MIGRATION_LEDGER_DATA_DIR": str(up.data_dir), "COLLECTION": collection}
    shell = await asyncio.create_subprocess_exec(
        *("/bin/bash", "-eu", "-c", "\n".join(commands).replace("/mnt/archive", str(archive))),
        cwd=up.folder,
        env={**environment(settings), "PATH": path},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await shell.communicate()
    assert shell.returncode == 0, out.decode()
    return out.decode()


async def test_a_person_is_nowhere_any_more(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    async with running(tmp_path, settings={}) as up:
        application = await build("a", up.url("database"), up.url("qdrant"), points=3000)
        people = {number: await plant(application, number) for number in EMAILS}
        name, physical = await split(up, application, tmp_path)
        await succeeded(up, "version", "tag", name, "with-them")
        await succeeded(up, "archive", "export", str(archive))
        for planted in people.values():
            before = await planted.anywhere(up.data_dir)
            assert {"text", "vector"} == before["qdrant"] == before["objects"]
            assert "vector" in before["postgres"]
            assert await planted.in_database(up.url("database")) == {"text", "vector"}
            assert await planted.anywhere(archive)
        digest = await tagged(up, name)

        await refused_without_consent(up)
        await killed_and_finished(up)
        told = await typed(up, archive, name)

        assert "erased: 1 points, in 2 collections and 2 objects (erasure 2)" in told, told
        assert not EMAILS.keys() & (await application.points(physical)).keys()
        await succeeded(up, "verify", name)
        await says_so(up, name, digest, tmp_path)
        for planted in people.values():
            assert await planted.anywhere(up.data_dir) == {}
            assert await planted.in_database(up.url("database")) == set()
            assert await planted.in_topics(up.url("kafka")) == set()
            assert await planted.anywhere(archive) == {}
        await succeeded(up, "archive", "verify", str(archive))
        await succeeded(up, "rollback", "a", "--yes", "--reason", "not after all")
        shared = await application.points(application.shared["documents"])
        assert len(shared) == 2999
        assert not EMAILS.keys() & shared.keys()
        await succeeded(up, "log", "verify")
        await application.qdrant.close()


async def split(up: Up, application: Application, folder: Path) -> tuple[str, str]:
    """Migrate, and write to where the people are then; returns its logical and physical name."""
    spec = write_spec(application, folder, batch={"size": 2000}, after="drop")
    await succeeded(up, "apply", str(spec), "--yes")
    [moved] = [
        one
        for one in await succeeded(up, "collection", "list")
        if ZAPHOD in await application.points(one["physical"])
    ]
    lines = folder / "more.jsonl"
    more = [{"id": number, "payload": {"also": email}} for number, email in EMAILS.items()]
    lines.write_text("\n".join(map(json.dumps, more)))
    name: str = moved["collection"]
    await succeeded(up, "points", "set-payload", name, str(lines), "--wait", "readable")
    return name, moved["physical"]


async def killed_and_finished(up: Up) -> None:
    """Who erases is killed; it shows, and a command without arguments finishes it."""
    await killed_when_begun(up, "erase", "--ids", str(FORD), *WHY, "--accept-irreversible")
    examined = await up.run("doctor", "--json")
    assert (examined.status, examined.document["unfinished_erasures"]) == (1, [1])
    assert "erasure 1 is not finished" in (await up.run("doctor")).out
    [done] = await succeeded(up, "erase")
    assert [(one["ids"], one["generations"]) for one in done["erased"]] == [(1, 2)]
    assert done["by_hand"] == []
    assert (await up.run("doctor", "--json")).status == 0
    [over] = await succeeded(up, "erase", "--ids", str(FORD), *WHY)
    assert (over["erased_before"], over["nothing_to_do"]) == ([FORD], True)
    never = await up.run("erase", "--ids", "99999999", *WHY)
    assert (never.status, "was never in" in never.out) == (1, True), never.out


async def tagged(up: Up, name: str) -> str:
    [one] = [v for v in await succeeded(up, "version", "list", name) if v["label"]]
    digest: str = one["digest"]
    return digest


async def refused_without_consent(up: Up) -> None:
    plain = ("erase", "--ids", str(FORD))
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
    assert "not rebuildable exactly: erased: 2 points" in listed.out, listed.out
    [version] = [v for v in await succeeded(up, "version", "list", name) if v["label"]]
    assert version["digest"] == digest
    assert version["remains"]["erased"] == 2
    assert version["remains"]["digest"] != digest
    compared = await up.run("version", "diff", name, "with-them")
    assert "2 of the first version, 0 of the second: not compared" in compared.out, compared.out
    into = ("rebuild", name, "--at", "with-them", "--into", str(folder / "then.parquet"))
    told = await up.run(*into)
    assert (told.status, "--without-erased" in told.err) == (2, True), told.err
    [rebuilt] = await succeeded(up, *into, "--without-erased")
    assert (rebuilt["digest"], rebuilt["erased"]) == (version["remains"]["digest"], 2)
    as_collection = ("rebuild", name, "--at", "with-them", "--into", "then", "--reason", "to see")
    told = await up.run(*as_collection, "--yes")
    assert (told.status, "--without-erased" in told.err) == (2, True), told.err
