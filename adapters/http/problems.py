"""What goes wrong, as problem details (RFC 9457): one shape for every error."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from adapters.http.answers import OrjsonResponse
from domain.model.errors import (
    Conflict,
    Corrupt,
    Halted,
    InvalidSpec,
    KeyReused,
    LedgerError,
    NotFound,
    PlanStale,
    Rejected,
    Unavailable,
    VersionConflict,
)

logger = logging.getLogger("migration_ledger.http")

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2

RENAMED = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Phrases of RFC 9110 where Python's depend on its version."""

KINDS: tuple[tuple[type[LedgerError], HTTPStatus, str, str], ...] = (
    (InvalidSpec, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-spec", "The spec cannot be planned"),
    (KeyReused, HTTPStatus.UNPROCESSABLE_ENTITY, "key-reused", "The key had another request"),
    (NotFound, HTTPStatus.NOT_FOUND, "not-found", "There is no such thing"),
    (Rejected, HTTPStatus.BAD_REQUEST, "rejected", "The request cannot be carried out"),
    (PlanStale, HTTPStatus.CONFLICT, "plan-stale", "The world has changed since the plan"),
    (VersionConflict, HTTPStatus.CONFLICT, "version-conflict", "Somebody else was faster"),
    (Conflict, HTTPStatus.CONFLICT, "conflict", "Something else happened first"),
    (Halted, HTTPStatus.SERVICE_UNAVAILABLE, "halted", "Work is halted until `recover`"),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "A server does not answer"),
    (Corrupt, HTTPStatus.INTERNAL_SERVER_ERROR, "corrupt", "Something recorded is not as it was"),
)
"""Class of an error, its status, the end of its type, its title; the first that fits counts."""


class Problem(BaseModel):
    """Problem details, RFC 9457 §3; some kinds have further members."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="A URN that names the kind.")
    title: str = Field(description="The kind in words, the same for each occurrence.")
    status: int = Field(description="The status of the answer.")
    detail: str = Field(description="What happened here, and the way out where there is one.")
    instance: str = Field(description="Path of the request.")
    request_id: str = Field(description="`X-Request-Id` of the request; logs have it too.")
    problems: list[str] | None = Field(
        default=None, description="A sentence for each thing that is wrong with the request."
    )


class NotReady(LedgerError):
    """Something that the service needs does not answer.

    Attributes:
        missing: what it is, and why.
    """

    def __init__(self, missing: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {why}" for name, why in missing.items()))
        self.missing = dict(missing)


def problem(
    request: Request,
    status: int,
    kind: str,
    title: str,
    detail: str,
    **members: Any,
) -> Response:
    """An answer with problem details.

    Args:
        request: that it answers.
        status: of the answer.
        kind: end of the type, such as ``not-found``.
        title: the kind in words.
        detail: what happened.
        members: further members; those that are None are left out.
    """
    document = {
        "type": f"urn:migration-ledger:problem:{kind}",
        "title": title,
        "status": int(status),
        "detail": detail,
        "instance": request.url.path,
        "request_id": request.state.request_id,
        **{name: value for name, value in members.items() if value is not None},
    }
    headers = {"X-Request-Id": request.state.request_id}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return OrjsonResponse(document, status_code=status, headers=headers, media_type=MEDIA_TYPE)


async def _ledger_error(request: Request, error: Exception) -> Response:
    known = next((kind for kind in KINDS if isinstance(error, kind[0])), None)
    if known is None:
        return await _unexpected(request, error)
    _, status, name, title = known
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.warning(
            "request_failed",
            extra={"path": request.url.path, "error": str(error), **_of(request)},
        )
    return problem(request, status, name, title, str(error), problems=_sentences(error))


def _sentences(error: Exception) -> list[str] | None:
    if isinstance(error, InvalidSpec):
        return list(error.problems)
    return list(error.drift) if isinstance(error, PlanStale) else None


async def _not_ready(request: Request, error: Exception) -> Response:
    return problem(
        request,
        HTTPStatus.SERVICE_UNAVAILABLE,
        "not-ready",
        "The service is not ready",
        str(error),
        missing=vars(error)["missing"],
    )


async def _invalid_request(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    sentences = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in found]
    return problem(
        request,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-request",
        "The request is not as the API takes it",
        "; ".join(sentences),
        problems=sentences,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return await _unexpected(request, error)
    title = _phrase(error.status_code)
    kind = title.lower().replace(" ", "-")
    answer = problem(request, error.status_code, kind, title, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("request_failed", exc_info=error, extra={"path": request.url.path, **_of(request)})
    return problem(
        request,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal",
        "Something went wrong here",
        "The log of the server says more under the request id.",
    )


def _of(request: Request) -> dict[str, str]:
    return {"request_id": request.state.request_id}


def _phrase(status: int) -> str:
    return RENAMED.get(status, HTTPStatus(status).phrase)


def handle_problems(app: FastAPI) -> None:
    """Let every error of an application be answered with problem details."""
    app.add_exception_handler(LedgerError, _ledger_error)
    app.add_exception_handler(NotReady, _not_ready)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of routes that answer with these statuses when something is wrong."""
    return {status: {"model": Problem, "description": _phrase(status)} for status in statuses}
