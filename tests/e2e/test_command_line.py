"""One migration through every layer, from the command line, with the processes killed."""

import asyncio
import json
import os
import pty
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from qdrant_client.models import Distance, PointStruct, VectorParams

from adapters.embedders.lsa import LsaModel
from adapters.settings import FILE, PREFIX
from tests.e2e.application import Application, build, write_spec
from tests.e2e.program import Up, running

pytestmark = [
    pytest.mark.broker,
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("command line"),
]

POINTS = 3000
QUESTION = "how long is the notice period"
NOTES = (
    "The notice period is three months to the end of a quarter.",
    "Notice must be given in writing, and a long letter is not needed.",
    "Lunch is served in the canteen from noon until two.",
    "A trial period is six months; during it notice is two weeks.",
    "How to reset a password is described on the start page.",
    "The canteen is closed during the long summer holidays.",
    "Holidays are requested in writing, two weeks before.",
    "Passwords are changed every three months.",
)
NOTES_DIMENSION = 6


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


async def test_plan_apply_verify_again_and_roll_back(up: Up, application: Application) -> None:
    before, names = await application.snapshot(), await application.names()
    spec = str(write_spec(application, up.folder, after="drop"))

    planned = await up.run("plan", spec, "--json")
    assert planned.status == 0, planned.err
    migration = planned.document["id"]
    assert await application.collections() == set(application.shared.values())

    applied = await up.run("apply", migration, "--yes")
    assert applied.status == 0, applied.out + applied.err
    assert not set(application.shared.values()) & await application.collections()
    documents = await application.points(f"{application.name}_Reseau_Internet_documents")
    source = application.ids["Réseau & Internet"]
    assert documents == {
        key: point
        for key, point in before[application.shared["documents"]].items()
        if point[0]["source_id"] == source
    }
    stored = f"{application.name}-Stored.docs"
    assert await application.points(stored)
    filled = (await application.names())[application.title("AI Knowledge")]
    assert f'"{application.name}_AI_Knowledge_code"' in (filled or "")

    verified = await up.run("verify", stored, "--json")
    assert (verified.status, verified.document["equal"]) == (0, True)

    again = await up.run("apply", spec, "--yes", "--json")
    assert (again.status, again.document["nothing_to_do"]) == (0, True)

    back = await up.run("rollback", migration, "--yes", "--reason", "as it was")
    assert back.status == 0, back.out + back.err
    assert await application.snapshot() == before
    assert await application.names() == names
    assert await application.collections() == set(application.shared.values())

    once_more = await up.run("rollback", migration, "--yes", "--json")
    assert (once_more.status, once_more.document["nothing_to_do"]) == (0, True)


@pytest.mark.parametrize("role", ["relay", "applier", "flow", "coordinator", "projector"])
async def test_a_worker_killed_in_the_middle_is_replaced_and_nothing_is_lost(
    up: Up, application: Application, role: str
) -> None:
    before = await application.snapshot()
    pids = await up.pids()
    applying = await up.start("apply", str(write_spec(application, up.folder)), "--yes")
    await _until_it_says(applying, "step started create")
    os.kill(pids[role], signal.SIGKILL)
    out, err = await applying.communicate()

    assert applying.returncode == 0, (out + err).decode()
    found: dict[str, dict[Any, Any]] = {name: {} for name in application.shared.values()}
    for collection in await application.collections() - found.keys():
        kind = "code" if "code" in collection else "documents"
        found[application.shared[kind]] |= await application.points(collection)
    assert found == before


async def _until_it_says(process: asyncio.subprocess.Process, words: str) -> bytes:
    """Read its output until these words come."""
    assert process.stdout is not None
    read = b""
    async with asyncio.timeout(60):
        while words.encode() not in read:
            line = await process.stdout.readline()
            assert line, read
            read += line
    return read


async def test_two_who_apply_at_once_get_one_migration(up: Up, application: Application) -> None:
    spec = str(write_spec(application, up.folder))

    first, second = await asyncio.gather(
        up.run("apply", spec, "--yes", "--json"), up.run("apply", spec, "--yes", "--json")
    )

    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert first.document["id"] == second.document["id"]
    assert len(await application.points(f"{application.name}_AI_Knowledge_code")) == pytest.approx(
        POINTS / 3, abs=1
    )


