"""Routes for those who run the service: is it alive, is it ready, what can it do."""

import asyncio
import time
from importlib.metadata import version
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from adapters.bootstrap import DEFAULT
from adapters.dependencies import CHECK_SECONDS, check_dependencies, check_stores
from adapters.http.asking import Configured, Connected
from adapters.http.connecting import Connection
from adapters.http.problems import NotReady, described
from domain.model.errors import Halted, Unavailable
from domain.model.migration import State
from domain.model.plan import Phase, StepKind
from domain.model.recipes import RECIPES
from domain.use_cases.concurrently import side_by_side

router = APIRouter(tags=["service"])

VERSION = version("migration-ledger")
_STARTED = time.monotonic()


class Health(BaseModel):
    """The process is alive."""

    status: Literal["alive"] = "alive"
    version: str = Field(description="Of this program.", examples=["0.1.0"])
    uptime_seconds: float


class Ready(BaseModel):
    """Everything that the service needs answers."""

    status: Literal["ready"] = "ready"
    checked: list[str] = Field(description="What was asked.", examples=[["database", "kafka"]])


class RecipeDocument(BaseModel):
    """A kind of migration."""

    name: str
    spec: dict[str, Any] = Field(description="JSON Schema of its spec.")


class Server(BaseModel):
    """A server behind the service."""

    name: str
    embedded: bool = Field(description="Run by `up`, instead of configured.")
    reachable: bool
    version: str | None = Field(description="As the server says it; null where it says none.")


class Capabilities(BaseModel):
    """What the service can do, and with what."""

    version: str
    recipes: list[RecipeDocument]
    step_kinds: list[StepKind]
    phases: list[Phase]
    states: list[State]
    servers: list[Server]
    stores: list[Server] = Field(description="Vector stores by the names that specs use.")


@router.get("/health", summary="Is the process alive?")
async def health() -> Health:
    """Answers as long as the process runs, whatever else is away."""
    return Health(version=VERSION, uptime_seconds=round(time.monotonic() - _STARTED, 3))


@router.get("/ready", summary="Can it serve?", responses=described(503))
async def ready(settings: Configured, connection: Connected) -> Ready:
    """Asks database, schema, broker, default store and object storage; names those missing.

    A service whose work is halted is not ready either: it names the ledger, and says why.
    """
    checked = await check_dependencies(settings)
    missing = {one.name: one.failure for one in checked if one.failure is not None}
    if not missing.keys() & {"database", "schema"}:
        missing |= await _not_working(connection)
    if missing:
        raise NotReady(missing)
    return Ready(checked=[one.name for one in checked])


async def _not_working(connection: Connection) -> dict[str, str]:
    """Why the service cannot work although its database answers."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await connection.service.ledger.working()
    except Halted as error:
        return {"ledger": str(error)}
    except (Unavailable, TimeoutError) as error:
        return {"service": str(error) or f"no answer within {CHECK_SECONDS:g} s"}
    return {}


@router.get("/capabilities", summary="What can it do?")
async def capabilities(settings: Configured) -> Capabilities:
    """Recipes with the JSON Schema of their specs, and the servers; no address, no secret."""
    checked, named = await side_by_side(check_dependencies(settings), check_stores(settings))
    default = next(one for one in checked if one.name == "qdrant")
    stores = {DEFAULT: default} | {one.name: one for one in named}
    return Capabilities(
        version=VERSION,
        recipes=[
            RecipeDocument(name=name, spec=recipe.spec.model_json_schema(by_alias=True))
            for name, recipe in sorted(RECIPES.items())
        ],
        step_kinds=list(StepKind),
        phases=list(Phase),
        states=list(State),
        servers=[
            Server(
                name=one.name,
                embedded=one.name in settings.embedded,
                reachable=one.failure is None,
                version=one.version,
            )
            for one in checked
            if one.name != "schema"
        ],
        stores=[
            Server(
                name=name,
                embedded=name == DEFAULT and "qdrant" in settings.embedded,
                reachable=one.failure is None,
                version=one.version,
            )
            for name, one in sorted(stores.items())
        ],
    )
