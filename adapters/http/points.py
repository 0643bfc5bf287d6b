"""Routes of live writes: points of an application, recorded before they are stored."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from adapters.bootstrap import DEFAULT, Service
from adapters.http.asking import Asking, Single
from adapters.http.collections import StoreName
from adapters.http.idempotency import required_key
from adapters.http.problems import described
from domain.model.canonical import keys_of, payloads_of, points_of
from domain.model.errors import Conflict, InvalidPoint, Unavailable
from domain.model.schema import CollectionSchema
from domain.use_cases.wait_applied import Wait, wait_applied
from domain.use_cases.write_points import (
    Delete,
    SetPayload,
    Upsert,
    Write,
    Written,
    open_live,
)

router = APIRouter(prefix="/v1/collections/{name}/points", tags=["points"])

READABLE_SECONDS = 10.0
"""How long a request waits for appliers, at most."""

MOST_POINTS = 10_000
_OK, _ACCEPTED = 200, 202


class WriteDocument(BaseModel):
    """A write that is recorded."""

    generation: UUID = Field(description="That it went to.")
    position: int = Field(description="Of its event in the ledger.")
    through: int = Field(
        description="Version of the generation's stream; applied up to it, it is readable."
    )
    points: int = Field(description="That it named.")
    upserted: int = Field(description="New or changed by it.")
    deleted: int
    unchanged: int = Field(description="As it says already.")
    repeated: bool = Field(description="Whether this is the first answer, to a repeated request.")
    readable: bool = Field(description="Whether the store is known to have it.")


Waiting = Annotated[
    Wait,
    Query(
        description="Answer when it is recorded durably, or when searches find it in the store. "
        "When that takes too long the answer is 202, and the write is recorded."
    ),
]
Reason = Annotated[str, Query(max_length=2000, description="Why; it is recorded.")]

_ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {"model": WriteDocument, "description": "It is recorded, and not readable yet."},
    **described(400, 404, 409, 413, 422, 503),
}


def _body(member: str, item: dict[str, Any], example: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": [member],
        "properties": {member: {"type": "array", "items": item, "maxItems": MOST_POINTS}},
    }
    content = {"application/json": {"schema": schema, "example": {member: [example]}}}
    return {"requestBody": {"required": True, "content": content}}


_ID = {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "format": "uuid"}]}
_POINT = {
    "type": "object",
    "required": ["id", "vector"],
    "properties": {
        "id": _ID,
        "payload": {"type": "object"},
        "vector": {
            "description": "A list of numbers, or an object with one vector for each name. A "
            "multi-vector is a list of lists, a sparse one has `indices` and `values`."
        },
    },
}
_FIELDS = {
    "type": "object",
    "required": ["id", "payload"],
    "properties": {"id": _ID, "payload": {"type": "object"}},
}


class Writing:
    """A request that writes points, with what all of them have."""

    def __init__(
        self,
        name: str,
        request: Request,
        response: Response,
        caller: Asking,
        once: Single,
        *,
        store: StoreName = DEFAULT,
        wait: Waiting = Wait.DURABLE,
        reason: Reason = "",
    ) -> None:
        self._name = name
        self._request = request
        self._response = response
        self._caller = caller
        self._once = once
        self._store = store
        self._wait = wait
        self._reason = reason

    async def carry_out(
        self, member: str, make: Callable[[list[Any], CollectionSchema], Write]
    ) -> WriteDocument:
        """Record the write, and wait for what was asked for.

        Args:
            member: of the body, that has the points.
            make: makes a write of them.

        Raises:
            InvalidPoint: the body is not what it should be.
        """
        service = self._once.service
        live = await open_live(service.tools, self._store, self._name)
        body = await self._request.body()
        write = await asyncio.to_thread(lambda: make(_items(body, member), live.schema))
        await self._once.claim()
        context = self._caller.context(self._reason)
        written = await live.write(write, self._once.part("points"), context)
        readable = False
        if self._wait is Wait.READABLE:
            readable = await _readable(service, written)
            self._response.status_code = _OK if readable else _ACCEPTED
        return WriteDocument(
            generation=written.generation,
            position=written.position,
            through=written.through,
            points=written.given,
            upserted=written.upserts,
            deleted=written.deletes,
            unchanged=written.unchanged,
            repeated=written.repeated,
            readable=readable,
        )


Asked = Annotated[Writing, Depends(Writing)]


@router.post(
    "",
    summary="Upsert points",
    dependencies=[Depends(required_key)],
    responses=_ANSWERS,
    openapi_extra=_body(
        "points", _POINT, {"id": 7, "payload": {"source_id": "1"}, "vector": [0.1, 0.2, 0.3]}
    ),
)
async def upsert(asked: Asked) -> WriteDocument:
    """Write whole points: new, or in place of those with the same ids. All of them, or none."""
    return await asked.carry_out("points", lambda found, schema: Upsert(points_of(schema, found)))


@router.post(
    "/delete",
    summary="Delete points",
    dependencies=[Depends(required_key)],
    responses=_ANSWERS,
    openapi_extra=_body("ids", _ID, 7),
)
async def delete(asked: Asked) -> WriteDocument:
    """Delete points; that ids which are not there were asked for is recorded, too."""
    return await asked.carry_out("ids", lambda found, _: Delete(keys_of(found)))


@router.post(
    "/payload",
    summary="Set payload fields",
    dependencies=[Depends(required_key)],
    responses=_ANSWERS,
    openapi_extra=_body("points", _FIELDS, {"id": 7, "payload": {"read": True}}),
)
async def set_payload(asked: Asked) -> WriteDocument:
    """Set fields of payloads; other fields and the vectors stay. Unknown ids are refused."""
    return await asked.carry_out("points", lambda found, _: SetPayload(payloads_of(found)))


def _items(body: bytes, member: str) -> list[Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidPoint(f"the body is not JSON: {error}") from error
    items = document.get(member) if isinstance(document, dict) else None
    if not isinstance(items, list) or not items or len(document) > 1:
        raise InvalidPoint(f"the body must be an object with a list {member!r} and nothing else")
    if len(items) > MOST_POINTS:
        raise InvalidPoint(f"a write has {MOST_POINTS:,} points at most, not {len(items):,}")
    return items


async def _readable(service: Service, written: Written) -> bool:
    """Whether the store has a write, in time; whatever stands in the way, it is recorded."""
    try:
        async with asyncio.timeout(READABLE_SECONDS):
            await wait_applied(service.tools, written.generation, written.through)
    except (TimeoutError, Conflict, Unavailable):
        return False
    return True
