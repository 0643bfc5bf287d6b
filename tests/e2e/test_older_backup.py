"""The database is replaced by an older backup under everything that runs; `recover` answers it."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import EVENTS
from adapters.qdrant.witness import KEY
from tests.contract.kafka_events import messages
from tests.e2e.application import Application, build, write_spec
from tests.e2e.program import Ended, Up, running
from tests.infra.brokers import configured
from tests.restoring import back_up, restore, url_of

pytestmark = [pytest.mark.broker, pytest.mark.e2e, pytest.mark.timeout(400)]

PATIENCE_SECONDS = 60


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    async with running(tmp_path) as up:
        yield up


@pytest.fixture
async def application(up: Up) -> AsyncIterator[Application]:
    application = await build("a", up.url("database"), up.url("qdrant"), points=300)
    yield application
    await application.qdrant.close()


async def aliases(application: Application) -> dict[str, str]:
    found = await application.qdrant.get_aliases()
    return {one.alias_name: one.collection_name for one in found.aliases}


async def contents(application: Application) -> dict[str, Any]:
    return {name: await application.points(name) for name in await application.collections()}


async def position(database_url: str) -> int:
    """Where the ledger in a database ends."""
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval("SELECT position FROM migration_ledger.tip"))
    finally:
        await connection.close()


async def told(application: Application, *, beyond: int) -> None:
    """Wait until the shared collection says something newer; appliers write that seconds late."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await application.qdrant.get_collection(application.shared["documents"])
            if (found.config.metadata or {}).get(KEY, {}).get("position", 0) > beyond:
                return
            await asyncio.sleep(0.1)


async def halted(up: Up) -> tuple[Ended, dict[str, Any]]:
    """Wait until all three kinds of witnesses have spoken."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            doctor = await up.run("doctor", "--json")
            halt = doctor.document["timeline"]["halted"]
            kinds = {one["where"].split(" ")[0] for one in halt["findings"]} if halt else set()
            if kinds >= {"topic", "collection", "process"}:
                return doctor, halt


async def test_an_older_backup_stops_everything_until_recover(
    up: Up, application: Application, tmp_path: Path
) -> None:
    first = write_spec(application, tmp_path, name="first")
    done = await up.run("apply", str(first), "--yes", "--json")
    assert done.status == 0, done.err
    kept, served = await contents(application), await aliases(application)
    backup = await back_up(up.url("database"))
    ended = await position(url_of(up.url("database"), backup))
    undone = await up.run("rollback", done.document["id"], "--yes", "--reason", "not yet", "--json")
    assert undone.status == 0, undone.err
    second = write_spec(application, tmp_path, name="second")
    again = await up.run("apply", str(second), "--yes", "--json")
    assert again.status == 0, again.err
    assert await aliases(application) != served
    await told(application, beyond=ended)

    await restore(up.url("database"), backup)
    doctor, halt = await halted(up)

    assert doctor.status == 1
    said = {one["where"]: one for one in halt["findings"]}
    shared = said[f"collection {application.shared['documents']} of store default"]
    assert f"is at position {shared['position']}, and the ledger ends at " in shared["says"]
    text = await up.run("doctor")
    assert text.status == 1
    for finding in halt["findings"]:
        assert finding["says"] in text.out
    assert "migration-ledger recover" in text.out
    await refused(up, done.document["id"])
    verified = await up.run("verify", application.shared["documents"], "--json")
    assert (verified.status, verified.document["equal"]) == (0, True), verified.err
    assert "not recorded: work is halted" in verified.err
    assert len(await points_of(application, served)) < len(served)

    recovered = await up.run("recover", "--yes", "--reason", "the disk died", "--json")

    assert recovered.status == 0, recovered.out + recovered.err
    outcome = recovered.document
    assert (outcome["timeline"], outcome["complete"]) == (2, True)
    assert all(one["equal"] and one["digest"] for one in outcome["collections"])
    now = await contents(application)
    assert {name: now[name] for name in kept} == kept
    assert await aliases(application) == served
    later = sorted(now.keys() - kept.keys())
    assert later
    assert {f"collection {name} of store default" for name in later} <= set(outcome["unknown"])
    await goes_on(up, application, done.document["id"])
    nothing = await up.run("recover", "--json")
    assert (nothing.status, nothing.document["nothing_to_do"]) == (0, True)


async def points_of(application: Application, served: dict[str, str]) -> set[str]:
    return set(served.values()) & await application.collections()


async def refused(up: Up, migration: str) -> None:
    """What changes things is refused with the reason, and reading still works."""
    command = await up.run("rollback", migration, "--yes", "--reason", "back", "--json")
    assert command.status == 1, command.out
    assert command.document["error"] == "Halted"
    assert "run `migration-ledger recover`" in command.document["message"].lower()
    async with httpx.AsyncClient(base_url=up.url("api")) as api:
        ready = await api.get("/ready")
        assert ready.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert "recover" in ready.json()["missing"]["ledger"]
        asked = await api.post(
            f"/v1/migrations/{migration}/rollback",
            json={"reason": "back"},
            headers={"Idempotency-Key": "halted"},
        )
        assert asked.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert asked.json()["type"].endswith(":halted")
        read = await api.get("/v1/migrations")
        assert read.status_code == HTTPStatus.OK
    listed = await up.run("migration", "list", "--json")
    assert [one["name"] for one in listed.documents] == ["first"]


async def goes_on(up: Up, application: Application, migration: str) -> None:
    """Everything is ready, topics are published again, and migrations run."""
    async with httpx.AsyncClient(base_url=up.url("api")) as api, asyncio.timeout(PATIENCE_SECONDS):
        while (await api.get("/ready")).status_code != HTTPStatus.OK:
            await asyncio.sleep(0.1)
        while (await up.run("doctor")).status:
            pass
    undone = await up.run("rollback", migration, "--yes", "--reason", "after all", "--json")
    assert undone.status == 0, undone.err
    assert undone.document["state"] == "rolled back"
    assert await aliases(application) == {}
    settings = configured() or KafkaSettings.embedded(up.url("kafka"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await up.run("doctor", "--json")).document["roles"]["relay"]["lag"]:
            pass
    headers = [dict(message.headers) for message in await messages(settings, EVENTS)]
    assert {found["ce_timeline"] for found in headers} == {b"1", b"2"}
    again = {int(found["ce_position"]) for found in headers if found["ce_timeline"] == b"2"}
    assert again == set(range(1, max(again) + 1))
