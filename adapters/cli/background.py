"""Wait for what may never come, such as input; the end of a command does not wait for it."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_NAME = "in the background"


async def in_background(call: Callable[[], T]) -> T:
    """What a call returns, in a thread that nobody waits for when the command is interrupted."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(how: Callable[[Any], None], what: Any) -> None:
        if not future.done():
            how(what)

    def tell(how: Callable[[Any], None], what: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, how, what)

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  # it is raised where somebody waits
            tell(future.set_exception, error)
        else:
            tell(future.set_result, result)

    threading.Thread(target=run, name=_NAME, daemon=True).start()
    return await future


def still_waits() -> bool:
    """Whether such a call has not returned; it may hold a lock that the interpreter's end needs."""
    return any(thread.name == _NAME for thread in threading.enumerate())
