"""Routes of migrations: plan, apply, watch, cancel, roll back."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from adapters.http.asking import Asking, OpenedService, Single
from adapters.http.documents import (
    Application,
    MigrationDocument,
    MigrationPage,
    OldSideDocument,
    OperationPage,
    PlanDocument,
    Reason,
)
from adapters.http.idempotency import required_key
from adapters.http.problems import described
from adapters.http.reading import (
    page_of_migrations,
    page_of_operations,
    read_migration,
    read_old_sides,
)
from adapters.http.specs import JSON_TYPE, YAML_TYPES, SpecBody
from adapters.http.steering import (
    apply_once,
    cancel_once,
    plan_once,
    plan_only,
    roll_back_once,
)
from domain.model.migration import State

router = APIRouter(prefix="/v1/migrations", tags=["migrations"])

SPEC_EXAMPLE = {
    "version": 1,
    "name": "split-knowledge-base",
    "recipe": "per-domain-collections",
    "reason": "Domain isolation",
    "from": {
        "connection": "default",
        "table": "knowledge_base.sources",
        "store": "default",
        "collections": {"documents": "shared_docs", "code": "shared_code"},
    },
    "to": {"store": "default"},
}

_SPEC: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A spec. `/capabilities` has the JSON Schema of each recipe.",
        "content": {
            kind: {"schema": {"$ref": "#/components/schemas/Spec"}, "example": SPEC_EXAMPLE}
            for kind in (JSON_TYPE, YAML_TYPES[0])
        },
    }
}


def link_next(request: Request, response: Response, cursor: object) -> None:
    """Add the Link header (RFC 8288) of the next page, if there is one."""
    if cursor is not None:
        url = request.url.include_query_params(after=cursor)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'


@router.post(
    "",
    status_code=201,
    summary="Plan a migration",
    dependencies=[Depends(required_key)],
    responses={
        200: {"model": PlanDocument, "description": "The plan of a dry run."},
        **described(400, 404, 409, 413, 415, 422, 503),
    },
    openapi_extra=_SPEC,
)
async def plan(
    document: SpecBody,
    caller: Asking,
    once: Single,
    response: Response,
    *,
    dry_run: Annotated[bool, Query(description="Plan without recording anything.")] = False,
    apply: Annotated[bool, Query(description="Start it too.")] = False,
) -> PlanDocument:
    """Check a spec, inspect the stores, and record the plan with its id and hash.

    A spec that is under way or completed keeps its migration and plan; one that was undone starts
    another attempt. A dry run records nothing, and does not use the key up.
    """
    if dry_run:
        response.status_code = 200
        return await plan_only(once, caller, document)
    planned = await plan_once(once, caller, document, start=apply)
    response.headers["Location"] = f"{router.prefix}/{planned.id}"
    return planned


@router.get("", summary="List migrations", responses=described(422, 503))
async def page(
    service: OpenedService,
    request: Request,
    response: Response,
    *,
    limit: Annotated[int, Query(ge=1, le=500, description="At most so many.")] = 50,
    after: Annotated[str, Query(max_length=100, description="`next` of the last page.")] = "",
    state: Annotated[State | None, Query(description="Only those in this state.")] = None,
) -> MigrationPage:
    """Migrations in the order of their ids, as the read model has them.

    A migration that was recorded a moment ago may not be listed yet; its own address has it.
    """
    found = await page_of_migrations(service, after=after, limit=limit, state=state)
    link_next(request, response, found.next)
    return found


@router.get("/{migration}", summary="Watch a migration", responses=described(404, 422, 503))
async def show(migration: UUID, service: OpenedService) -> MigrationDocument:
    """A migration with its progress; it always has what was recorded before the request."""
    return await read_migration(service, migration)


@router.get(
    "/{migration}/old-sides",
    summary="See how warm the old side is",
    responses=described(404, 422, 503),
)
async def show_old_sides(migration: UUID, service: OpenedService) -> list[OldSideDocument]:
    """The collections that a completed migration keeps up to date, and how far they are behind.

    Where nothing is behind, a rollback has nothing to carry back.
    """
    return await read_old_sides(service, migration)


@router.post(
    "/{migration}/apply",
    status_code=202,
    summary="Apply a migration",
    dependencies=[Depends(required_key)],
    responses=described(400, 404, 409, 413, 422, 503),
)
async def apply_plan(
    migration: UUID, asked: Application, caller: Asking, once: Single
) -> MigrationDocument:
    """Let workers run exactly the plan with this hash, or go on after a failure.

    A stale plan is refused with what has changed since. A migration that runs, or is completed,
    stays as it is.
    """
    return await apply_once(once, caller, migration, asked)


@router.post(
    "/{migration}/cancel",
    status_code=202,
    summary="Cancel a migration",
    dependencies=[Depends(required_key)],
    responses=described(400, 404, 409, 413, 422, 503),
)
async def cancel(migration: UUID, asked: Reason, caller: Asking, once: Single) -> MigrationDocument:
    """Give up a migration that is not completed; what it did is undone."""
    return await cancel_once(once, caller, migration, asked)


@router.post(
    "/{migration}/rollback",
    status_code=202,
    summary="Roll a migration back",
    dependencies=[Depends(required_key)],
    responses=described(400, 404, 409, 413, 422, 503),
)
async def roll_back(
    migration: UUID, asked: Reason, caller: Asking, once: Single
) -> MigrationDocument:
    """Undo a migration, completed or not; writes that came later are kept."""
    return await roll_back_once(once, caller, migration, asked)


@router.get(
    "/{migration}/operations",
    summary="List what was done",
    responses=described(404, 422, 503),
)
async def operations(
    migration: UUID,
    service: OpenedService,
    request: Request,
    response: Response,
    *,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
    after: Annotated[int, Query(ge=0, description="`next` of the last page.")] = 0,
) -> OperationPage:
    """Who did what for a migration, when and why, in the order of the ledger."""
    found = await page_of_operations(service, migration, after=after, limit=limit)
    link_next(request, response, found.next)
    return found
