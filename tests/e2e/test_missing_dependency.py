"""`/ready` and `doctor` name the dependency that is missing, also when it hangs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.embedded import broker, postgres, qdrant_node
from adapters.http.app import create_app
from adapters.settings import Settings, load_settings
from tests.e2e.program import run
from tests.e2e.world import PATIENCE_SECONDS, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240), pytest.mark.xdist_group("missing")]

SERVED = {postgres.NAME: "database", broker.NAME: "kafka", qdrant_node.NAME: "qdrant"}
FEW_SECONDS = 8
UNREACHABLE = 3


@asynccontextmanager
async def _api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api.test") as client,
    ):
        yield client


async def _missing(api: httpx.AsyncClient) -> dict[str, str]:
    """What `/ready` says is missing, and why."""
    async with asyncio.timeout(FEW_SECONDS):
        answer = await api.get("/ready")
    if answer.status_code == httpx.codes.OK:
        return {}
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
    missing: dict[str, str] = answer.json()["missing"]
    return missing


async def _doctor(data_dir: Path, *options: str) -> set[str]:
    """What `doctor` cannot reach."""
    found = await run("doctor", "--json", "--data-dir", str(data_dir), *options, folder=data_dir)
    unreachable = {
        name
        for name, state in found.document.items()
        if name in {"database", "schema", "kafka", "qdrant", "objects"} and not state["reachable"]
    }
    if unreachable:
        assert found.status == UNREACHABLE
    return unreachable


def _settings(folder: Path, **given: str) -> Settings:
    return load_settings({"data_dir": str(folder), **given}, {}, folder)


async def test_a_server_that_hangs_is_named_and_no_other(tmp_path: Path) -> None:
    async with world(tmp_path, proxied=False) as found, _api(_settings(found.data_dir)) as api:
        assert await _missing(api) == {}
        for server, name in SERVED.items():
            found.stop_servers({server})
            assert (await _missing(api)).keys() == {name}
            with_schema = {name, "schema"} if name == "database" else {name}
            assert await _doctor(found.data_dir) == with_schema
            found.continue_servers({server})
        assert await _missing(api) == {}


async def test_servers_that_are_gone_are_named_one_beside_the_other(tmp_path: Path) -> None:
    async with world(tmp_path, proxied=False) as found, _api(_settings(found.data_dir)) as api:
        gone = set()
        for server, name in sorted(SERVED.items(), key=lambda one: one[1], reverse=True):
            found.kill_servers({server})
            gone.add(name)
            missing = await _missing(api)
            assert missing.keys() == gone
            assert all(missing.values())
        assert await _doctor(found.data_dir) == {*gone, "schema"}


async def test_an_api_that_starts_without_a_database_names_what_else_is_missing(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, proxied=False) as found:
        found.stop_servers({postgres.NAME})
        found.kill_servers({broker.NAME})
        async with _api(_settings(found.data_dir)) as api:
            assert (await _missing(api)).keys() == {"database", "kafka"}
            assert (await api.get("/health")).status_code == httpx.codes.OK


async def test_object_storage_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    async with world(tmp_path, proxied=False) as found, _api(_settings(found.data_dir)) as api:
        assert await _missing(api) == {}
        folder = found.data_dir / "objects"
        folder.rename(found.data_dir / "elsewhere")
        folder.touch()
        assert (await _missing(api)).keys() == {"objects"}
        assert await _doctor(found.data_dir) == {"objects"}


async def test_a_bucket_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = asyncio.Event()

    async def hang(_reader: Any, writer: asyncio.StreamWriter) -> None:
        heard.set()
        try:
            await asyncio.sleep(FEW_SECONDS)
        finally:
            writer.transport.abort()

    bucket = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = bucket.sockets[0].getsockname()[1]
    for name, value in {
        "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "here",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    async with world(tmp_path, proxied=False) as found, bucket:
        settings = _settings(found.data_dir, objects_url="s3://ledger")
        async with _api(settings) as api:
            assert await _missing(api) == {"objects": "no answer within 3 s"}
            assert heard.is_set()
        assert await _doctor(found.data_dir, "--objects-url", "s3://ledger") == {"objects"}


async def test_doctor_names_a_store_and_a_connection_of_the_settings_file(tmp_path: Path) -> None:
    async with world(tmp_path, proxied=False) as found:
        (found.data_dir / "migration-ledger.toml").write_text(
            """
            [connections.rag]
            url = "postgresql://rag@127.0.0.1:1/rag"
            [stores.staging]
            url = "http://127.0.0.1:1"
            """
        )
        here = ("--data-dir", str(found.data_dir))
        examined = await run("doctor", "--json", *here, folder=found.data_dir)
        shown = await run("doctor", *here, folder=found.data_dir)
    assert examined.status == UNREACHABLE
    assert "127.0.0.1:1" in examined.document["stores"]["staging"]["error"]
    assert "127.0.0.1:1" in examined.document["connections"]["rag"]["error"]
    assert examined.document["qdrant"]["reachable"]
    assert shown.status == UNREACHABLE
    assert "store staging" in shown.out
    assert "connection rag" in shown.out


async def test_the_check_of_a_worker_says_whether_it_lives_on_this_host(tmp_path: Path) -> None:
    check = ("worker", "--check", "--roles", "flow", "--data-dir", str(tmp_path / "servers"))
    async with world(tmp_path, proxied=False) as found:
        before = await run(*check, folder=tmp_path)
        assert before.status == 1
        assert "flow" in before.err + before.out
        await found.start_worker("flow", "flow")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await run(*check, folder=tmp_path)).status != 0:
                pass
        others = await run(*check[:3], "flow,relay", *check[4:], "--json", folder=tmp_path)
        assert (others.status, others.document["silent"]) == (1, ["relay"])
        found.stop_servers({postgres.NAME})
        assert (await run(*check, folder=tmp_path)).status == UNREACHABLE
