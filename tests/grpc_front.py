"""A gRPC server in front of another one, which a test lets delay, refuse or alter calls."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import grpc
import grpc.aio

_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


@dataclass(frozen=True)
class Refusal:
    """What a call is answered instead.

    Attributes:
        code: gRPC status code.
        details: for people.
        metadata: trailing.
    """

    code: Any
    details: str
    metadata: tuple[tuple[str, str], ...] = ()


class GrpcFront:
    """Listens on a loopback port and passes calls on.

    Attributes:
        url: where it listens.
        delay: seconds that each call is held up.
        calls: methods that were called, such as ``Points/Upsert``.
        refuse: looks at a method and its request before it is passed on.
        alter: looks at a method and its answer before that is passed on.
    """

    def __init__(self, target: str, *, delay: float = 0.0) -> None:
        self.url = ""
        self.delay = delay
        self.calls: list[str] = []
        self.refuse: Callable[[str, bytes], Refusal | None] = lambda _method, _request: None
        self.alter: Callable[[str, bytes], bytes] = lambda _method, answer: answer
        self._target = target
        self._server: Any = None
        self._channel: Any = None

    async def __aenter__(self) -> Self:
        parts = urlsplit(self._target)
        self._channel = grpc.aio.insecure_channel(
            f"{parts.hostname}:{parts.port}", options=_OPTIONS
        )
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_Everything(self._pass_on),))
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._server.stop(None)
        await self._channel.close()

    async def _pass_on(self, path: str, request: bytes, context: Any) -> bytes:
        method = path.removeprefix("/qdrant.")
        self.calls.append(method)
        if self.delay:
            await asyncio.sleep(self.delay)
        refusal = self.refuse(method, request)
        if refusal is not None:
            await context.abort(refusal.code, refusal.details, refusal.metadata)
        try:
            answer: bytes = await self._channel.unary_unary(path)(
                request, timeout=context.time_remaining()
            )
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
        return self.alter(method, answer)


class _Everything(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Takes every method, with its bytes as they are."""

    def __init__(self, answer: Callable[[str, bytes, Any], Awaitable[bytes]]) -> None:
        self._answer = answer

    def service(self, details: Any) -> Any:
        """The handler of a call."""

        async def behave(request: bytes, context: Any) -> bytes:
            return await self._answer(details.method, request, context)

        return grpc.unary_unary_rpc_method_handler(behave)
