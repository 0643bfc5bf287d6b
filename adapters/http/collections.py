"""Routes of collections: what the ledger says of them, and whether a store has just that."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from adapters.bootstrap import DEFAULT
from adapters.http.asking import Asking, OpenedService, Single
from adapters.http.generations import (
    CollectionDocument,
    GenerationPage,
    RepairDocument,
    Repairing,
    VerificationDocument,
    page_of_generations,
    read_collection,
    repair_once,
    verify_named,
)
from adapters.http.idempotency import required_key
from adapters.http.migrations import link_next
from adapters.http.problems import described

router = APIRouter(prefix="/v1/collections", tags=["collections"])

StoreName = Annotated[str, Query(max_length=200, description="Vector store by its name.")]

_verifying = asyncio.Semaphore(2)
"""A verification reads every point of a collection; a few at a time leave room for the rest."""


@router.get("", summary="List collections", responses=described(422, 503))
async def page(
    service: OpenedService,
    request: Request,
    response: Response,
    *,
    limit: Annotated[int, Query(ge=1, le=500, description="At most so many.")] = 50,
    after: Annotated[str, Query(max_length=100, description="`next` of the last page.")] = "",
) -> GenerationPage:
    """Every generation of every collection, with how far it is recorded and applied."""
    found = await page_of_generations(service, after=after, limit=limit)
    link_next(request, response, found.next)
    return found


@router.get("/{name}", summary="Show a collection", responses=described(404, 422, 503))
async def show(name: str, service: OpenedService, store: StoreName = DEFAULT) -> CollectionDocument:
    """A collection by its name in the store or an alias: as the ledger and the store have it."""
    return await read_collection(service, store, name)


@router.get(
    "/{name}/verify", summary="Verify a collection", responses=described(404, 409, 422, 503)
)
async def verify(
    name: str, service: OpenedService, store: StoreName = DEFAULT
) -> VerificationDocument:
    """Compare every point of a collection with the ledger, bit for bit.

    It is a GET although it costs a scan: it changes and records nothing, so it is safe and may be
    repeated (RFC 9110 §9.2), and an idempotency key would protect nothing. Two run at a time.
    """
    async with _verifying:
        return await verify_named(service, store, name)


@router.post(
    "/{name}/repair",
    status_code=202,
    summary="Repair a collection",
    dependencies=[Depends(required_key)],
    responses=described(400, 404, 409, 413, 422, 503),
)
async def repair(
    name: str, asked: Repairing, caller: Asking, once: Single, store: StoreName = DEFAULT
) -> RepairDocument:
    """Record what puts right just the points and indexes that are not as recorded.

    Nothing is recorded where nothing differs, so the same request again is safe: it finds what is
    left.
    """
    async with _verifying:
        return await repair_once(once, caller, store, name, asked)
