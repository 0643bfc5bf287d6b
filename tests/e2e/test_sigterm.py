"""SIGTERM ends every process within 30 seconds, whatever its servers do meanwhile."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from adapters.bootstrap import Service, open_service
from adapters.cli.roles import ROLES
from adapters.embedded.stack import SERVERS
from adapters.settings import load_settings
from domain.model.migration import Migration
from tests.e2e.application import Application, build, write_spec
from tests.e2e.program import environment, run
from tests.e2e.world import (
    LIMIT_SECONDS,
    PATIENCE_SECONDS,
    World,
    children_of,
    command_of,
    stopped_family,
    world,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.xdist_group("sigterm")]

POINTS = 4000
ALL = "all roles"
API = "api"
APPLY = "apply"
UNREACHABLE = 3


async def _middle_of_a_migration(world: World) -> None:
    """Workers of every role at work, one process of all roles beside them, and an `apply`."""
    settings = load_settings({"data_dir": str(world.data_dir)}, {}, world.folder)
    async with open_service(settings) as service:
        application = await build(
            f"a{uuid4().hex[:6]}",
            service.settings.database_url or "",
            service.settings.qdrant_url or "",
            points=POINTS,
        )
        await _apply(world, service, application)
        await application.qdrant.close()


async def _apply(world: World, service: Service, application: Application) -> None:
    spec = str(write_spec(application, world.folder, after="drop", batch={"size": 20}))
    planned = await run(
        "plan", spec, "--json", "--data-dir", str(world.data_dir), folder=world.folder
    )
    assert planned.status == 0, planned.err
    async with asyncio.TaskGroup() as group:
        for role in ROLES:
            group.create_task(world.start_worker(role, role))
        group.create_task(world.start_worker(ALL, ",".join(ROLES)))
        group.create_task(world.start_api(API))
    await _until_answers(world)
    migration = planned.document["id"]
    await world.start(APPLY, "adapters.cli", "apply", migration, "--yes")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await service.ledger.load(Migration, migration)
            if found is not None and "flow" in found.started:
                return
            await asyncio.sleep(0.02)


async def _until_answers(world: World) -> str:
    """The address of the API, once it serves."""
    async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient() as client:
        while True:
            for word in world.log(API).split():
                if word.startswith("http://127.0.0.1:"):
                    answer = await client.get(f"{word}/v1/migrations")
                    if answer.status_code == httpx.codes.OK:
                        return word
            await asyncio.sleep(0.1)


Fault = Callable[[World], None]


@pytest.mark.parametrize(
    ("fault", "away"),
    [
        pytest.param(World.nothing, 0, id="servers are well"),
        pytest.param(World.kill_servers, 8, id="servers gone for 8 s"),
        pytest.param(World.stop_servers, 0, id="servers stopped"),
        pytest.param(World.stop_servers, 8, id="servers hang for 8 s"),
        pytest.param(World.hold_traffic, 8, id="traffic held for 8 s"),
    ],
)
async def test_every_process_ends_in_the_middle_of_work(
    tmp_path: Path, fault: Fault, away: float
) -> None:
    async with world(tmp_path, proxied=fault is World.hold_traffic) as found:
        await _middle_of_a_migration(found)
        address = await _until_answers(found)
        fault(found)
        async with asyncio.TaskGroup() as group:
            # A request that waits for the database while the API is told to end.
            asking = group.create_task(_ask(f"{address}/v1/migrations"))
            await asyncio.sleep(away)  # how long the fault has lasted
            statuses = await found.terminate_all()
            asking.cancel()
        watching = statuses.pop(APPLY)
        logs = "\n".join(f"--- {n}\n{found.log(n)[-3000:]}" for n, s in statuses.items() if s != 0)
        assert statuses == dict.fromkeys(statuses, 0), logs
        assert watching in {-signal.SIGTERM, UNREACHABLE}


async def _ask(url: str) -> None:
    async with httpx.AsyncClient(timeout=None) as client:  # noqa: S113
        try:
            await client.get(url)
        except httpx.HTTPError:
            return


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(World.kill_servers, id="servers killed"),
        pytest.param(World.stop_servers, id="servers stopped"),
    ],
)
async def test_a_process_that_waits_for_its_servers_to_come_ends(
    tmp_path: Path, fault: Fault
) -> None:
    async with world(tmp_path, proxied=False) as found:
        fault(found)
        await asyncio.gather(found.start_worker(ALL, ",".join(ROLES)), found.start_api(API))
        assert await found.terminate_all() == {ALL: 0, API: 0}


_STUCK = """
import asyncio, time
from adapters.cli import main, roles
async def stuck(*_):
    print("stuck", flush=True)
    await asyncio.to_thread(time.sleep, 3600)
roles.ROLES["flow"] = stuck
main.main()
"""


async def test_a_worker_that_cannot_be_cancelled_ends_too(tmp_path: Path) -> None:
    """As when a file system hangs: a thread that waits for it cannot be told to stop."""
    async with world(tmp_path, proxied=False) as found:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _STUCK, "worker", "--roles", "flow"),
            *("--data-dir", str(found.data_dir)),
            stdout=asyncio.subprocess.PIPE,
            cwd=tmp_path,
            env=environment(),
        )
        found.processes["stuck"] = process
        assert process.stdout is not None
        assert await process.stdout.readline() == b"stuck\n"
        assert await found.terminate_all() == {"stuck": -signal.SIGALRM}


@pytest.mark.parametrize("begun", ["lock", "logs/postgres.log", "logs/worker-relay.log"])
async def test_up_ends_while_it_starts(tmp_path: Path, begun: str) -> None:
    async with _up(tmp_path) as up:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (tmp_path / "data" / begun).exists():
                assert up.returncode is None
                await asyncio.sleep(0.01)
        up.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LIMIT_SECONDS):
            assert await up.wait() == 0
        assert not list(children_of(up.pid))


async def test_up_ends_when_its_servers_hang(tmp_path: Path) -> None:
    async with _up(tmp_path) as up:
        assert up.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (line := await up.stdout.readline()) != b"ready; ctrl-C stops it\n":
                assert line
        ours = (b"adapters.cli", b"adapters.http")
        servers = [
            pid for pid in children_of(up.pid) if not any(one in command_of(pid) for one in ours)
        ]
        assert len(servers) == len(SERVERS)
        stopped = [one for pid in servers for one in stopped_family(pid)]
        try:
            up.send_signal(signal.SIGTERM)
            async with asyncio.timeout(LIMIT_SECONDS):
                assert await up.wait() == 0
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def _up(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with (folder / "up.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "adapters.cli", "up", "--data-dir", str(folder / "data")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=environment(),
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
