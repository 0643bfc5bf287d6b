"""Every call to Qdrant takes two seconds: work is slow, and nothing else."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.embedded.stack import start_servers
from adapters.embedded.supervisor import Supervisor
from tests.e2e.application import Application, build, write_spec
from tests.e2e.program import Up, running, until_says
from tests.grpc_front import GrpcFront

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), pytest.mark.xdist_group("slow store")]

DELAY = 2.0
POINTS = 1500
BATCH = 500
TARGETS = 3
PATIENCE_SECONDS = 300
TROUBLE = ("lease_lost", "lane_waits", "range_failed", "no answer within", "step_failed")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[str]:
    async with Supervisor(tmp_path / "node") as supervisor:
        endpoints = await start_servers(supervisor, {"qdrant"})
        assert endpoints.qdrant_url is not None
        yield endpoints.qdrant_url


@pytest.fixture
async def front(node: str, tmp_path: Path) -> AsyncIterator[GrpcFront]:
    """The store that `up` in this folder uses."""
    async with GrpcFront(node, delay=DELAY) as front:
        settings = f'embed = "database,kafka"\nqdrant_url = "{front.url}"\n'
        (tmp_path / "migration-ledger.toml").write_text(settings)
        yield front


async def ended(process: asyncio.subprocess.Process) -> str:
    """What a command wrote, which must do what it should."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def logs(up: Up) -> str:
    return "".join(path.read_text() for path in (up.data_dir / "logs").glob("worker-*.log"))


def spec_of_documents(application: Application, folder: Path) -> Path:
    only = {
        "connection": "default",
        "table": application.table,
        "store": "default",
        "collections": {"documents": application.shared["documents"]},
    }
    return write_spec(application, folder, batch={"size": BATCH}, **{"from": only})


async def test_a_migration_completes_and_is_taken_back(
    front: GrpcFront, node: str, tmp_path: Path
) -> None:
    async with running(tmp_path) as up:
        application = await build("a", up.url("database"), node, points=POINTS)
        await application.execute(
            f"UPDATE {application.table} SET enabled_collections = ARRAY['documents']"  # noqa: S608
        )
        before, names = await application.snapshot(), await application.names()
        front.calls.clear()
        spec = spec_of_documents(application, tmp_path)
        await ended(await up.start("apply", str(spec), "--yes"))
        calls = Counter(front.calls)
        assert len(await application.collections()) == 2 + TARGETS
        migration = (await up.run("migration", "list", "--json")).document["id"]
        rollback = await up.start("rollback", migration, "--yes", "--reason", "a test")
        await until_says(rollback, "step compensated")
        rollback.kill()
        await rollback.wait()
        said = logs(up)
    # SIGTERM in the middle has ended it in time.

    async with running(tmp_path) as up:
        await ended(await up.start("watch", migration))
        assert await application.snapshot() == before
        assert await application.names() == names
        assert await application.collections() == set(application.shared.values())
        await application.qdrant.close()
        said += logs(up)
    assert [one for one in TROUBLE if one in said] == []
    assert calls["Collections/Create"] == TARGETS
    # A range gives each target a change set; small ones are written together.
    assert calls["Points/Upsert"] <= TARGETS * -(-POINTS // BATCH), "nothing is written twice"
