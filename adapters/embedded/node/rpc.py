"""Calls: from a protobuf service's description and our handlers to a gRPC service.

Methods are read from the service's own descriptor, so a method without a handler answers with its
name, and nothing of the protocol is written twice.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from adapters.embedded.node.errors import (
    RefusalError,
    deadline_over,
    engine_errors,
    unsupported,
)
from adapters.qdrant_grpc import qdrant

log = logging.getLogger(__name__)


class Call:
    """One call in flight, as far as a handler may ask about it."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def ensure_live(self) -> None:
        """Go on only if somebody still waits for the answer.

        Raises:
            RefusalError: the deadline is over or the caller went away.
        """
        left = self._context.time_remaining()
        if not self._context.is_active() or (left is not None and left <= 0):
            raise deadline_over()


Handler = Callable[[Any, Call], Any]


def service(descriptor: Any, handlers: Mapping[str, Handler]) -> Any:
    """A generic gRPC handler for every method of a service.

    Args:
        descriptor: the protobuf `ServiceDescriptor`.
        handlers: what to do, by method name; the others are answered as unimplemented.
    """
    return grpc.method_handlers_generic_handler(
        descriptor.full_name,
        {
            method.name: grpc.unary_unary_rpc_method_handler(
                _answering(method, handlers.get(method.name)),
                request_deserializer=getattr(qdrant, method.input_type.name).FromString,
                response_serializer=getattr(qdrant, method.output_type.name).SerializeToString,
            )
            for method in descriptor.methods
        },
    )


def _answering(method: Any, handler: Handler | None) -> Callable[[Any, Any], Any]:
    timed = "time" in method.output_type.fields_by_name

    def refuse(_request: Any, _call: Call) -> Any:
        raise unsupported(method.full_name)

    handle = handler or refuse

    def answer(request: Any, context: Any) -> Any:
        started = time.perf_counter()
        call = Call(context)
        try:
            call.ensure_live()
            with engine_errors():
                response = handle(request, call)
        except RefusalError as refusal:
            context.abort(refusal.code, refusal.message)
        except Exception as exc:
            log.exception("call_failed method=%s", method.full_name)
            context.abort(grpc.StatusCode.INTERNAL, f"Service internal error: {type(exc).__name__}")
        if timed:
            response.time = time.perf_counter() - started
        return response

    return answer
