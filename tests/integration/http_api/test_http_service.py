"""Health, problems, the OpenAPI document and the process."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from adapters.http.app import create_app, openapi_document
from adapters.http.envelope import BODY_LIMIT
from adapters.settings import Settings
from domain.model.errors import Corrupt, LedgerError
from domain.model.recipes import RECIPES
from tests.e2e.program import environment
from tests.integration.http_api.asking import (
    PROBLEM,
    get_once,
    key,
    refused,
)

pytestmark = pytest.mark.broker

REPOSITORY = Path(__file__).parents[3]


class TestService:
    async def test_health_says_version_and_uptime(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/health")
        assert answer.status_code == HTTPStatus.OK
        assert answer.json()["version"]
        assert answer.json()["uptime_seconds"] >= 0

    async def test_ready_when_everything_answers(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/ready")
        assert answer.status_code == HTTPStatus.OK, answer.text
        assert answer.json()["checked"] == ["database", "schema", "kafka", "qdrant", "objects"]

    async def test_not_ready_names_just_what_is_missing(self, settings: Settings) -> None:
        gone = replace(settings, kafka_bootstrap="127.0.0.1:1", qdrant_url="http://127.0.0.1:1")
        answer = await get_once(gone, "/ready")
        found = refused(answer, 503, "not-ready")
        assert sorted(found["missing"]) == ["kafka", "qdrant"]
        assert int(answer.headers["retry-after"]) > 0

    async def test_an_old_schema_is_not_ready_and_the_process_lives(
        self, settings: Settings, empty_database: str
    ) -> None:
        old = replace(settings, database_url=empty_database)
        found = refused(await get_once(old, "/ready"), 503, "not-ready")
        assert found["missing"].keys() == {"schema"}
        assert "db upgrade" in found["missing"]["schema"]
        assert (await get_once(old, "/health")).status_code == HTTPStatus.OK
        answer = await get_once(old, "/v1/migrations")
        refused(answer, 503, "unavailable")
        assert "retry-after" in answer.headers

    async def test_capabilities_have_recipes_and_no_secrets(
        self, api: httpx.AsyncClient, settings: Settings
    ) -> None:
        answer = await api.get("/capabilities")
        found = answer.json()
        specs = {recipe["name"]: recipe["spec"] for recipe in found["recipes"]}
        assert specs.keys() == RECIPES.keys()
        assert "from" in specs["per-domain-collections"]["properties"]
        assert "flow" in found["step_kinds"]
        [store] = found["stores"]
        assert (store["name"], store["reachable"]) == ("default", True)
        assert store["version"]
        assert [one["name"] for one in found["servers"]] == [
            *("database", "kafka", "qdrant", "objects")
        ]
        for url in (settings.database_url, settings.qdrant_url, settings.kafka_bootstrap):
            assert url is not None
            assert url not in answer.text


class TestProblems:
    async def test_an_unknown_path_is_a_problem_too(self, api: httpx.AsyncClient) -> None:
        refused(await api.get("/v2"), 404, "not-found")
        answer = await api.delete("/v1/migrations")
        refused(answer, 405, "method-not-allowed")
        assert answer.headers["allow"]

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_a_body_beyond_the_limit_is_refused(
        self, api: httpx.AsyncClient, *, chunked: bool
    ) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(BODY_LIMIT // 1024 + 1):
                yield b" " * 1024

        body: Any = chunks() if chunked else b" " * (BODY_LIMIT + 1)
        answer = await api.post("/v1/migrations", content=body, headers=key())
        refused(answer, 413, "content-too-large")

    @pytest.mark.parametrize(
        ("error", "status", "shown"),
        [
            (Corrupt("event 7 is not what was recorded"), 500, "event 7"),
            (LedgerError("inner secret"), 500, "log of the server"),
            (RuntimeError("inner secret"), 500, "log of the server"),
        ],
    )
    async def test_no_internals_leave_the_process(
        self,
        settings: Settings,
        error: Exception,
        status: int,
        shown: str,
    ) -> None:
        app = create_app(settings)

        @app.get("/broken")
        async def broken() -> None:
            raise error

        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://api.test") as client,
        ):
            answer = await client.get("/broken")
        assert answer.status_code == status
        assert shown in answer.json()["detail"]
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        assert answer.headers["x-request-id"] == answer.json()["request_id"]

    async def test_a_strange_request_id_is_replaced(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/health", headers={"X-Request-Id": "a b\tc"})
        assert answer.headers["x-request-id"] != "a b\tc"
        assert answer.headers["cache-control"] == "no-store"

    async def test_an_unprintable_actor_is_refused(self, api: httpx.AsyncClient) -> None:
        headers = {**key(), "X-Actor": " "}
        answer = await api.post("/v1/migrations", json={}, headers=headers)
        refused(answer, 400, "rejected")


class TestOpenApi:
    async def test_it_is_served(self, api: httpx.AsyncClient) -> None:
        found = (await api.get("/openapi.json")).json()
        assert found["info"]["title"] == "Migration Ledger"

    def test_the_published_document_is_that_of_the_code(self, settings: Settings) -> None:
        published = (REPOSITORY / "docs" / "reference" / "openapi.json").read_bytes()
        assert openapi_document(settings) == published, (
            "write it anew: python -m adapters.http --print-openapi > docs/reference/openapi.json"
        )

    def test_every_operation_is_described_and_every_reference_leads_somewhere(
        self, settings: Settings
    ) -> None:
        document = orjson.loads(openapi_document(settings))
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                assert operation["summary"], (path, method)
                assert operation["description"], (path, method)
                for status, answer in operation["responses"].items():
                    kinds = set(answer["content"])
                    assert kinds == {PROBLEM if int(status) >= 400 else "application/json"}
                named = {p["name"]: p for p in operation.get("parameters", [])}
                if method == "post":
                    assert "Idempotency-Key" in named, path
        specs = document["components"]["schemas"]["Spec"]["oneOf"]
        assert len(specs) == len(RECIPES)
        for reference in references(document):
            assert (
                reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
            )


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


class TestProcess:
    def test_it_says_where_it_listens_and_stops_when_asked(self, settings: Settings) -> None:
        environment = {
            "MIGRATION_LEDGER_DATABASE_URL": settings.database_url or "",
            "MIGRATION_LEDGER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap or "",
            "MIGRATION_LEDGER_QDRANT_URL": settings.qdrant_url or "",
            "MIGRATION_LEDGER_HTTP_PORT": "0",
        }
        with subprocess.Popen(
            [sys.executable, "-m", "adapters.http", "--data-dir", str(settings.data_dir)],
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            address = next(
                found[0]
                for line in process.stderr
                if (found := re.search(r"http://127\.0\.0\.1:[0-9]+", line))
            )
            answer = httpx.get(f"{address}/v1/migrations")
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
        assert answer.json() == {"items": [], "next": None}
        assert process.returncode == 0, rest
        assert "Traceback" not in rest

    def test_settings_that_are_wrong_are_misuse(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "adapters.http", "--port", "x", "--data-dir", str(tmp_path)],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert "http_port" in done.stderr
