"""Calls: each with a deadline, bounded retries, and errors that say what was tried where."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
import grpc.aio

from adapters.qdrant.endpoint import GRPC_PORT, Endpoint
from adapters.qdrant_grpc import qdrant
from domain.model.errors import (
    Conflict,
    DiskFull,
    LedgerError,
    NotFound,
    Rejected,
    Throttled,
    Unavailable,
)
from domain.ports import LEASE_ENDS

FIRST_BACK_OFF = 0.1
LONGEST_BACK_OFF = 2.0
LONGEST_RETRY_AFTER = 60.0
"""Seconds; Qdrant's limits are per minute, so it asks for no longer wait."""

_Code = grpc.StatusCode

# The store refuses; asking again would not help. Every other code is retried.
_REFUSED = frozenset(
    {
        _Code.INVALID_ARGUMENT,
        _Code.ALREADY_EXISTS,
        _Code.OUT_OF_RANGE,
        _Code.UNIMPLEMENTED,
        _Code.UNAUTHENTICATED,
        _Code.PERMISSION_DENIED,
        _Code.NOT_FOUND,
    }
)

# Of RESOURCE_EXHAUSTED: the message exceeds gRPC's limit, or its points those of a minute.
_TOO_LARGE = ("larger than max", "larger than rate limiter", "larger than than rate limiter")


@dataclass(frozen=True)
class Failure:
    """A try that did not succeed.

    Attributes:
        reason: for people.
        error: what to raise if it is final, or None if another try may help.
        wait: seconds that the server wants us to wait, or 0.
        full: the server's disk is.
        cause: what the driver raised, or None.
    """

    reason: str
    error: type[Rejected] | None = None
    wait: float = 0.0
    full: bool = False
    cause: BaseException | None = None


class Calls:
    """Sends requests to one server.

    Args:
        endpoint: of the server.
        deadline: seconds for one try of a call.
        attempts: tries of a call, at least 1.
        random: draws the jitter of the back-off.
        sleep: waits between tries.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        deadline: float,
        attempts: int,
        random: Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._deadline = deadline
        self._attempts = max(attempts, 1)
        self._random = random
        self._sleep = sleep
        self._answered = False

    async def send(
        self, method: Any, request: Any, *, what: str, deadline: float | None = None
    ) -> Any:
        """The answer of a call, after retries where they may help.

        Args:
            method: of a generated stub.
            request: its message; a `timeout` field that is not set gets the deadline.
            what: the operation and its collection, for errors.
            deadline: seconds for one try, if not the usual.

        Raises:
            Unavailable: no try succeeded.
            Throttled: the server takes no more for now.
            DiskFull: its disk is full.
            Conflict: the caller's lease is over, so nothing was sent.
            NotFound: what the request names does not exist.
            Rejected: the server refuses the request.
        """
        seconds = deadline or self._deadline
        if "timeout" in request.DESCRIPTOR.fields_by_name and not request.HasField("timeout"):
            request.timeout = max(1, int(seconds))
        for attempt in range(1, self._attempts + 1):
            answer = await self._try(method, request, seconds)
            if not isinstance(answer, Failure):
                self._answered = True
                return answer
            final = attempt == self._attempts or answer.wait > LONGEST_RETRY_AFTER
            if answer.error or final:
                raise self._error(answer, what, attempt) from answer.cause
            await self._sleep(max(answer.wait, self._back_off(attempt)))
        raise AssertionError

    def _back_off(self, attempt: int) -> float:
        """Seconds, exponential with full jitter."""
        longest = min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2 ** (attempt - 1))
        return self._random.uniform(0, longest)

    async def _try(self, method: Any, request: Any, seconds: float) -> Any:
        ends = LEASE_ENDS.get()
        if ends is not None and asyncio.get_running_loop().time() >= ends():
            raise Conflict("the lease ran out before a call was sent")
        try:
            answer = await method(request, timeout=seconds, metadata=self._endpoint.metadata)
        except grpc.aio.AioRpcError as exc:
            return _failure(exc, seconds)
        return _incomplete(answer) or answer

    def _error(self, failure: Failure, what: str, attempts: int) -> LedgerError:
        where = f"{what} at {self._endpoint.url}"
        if failure.full:
            return DiskFull(where, failure.reason)
        text = f"{where}: {failure.reason}"
        if failure.wait:
            return Throttled(text, failure.wait)
        if failure.error is None:
            text += f" (tried {attempts} times)" if attempts > 1 else ""
        if not self._answered and failure.error in {None, Rejected}:
            text += f". It never answered as Qdrant does: is this the gRPC port ({GRPC_PORT})?"
        return (failure.error or Unavailable)(text)


def _incomplete(answer: Any) -> Failure | None:
    """Writes are answered with a status; only `Completed` is durable and visible."""
    if not isinstance(answer, qdrant.PointsOperationResponse):
        return None
    status = answer.result.status
    if status == qdrant.UpdateStatus.Completed:
        return None
    names = {number: name for name, number in qdrant.UpdateStatus.items()}
    return Failure(f"the write was not completed, its status is {names.get(status, status)}")


def _failure(exc: Any, seconds: float) -> Failure:
    code, details = exc.code(), str(exc.details() or "")
    reason = f"{code.name} {details}".rstrip()
    if code is _Code.DEADLINE_EXCEEDED:
        return Failure(f"no answer within {seconds:g} s ({reason})", cause=exc)
    if code is _Code.RESOURCE_EXHAUSTED:
        error = Rejected if any(words in details for words in _TOO_LARGE) else None
        return Failure(reason, error=error, wait=_retry_after(exc), cause=exc)
    if code not in _REFUSED:
        return Failure(reason, full="No space left on device" in details, cause=exc)
    missing = "ollection" in details and "doesn't exist" in details
    if code is _Code.NOT_FOUND or missing:
        return Failure(details, error=NotFound, cause=exc)
    if code is _Code.UNIMPLEMENTED:
        reason = f"the server does not have this call ({reason})"
    if code in {_Code.UNAUTHENTICATED, _Code.PERMISSION_DENIED}:
        reason = f"the server refuses our credentials ({reason})"
    return Failure(reason, error=Rejected, cause=exc)


def _retry_after(exc: Any) -> float:
    for name, value in exc.trailing_metadata() or ():
        if name in {"retry-after", "retry_after"}:
            try:
                return max(0.0, float(value))
            except ValueError:
                return 0.0
    return 0.0
