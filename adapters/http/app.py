"""The application: routes over a service, errors as problem details, one OpenAPI document.

It has no roles yet: whoever reaches it may do everything, and `X-Actor` is recorded as it comes.
So it listens on the loopback interface unless it is told otherwise; put a proxy that knows its
users in front of it before you open it further.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from adapters.bootstrap import open_service
from adapters.http import collections, health, migrations, points, versions
from adapters.http.answers import OrjsonResponse
from adapters.http.connecting import Connection
from adapters.http.envelope import Envelope
from adapters.http.health import VERSION
from adapters.http.problems import MEDIA_TYPE, handle_problems
from adapters.settings import Settings
from domain.model.recipes import RECIPES

FIRST_FAILURE = 400
_SCHEMAS = "#/components/schemas/"

TAGS = [
    {"name": "migrations", "description": "Plan, apply, watch, cancel and roll back."},
    {"name": "collections", "description": "What the ledger looks after, and whether it is so."},
    {"name": "points", "description": "Write them: recorded first, then stored."},
    {"name": "service", "description": "Whether it is alive and ready, and what it can do."},
]


def create_app(settings: Settings) -> FastAPI:
    """The API over the service that these settings describe.

    The application opens the service when it starts, and again until that succeeds; it answers 503
    in the meantime.
    """
    connection = Connection(lambda: open_service(settings))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with connection.held():
            yield

    app = FastAPI(
        title="Migration Ledger",
        version=VERSION,
        description=(
            "Declare a migration of a vector store, see its plan, apply it, watch it, and take it "
            "back. Errors are problem details (RFC 9457). Every POST takes an Idempotency-Key."
        ),
        openapi_tags=TAGS,
        default_response_class=OrjsonResponse,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.connection = connection
    app.state.settings = settings
    app.add_middleware(Envelope)
    handle_problems(app)
    for part in (migrations, collections, points, versions, health):
        app.include_router(part.router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's way to do it
    return app


def openapi_document(settings: Settings) -> bytes:
    """The OpenAPI document as it is published; no server is needed, the same code the same bytes.

    Args:
        settings: any; nothing of them is in the document.
    """
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(create_app(settings).openapi(), option=options)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            tags=app.openapi_tags,
            routes=app.routes,
        )
        _say_problems(document)
        document["components"]["schemas"] |= _spec_schemas()
        app.openapi_schema = document
    return app.openapi_schema


def _say_problems(document: dict[str, Any]) -> None:
    """Failures are answered with the media type of problem details."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) >= FIRST_FAILURE:
                    answer["content"] = {MEDIA_TYPE: answer["content"]["application/json"]}


def _spec_schemas() -> dict[str, Any]:
    """A schema for each recipe's spec, and `Spec`, which is one of them.

    Sections of different specs may have the same name, so theirs have the spec's before it.
    """
    schemas: dict[str, Any] = {}
    for recipe in RECIPES.values():
        name = recipe.spec.__name__
        template = f"{_SCHEMAS}{name}.{{model}}"
        schema = recipe.spec.model_json_schema(by_alias=True, ref_template=template)
        sections = schema.pop("$defs", {})
        schemas |= {f"{name}.{section}": of for section, of in sections.items()}
        schemas[name] = schema
    names = sorted(recipe.spec.__name__ for recipe in RECIPES.values())
    schemas["Spec"] = {"title": "Spec", "oneOf": [{"$ref": _SCHEMAS + name} for name in names]}
    return schemas
