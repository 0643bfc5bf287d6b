"""What every request gets before its route sees it: an id, and a limit to its body."""

import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT = 1024 * 1024
POINTS_LIMIT = 32 * 1024 * 1024
"""Of requests that write points."""

_WRITES_POINTS = re.compile(r"/v1/collections/[^/]+/points(/[a-z]+)?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,200}")
_TOO_LARGE = 413


class Envelope:
    """Names each request, limits its body, and keeps answers out of caches.

    `X-Request-Id` is taken from the request, or made; the answer and the logs have it, and events
    have it as their causation id.

    Args:
        app: the application.
        body_limit: bytes, of requests that do not write points.
    """

    def __init__(self, app: ASGIApp, body_limit: int = BODY_LIMIT) -> None:
        self._app = app
        self._limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        name = given if _REQUEST_ID.fullmatch(given) else str(uuid4())
        scope.setdefault("state", {})["request_id"] = name

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                answered["X-Request-Id"] = name
                answered.setdefault("Cache-Control", "no-store")
            await send(message)

        limit = POINTS_LIMIT if _WRITES_POINTS.fullmatch(scope["path"]) else self._limit
        await self._app(scope, self._limited(receive, limit), named)

    def _limited(self, receive: Receive, limit: int) -> Receive:
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(_TOO_LARGE, f"a request body has {limit} bytes at most")
            return message

        return limited
