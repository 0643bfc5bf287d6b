"""Do something again and again, in one process at a time, until told to stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from domain.model.errors import LedgerError
from domain.ports import Leaders
from domain.use_cases.concurrently import told_to

logger = logging.getLogger("migration_ledger.regularly")

RETRY_SECONDS = 5.0


async def regularly(
    leaders: Leaders,
    what: str,
    holder: str,
    stop: asyncio.Event,
    once: Callable[[], Awaitable[float]],
) -> None:
    """Call `once` again and again; what cannot be done now is tried again.

    Args:
        leaders: see that one process does it at a time.
        what: name of the work.
        holder: name of this process.
        stop: set when it is to end. The call under way is cancelled then, so it must leave nothing
            half done.
        once: does it, and returns in how many seconds it is to be called again.
    """
    working = asyncio.create_task(_on_and_on(leaders, what, holder, once))
    try:
        await told_to(stop, working)
    finally:
        working.cancel()
        await asyncio.wait({working})


async def _on_and_on(
    leaders: Leaders, what: str, holder: str, once: Callable[[], Awaitable[float]]
) -> None:
    while True:
        try:
            async with leaders.lead(what, holder):
                while True:
                    await asyncio.sleep(await once())
        except LedgerError as error:
            logger.warning("waits", extra={"what": what, "error": str(error)})
            await asyncio.sleep(RETRY_SECONDS)
