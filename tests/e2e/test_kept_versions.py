"""Versions are packed, archived and held by command, and what nothing needs is deleted."""

import json
from pathlib import Path

import asyncpg
import pytest

from adapters.postgres.connection import SCHEMA
from tests.e2e.application import DIMENSIONS, build
from tests.e2e.program import Ended, Up, running

pytestmark = [
    pytest.mark.broker,
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("kept versions"),
]

POINTS = 60
ROUNDS = 4
BATCH, STEP = 20, 5
WRITTEN = BATCH + STEP * (ROUNDS - 1)
BECAUSE = ("--reason", "policy 12")
LONG_AGO = f"UPDATE {SCHEMA}.bodies SET fate_at = fate_at - interval '2 hours'"  # noqa: S608


async def written(up: Up, name: str, number: int) -> None:
    """Write some points, most of which the round before wrote, too."""
    vector = [0.5] * DIMENSIONS["documents"]
    first = 1000 + STEP * number
    path = up.folder / "round.jsonl"
    with path.open("w") as file:
        for one in range(first, first + BATCH):
            file.write(json.dumps({"id": one, "vector": vector, "payload": {"round": number}}))
            file.write("\n")
    await ok(up, "points", "upsert", name, str(path), "--wait", "readable")


async def ok(up: Up, *arguments: str) -> Ended:
    done = await up.run(*arguments)
    assert done.status == 0, done.out + done.err
    return done


async def refused(up: Up, *arguments: str) -> str:
    done = await up.run(*arguments)
    assert done.status == 2, done.out + done.err
    return " ".join(done.err.split())


async def let_time_pass(up: Up) -> None:
    connection = await asyncpg.connect(up.url("database"))
    try:
        await connection.execute(LONG_AGO)
    finally:
        await connection.close()


async def with_a_history(up: Up) -> tuple[str, str]:
    """A collection whose first and last rounds have labels; a position between them."""
    application = await build("kept", up.url("database"), up.url("qdrant"), points=POINTS)
    await application.qdrant.close()
    name = application.shared["documents"]
    await ok(up, "collection", "adopt", name, "--yes", *BECAUSE)
    for number in range(ROUNDS):
        await written(up, name, number)
        if number in {0, ROUNDS - 1}:
            await ok(up, "version", "tag", name, f"round {number}")
    events = (await ok(up, "log", "events", "--json", "--topic", "generation.")).documents
    positions = [one["position"] for one in events if "change-set" in one["topic"]]
    return name, str(positions[-2])


async def test_versions_leave_their_window(tmp_path: Path) -> None:
    async with running(tmp_path) as up:
        name, between = await with_a_history(up)

        packed = await ok(up, "pack", name, "--json", "--reason", "many small bodies")
        points = packed.document["points"]
        assert points > WRITTEN
        again = (await ok(up, "pack", name, "--json")).document
        assert (again["points"], again["together"]) == (0, points)
        await ok(up, "verify", name)

        assert "needs --reason" in await refused(up, "retention", "set", name, "--last", "1")
        await ok(up, "retention", "set", name, "--last", "1", *BECAUSE)
        await ok(up, "retention", "hold", name, "case 7", *BECAUSE)
        assert "case 7" in (await ok(up, "retention", "show")).out
        assert "nothing leaves" in (await ok(up, "retention", "apply", "--dry-run")).out
        await ok(up, "retention", "lift", name, "case 7", *BECAUSE)
        assert "say --yes" in await refused(up, "retention", "apply")

        applied = (await ok(up, "retention", "apply", "--yes", "--json", *BECAUSE)).documents[-1]
        assert (applied["archived"], applied["given_up"], applied["deleted"]) == (1, 0, 0)
        assert applied["condemned"] > 0
        await let_time_pass(up)
        swept = (await ok(up, "retention", "apply", "--yes", "--json", *BECAUSE)).document
        assert swept["given_up"] == swept["deleted"] == applied["condemned"]

        await ok(up, "rebuild", name, "--at", "round 0", "--into", "kept.parquet")
        await ok(up, "rebuild", name, "--at", "round 0", "--into", "again", "--yes", *BECAUSE)
        for into in ("gone.parquet", "gone"):
            gone = ("rebuild", name, "--at", between, "--into", into, "--yes", *BECAUSE)
            assert "retention archived this version" in await refused(up, *gone)
        assert not (tmp_path / "gone.parquet").exists()
        await ok(up, "verify", name)
        await ok(up, "log", "verify")
