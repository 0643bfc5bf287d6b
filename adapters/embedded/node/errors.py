"""What the node answers when it does not do what it was asked, in Qdrant's codes and wording."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc


class RefusalError(Exception):
    """An answer other than success.

    Attributes:
        code: the gRPC status code.
        message: what the caller reads.
    """

    def __init__(self, code: Any, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def wrong_input(message: str) -> RefusalError:
    """The request is wrong; nothing of it was applied."""
    return RefusalError(grpc.StatusCode.INVALID_ARGUMENT, f"Wrong input: {message}")


def not_found(message: str) -> RefusalError:
    """The request names something that is not there."""
    return RefusalError(grpc.StatusCode.NOT_FOUND, f"Not found: {message}")


def no_collection(name: str) -> RefusalError:
    """No collection and no alias has this name."""
    return not_found(f"Collection `{name}` doesn't exist!")


def no_point(point_id: object) -> RefusalError:
    """An operation needs a point that is not in the collection."""
    return not_found(f"No point with id {point_id} found")


def collection_exists(name: str) -> RefusalError:
    """The name is taken by a collection."""
    return RefusalError(
        grpc.StatusCode.ALREADY_EXISTS, f"Wrong input: Collection `{name}` already exists!"
    )


def unsupported(feature: str) -> RefusalError:
    """Qdrant can do it and this node cannot."""
    return RefusalError(
        grpc.StatusCode.UNIMPLEMENTED, f"{feature} is not implemented by the embedded node"
    )


def deadline_over() -> RefusalError:
    """The caller has stopped waiting, so nothing was applied."""
    return RefusalError(
        grpc.StatusCode.DEADLINE_EXCEEDED, "The deadline was over before the call started"
    )


def disk_full(folder: Path | str, free: int, needed: int) -> RefusalError:
    """There is no room for a write, so nothing of it was applied."""
    return _no_space(f"{folder} has {free / 2**20:.1f} MB free and needs {needed / 2**20:.1f} MB")


def _no_space(reason: str) -> RefusalError:
    return RefusalError(
        grpc.StatusCode.INTERNAL, f"Service internal error: No space left on device: {reason}"
    )


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn what the engine and the file system raise into an answer.

    Edge raises bare `Exception`s and `ValueError`s whose text is the display form of Qdrant's
    `OperationError`: those that start with "Service" are its own failures, others are the
    caller's.

    Raises:
        RefusalError: with the engine's text.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _no_space(str(exc.filename or exc.strerror)) from exc
        raise
    except Exception as exc:
        if type(exc) not in (Exception, ValueError):
            raise
        text = str(exc)
        if text.startswith("Service"):
            raise RefusalError(grpc.StatusCode.INTERNAL, text) from exc
        if text.startswith("No point with id"):
            raise not_found(text) from exc
        raise wrong_input(text) from exc