async def test_ctrl_c_leaves_a_migration_that_goes_on(up: Up, application: Application) -> None:
    spec = str(write_spec(application, up.folder))
    applying = await up.start("apply", spec, "--yes")
    await _until_it_says(applying, "step started adopt")
    applying.send_signal(signal.SIGINT)
    out, err = await applying.communicate()

    assert applying.returncode == 130, (out + err).decode()
    assert b"Traceback" not in err
    again = await up.run("apply", spec, "--yes", "--json")
    assert again.status == 0, again.err
    assert len(await application.points(f"{application.name}_AI_Knowledge_code")) == pytest.approx(
        POINTS / 3, abs=1
    )


@pytest.mark.parametrize("answer", ["no", "nothing more", "interrupted"])
async def test_a_question_at_a_terminal_can_be_answered(
    up: Up, application: Application, answer: str
) -> None:
    spec = str(write_spec(application, up.folder))
    terminal, theirs = pty.openpty()
    process = await up.start("apply", spec, stdin=theirs)
    os.close(theirs)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            await process.stdout.readuntil(b"Apply this plan?")
        if answer == "interrupted":
            process.send_signal(signal.SIGINT)
        else:
            os.write(terminal, b"n\n" if answer == "no" else END_OF_INPUT)
        async with asyncio.timeout(PATIENCE):
            _, err = await process.communicate()
    finally:
        os.close(terminal)
    assert process.returncode == (1 if answer == "no" else 130), err
    assert b"defect" not in err


END_OF_INPUT = b"\x04"
PATIENCE = 30.0


async def test_ctrl_c_ends_what_waits_for_points(up: Up, application: Application) -> None:
    applied = await up.run("apply", str(write_spec(application, up.folder)), "--yes", "--json")
    assert applied.status == 0, applied.err
    name = f"{application.name}_Reseau_Internet_documents"
    before = await recorded(up, name)
    reading = await up.start(
        "points", "delete", name, "--batch", "1", stdin=asyncio.subprocess.PIPE
    )
    assert reading.stdin is not None
    reading.stdin.write(b"900001\n900002\n")
    async with asyncio.timeout(PATIENCE):
        while await recorded(up, name) == before:
            pass
        reading.send_signal(signal.SIGINT)
        await reading.wait()
        assert reading.stderr is not None
        err = await reading.stderr.read()
    assert reading.returncode == 130, err
    assert b"interrupted" in err


async def recorded(up: Up, name: str) -> int:
    """The last version that is recorded of a collection."""
    shown = (await up.run("collection", "show", name, "--json")).document
    version: int = shown["generations"][-1]["recorded"]
    return version


async def test_a_version_is_labelled_and_rebuilt_after_its_store_lost_it(
    up: Up, application: Application
) -> None:
    applied = await up.run("apply", str(write_spec(application, up.folder)), "--yes", "--json")
    assert applied.status == 0, applied.err
    name = f"{application.name}_Reseau_Internet_documents"
    points = await application.points(name)

    async with asyncio.timeout(30):  # the list is a read model, which follows
        while not (listed := (await up.run("version", "list", name, "--json")).documents):
            pass
    [version] = listed
    assert (version["points"], version["label"]) == (len(points), "")
    tag = ("version", "tag", name, "after the split", "--reason", "audit", "--json")
    for _ in range(2):
        tagged = await up.run(*tag, settings={**up.settings, f"{PREFIX}ACTOR": "mara"})
        assert (tagged.status, tagged.document["digest"]) == (0, version["digest"])
    await who_made_versions(up, name, applied.documents[-1]["id"])
    same = await up.run("verify", name, "--at", "after the split", "--json")
    assert (same.status, same.document["digest"]) == (0, version["digest"])
    unknown = await up.run("verify", name, "--at", "after the splitt")
    assert unknown.status == 2
    assert "did you mean 'after the split'" in unknown.err

    await application.qdrant.delete_collection(f"{name}__g1")
    gone = await up.run("verify", name, "--at", "after the split")
    assert gone.status == 1
    assert f"the store has no collection '{name}__g1', {len(points)} missing" in gone.err + gone.out
    file = up.folder / "then.parquet"
    into_file = ("rebuild", name, "--at", "after the split", "--into", str(file), "--json")
    written = await up.run(*into_file)
    assert (written.status, written.document["digest"]) == (0, version["digest"])
    assert pq.read_metadata(file).num_rows == len(points)
    assert (await up.run(*into_file)).status == 2
    embedded = "database" if f"{PREFIX}KAFKA_BOOTSTRAP" in up.settings else "database,kafka"
    away = {f"{PREFIX}QDRANT_URL": "http://127.0.0.1:9", f"{PREFIX}EMBED": embedded}
    file.unlink()
    unreachable = await up.run(*into_file, settings={**up.settings, **away})
    assert (unreachable.status, unreachable.document["digest"]) == (0, version["digest"]), (
        unreachable.err
    )
    rebuild = ("rebuild", name, "--at", "after the split", "--into", f"{name}_then")
    unasked = await up.run(*rebuild, "--reason", "audit")
    assert unasked.status == 2
    for nothing_to_do in (None, True):
        rebuilt = await up.run(*rebuild, "--reason", "audit", "--yes", "--json")
        assert rebuilt.status == 0, rebuilt.out + rebuilt.err
        assert rebuilt.documents[-1].get("nothing_to_do") == nothing_to_do
    assert await application.points(f"{name}_then") == points
    verified = await up.run("verify", f"{name}_then", "--json")
    assert (verified.status, verified.document["digest"]) == (0, version["digest"])
    await how_far_it_is(up, f"{name}_then", verified.document["through"])


