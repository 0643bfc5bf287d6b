"""What the tests of the HTTP API ask with, and what they look for."""

from typing import Any
from uuid import uuid4

import httpx

from adapters.bootstrap import Service
from adapters.http.app import create_app
from adapters.settings import Settings
from domain.model.aggregate import Actor, Context
from domain.model.generation import Generation
from domain.model.schema import CollectionSchema, Distance, VectorKind, VectorSpec
from domain.use_cases.project import rebuild
from projections import PROJECTIONS

WORKER = Context(Actor("coordinator", "service"))
SCHEMA = CollectionSchema({"": VectorSpec(VectorKind.DENSE, 4, Distance.COSINE)})
PROBLEM = "application/problem+json"


async def add_source(connection: Any, title: str) -> None:
    await connection.execute(
        "INSERT INTO public.sources VALUES ($1, $2, '{documents}')", uuid4(), title
    )


def key(name: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": name or str(uuid4())}


async def planned(api: httpx.AsyncClient, spec: dict[str, Any], **query: Any) -> dict[str, Any]:
    answer = await api.post("/v1/migrations", json=spec, params=query, headers=key())
    assert answer.status_code in {200, 201}, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def projected(service: Service) -> None:
    for projection in PROJECTIONS:
        await rebuild(service.ledger, service.views, projection)


def refused(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    found: dict[str, Any] = answer.json()
    assert found["type"] == f"urn:migration-ledger:problem:{kind}"
    assert found["status"] == status
    assert found["instance"] == answer.request.url.path
    assert found["title"]
    assert found["detail"]
    assert found["request_id"] == answer.headers["x-request-id"]
    return found


async def get_once(settings: Settings, path: str) -> httpx.Response:
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api.test") as client,
    ):
        return await client.get(path)


def generation(physical: str = "docs__g1") -> Generation:
    return Generation(
        collection="docs",
        store="default",
        physical=physical,
        number=1,
        schema=SCHEMA.to_json(),
        origin="created",
    )
