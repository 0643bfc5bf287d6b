"""Routes of versions: what a collection was, noted so that people can return to it."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from adapters.bootstrap import DEFAULT
from adapters.http.asking import Asking, OpenedService, Single
from adapters.http.collections import StoreName
from adapters.http.idempotency import required_key
from adapters.http.migrations import link_next
from adapters.http.problems import described
from domain.model.aggregate import stream_id
from domain.use_cases.list_versions import list_versions, with_details
from domain.use_cases.versions import labelled_version, tag_version

router = APIRouter(prefix="/v1/collections/{name}/versions", tags=["collections"])


class NotedVersion(BaseModel):
    """A collection at a position."""

    collection: str = Field(description="Logical name.")
    store: str
    physical: str = Field(description="Name in the store.")
    generation: UUID
    through: int = Field(description="Version of the generation's stream.")
    position: int = Field(description="Of that event in the ledger.")
    label: str = Field(description="What people call it; empty unless it was tagged.")
    points: int
    digest: str = Field(description="SHA-256 over its sorted (id, hash), hexadecimal.")


class VersionDocument(NotedVersion):
    """A version, and whether it can still be rebuilt."""

    id: UUID
    occasion: str = Field(description="Why it was noted.")
    migration: str = Field(description="That ended there; empty if it was tagged.")
    at: datetime = Field(description="When that position was recorded.")
    noted_at: datetime
    actor: str = Field(description="Who had it noted.")
    reason: str
    vectors: dict[str, Any] = Field(description="By name; the unnamed one is empty.")
    indexes: dict[str, Any] = Field(description="Payload field to its index.")
    not_rebuildable: str | None = Field(
        description="Why it cannot be rebuilt exactly; null if it can."
    )


class VersionPage(BaseModel):
    """Some versions, oldest position first."""

    items: list[VersionDocument]
    next: str | None = Field(description="`after` of the next page; null on the last one.")


class Tag(BaseModel):
    """A label for a version."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"label": "before clean-up"}}
    )

    label: str = Field(max_length=200, description="Unique for the collection.")
    at: str | None = Field(
        default=None, max_length=200, description="Position or ISO 8601 time; the last by default."
    )
    reason: str = Field(default="", max_length=2000, description="Why; it is recorded.")


@router.get("", summary="List versions", responses=described(404, 422, 503))
async def page(
    name: str,
    service: OpenedService,
    request: Request,
    response: Response,
    *,
    store: StoreName = DEFAULT,
    limit: Annotated[int, Query(ge=1, le=200, description="At most so many.")] = 50,
    after: Annotated[str, Query(max_length=100, description="`next` of the last page.")] = "",
) -> VersionPage:
    """The versions of a collection that migrations and people noted, and which can be rebuilt."""
    noted = await list_versions(service.tools, service.views, store, name)
    seen = [number for number, version in enumerate(noted, 1) if version["id"] == after]
    following = noted[seen[0] if seen else 0 :]
    shown = await with_details(service.tools, following[:limit])
    last = shown[-1]["id"] if len(following) > limit else None
    link_next(request, response, last)
    return VersionPage(
        items=[VersionDocument.model_validate({**one, **one["schema"]}) for one in shown],
        next=last,
    )


@router.post(
    "",
    status_code=201,
    summary="Label a version",
    dependencies=[Depends(required_key)],
    responses=described(400, 404, 409, 413, 422, 503),
)
async def tag(
    name: str, asked: Tag, caller: Asking, once: Single, store: StoreName = DEFAULT
) -> NotedVersion:
    """Give a version of a collection a label; the same again changes nothing."""
    await once.claim()
    tools, subject = once.service.tools, stream_id("label", store, name, asked.label)
    version = await labelled_version(tools, store, name, asked.label)
    if version is None or not await once.answered(subject):
        context = caller.context(asked.reason)
        version = await tag_version(tools, store, name, asked.label, asked.at, context)
        await once.finish(subject, context)
    return NotedVersion.model_validate(vars(version))