async def how_far_it_is(up: Up, name: str, version: int) -> None:
    """What is recorded of a collection is applied and verified, and shown to people, too."""
    async with asyncio.timeout(30):  # a read model, which follows
        while True:
            shown = (await up.run("collection", "show", name, "--json")).document
            [generation] = shown["generations"]
            if generation["verified"] == version:
                break
    assert generation["recorded"] == generation["applied"] == version
    told = await up.run("collection", "show", name)
    *_, head, row = (line.split() for line in told.out.splitlines())
    columns = dict(zip(head, row, strict=False))
    assert [columns[name] for name in ("recorded", "applied", "verified")] == [f"{version}"] * 3


async def who_made_versions(up: Up, name: str, migration: str) -> None:
    """The first version was noted by a migration, the second one by a person; the list says so."""
    async with asyncio.timeout(30):
        while len(found := (await up.run("version", "list", name, "--json")).documents) < 2:
            pass
    assert [(one["migration"], one["actor"]) for one in found] == [
        (migration, "coordinator"),
        ("", "mara"),
    ]
    listed = await up.run("version", "list", name)
    head, noted, tagged = (line.split() for line in listed.out.splitlines())
    assert {"migration", "actor"} <= set(head)
    assert (migration[:8] in noted, noted[-1]) == (True, "coordinator")
    assert (migration[:8] in tagged, tagged[-1]) == (False, "mara")


async def test_a_position_or_a_time_is_a_version_to_search_rebuild_and_restore(
    up: Up, application: Application
) -> None:
    name = f"{application.name}_notes"
    model = LsaModel.fit(NOTES, NOTES_DIMENSION)
    model.save(up.folder / "notes.npz")
    (up.folder / FILE).write_text('[embedders.notes]\nlsa = "notes.npz"\n', encoding="utf-8")
    cosine = VectorParams(size=NOTES_DIMENSION, distance=Distance.COSINE)
    await application.qdrant.create_collection(name, vectors_config=cosine)
    adopted = await up.run("collection", "adopt", name, "--yes", "--reason", "notes")
    assert adopted.status == 0, adopted.err
    first = dict(enumerate(NOTES))
    position = await written(up, name, model, first)
    then, before = datetime.now(UTC).isoformat(), await application.points(name)
    best = nearest(model, first)
    later = {best[0]: "Bicycles are parked in the yard.", 99: NOTES[best[0]]}
    await written(up, name, model, later)

    searched = ("search", name, QUESTION, "--limit", "3")
    now = await up.run(*searched, "--json")
    assert [hit["id"] for hit in now.documents] == nearest(model, first | later) != best
    found = await up.run(*searched, "--at", then, "--json")
    assert found.status == 0, found.err
    assert [(hit["id"], hit["payload"]) for hit in found.documents] == [
        (number, {"text": first[number]}) for number in best
    ]
    told = await up.run(*searched, "--at", position)
    assert [line.split()[2] for line in told.out.splitlines()] == [str(one) for one in best]

    file = up.folder / "notes.parquet"
    rebuilt = await up.run("rebuild", name, "--at", position, "--into", str(file))
    assert rebuilt.status == 0, rebuilt.err
    [ids, payloads] = pq.read_table(file, columns=["id", "payload"]).to_pydict().values()
    assert dict(zip(map(int, ids), map(json.loads, payloads), strict=True)) == {
        number: {"text": text} for number, text in first.items()
    }
    because = ("--reason", "audit", "--yes")
    made = await up.run("rebuild", name, "--at", then, "--into", f"{name}_then", *because)
    assert made.status == 0, made.out + made.err
    assert await application.points(f"{name}_then") == before
    restore = ("restore", name, "--to", then, *because)
    restored = await up.run(*restore, "--discard-later-writes")
    assert restored.status == 0, restored.out + restored.err
    assert await application.points(name) == before


async def written(up: Up, name: str, model: LsaModel, texts: dict[int, str]) -> str:
    """Write texts by command; returns the position of the write when searches find it."""
    vectors = model.embed(list(texts.values())).tolist()
    points = [
        {"id": number, "payload": {"text": text}, "vector": vector}
        for (number, text), vector in zip(texts.items(), vectors, strict=True)
    ]
    lines = up.folder / "notes.jsonl"
    lines.write_text("\n".join(json.dumps(point) for point in points), encoding="utf-8")
    done = await up.run("points", "upsert", name, str(lines), "--wait", "readable", "--json")
    assert done.status == 0, done.err
    return str(done.document["position"])


def nearest(model: LsaModel, texts: dict[int, str]) -> list[int]:
    """The three texts that answer the question best."""
    scores = model.embed(list(texts.values())) @ model.embed([QUESTION])[0]
    return [list(texts)[row] for row in np.argsort(-scores)[:3]]


async def test_what_was_changed_behind_the_ledgers_back_is_found_and_repaired(
    up: Up, application: Application
) -> None:
    applied = await up.run("apply", str(write_spec(application, up.folder)), "--yes", "--json")
    assert applied.status == 0, applied.err
    name = f"{application.name}_Reseau_Internet_documents"
    physical = f"{name}__g1"
    points = await application.points(name)
    qdrant = application.qdrant
    [one, other, third], _ = await qdrant.scroll(physical, limit=3, with_vectors=True)
    await qdrant.delete(physical, [one.id])
    await qdrant.set_payload(physical, {"source_id": "somebody else"}, [other.id])
    stranger = PointStruct(id=2**60, vector=cast("list[float]", third.vector), payload={})
    await qdrant.upsert(physical, [stranger])
    await qdrant.delete_payload_index(physical, "source_id")

    found = await up.run("verify", name, "--json")
    assert found.status == 1
    assert (found.document["missing"], found.document["extra"], found.document["changed"]) == (
        *(1, 1),
        1,
    )
    assert found.document["examples"]["changed"] == [other.id]
    assert found.document["schema"] == ["the index of 'source_id' is missing"]
    async with asyncio.timeout(30):  # a read model, which follows
        while True:
            shown = (await up.run("collection", "show", name, "--json")).document
            [generation] = shown["generations"]
            if generation["drift"] is not None:
                break
    assert generation["drift"]["missing"] == 1

    assert (await up.run("repair", name)).status == 2
    assert (await up.run("repair", name, "--reason", "OPS-9")).status == 2
    assert await application.points(name) != points
    repair = ("repair", name, "--reason", "OPS-9", "--yes")
    repaired = await up.run(*repair, "--json")
    assert repaired.status == 0, repaired.out + repaired.err
    assert repaired.document["equal"]
    assert repaired.document["repair"]["points"] == 3
    assert await application.points(name) == points
    again = await up.run(*repair)
    assert (again.status, "nothing to repair" in again.out) == (0, True)
    [version] = (await up.run("version", "list", name, "--json")).documents
    position = str(version["position"])
    same = await up.run("version", "diff", name, position, "--exit-code", "--json")
    assert same.status == 0, same.err
    assert same.document["points"] == [len(points)] * 2
    created = await up.run("log", "events", "--topic", "generation.created", "--json")
    [empty] = [e["position"] for e in created.documents if e["state"]["physical"] == physical]
    for option, line in (("--ids", f"added {one.id}"), ("--show", '  + {"n":')):
        listed = await up.run("version", "diff", name, str(empty), position, option, "--exit-code")
        assert listed.status == 1, listed.err
        assert line in listed.out
        assert f"0 before, {len(points):,} after" in listed.out
    events = await up.run("log", "events", "--topic", "generation.repair", "--json")
    assert [event["context"]["reason"] for event in events.documents] == ["OPS-9"]
