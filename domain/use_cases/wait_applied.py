"""Wait until a store has what is recorded."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from uuid import UUID

from domain.model.errors import Conflict
from domain.use_cases.tools import Tools


class Wait(StrEnum):
    """What a write waits for."""

    DURABLE = "durable"
    READABLE = "readable"


LOOK_SECONDS = 0.5
"""How long to wait for news before looking again; receipts are events, so news come at once."""


async def wait_applied(
    tools: Tools,
    generation: UUID,
    through: int,
    silence: Callable[[], Awaitable[None]] | None = None,
    patience: float = 15.0,
    *,
    gone_too: bool = False,
) -> None:
    """Return when a generation is applied up to a version.

    Args:
        tools: the ports.
        generation: its stream.
        through: version of that stream.
        silence: is called when nothing was applied for a while; what it raises is raised. Without
            it this waits for as long as it takes.
        patience: seconds of that while.
        gone_too: whether to wait for a collection that was dropped or released, too.

    Raises:
        Conflict: the store refuses a change, or the collection was dropped meanwhile.
        Halted: work is halted.
    """
    quiet, applied = 0.0, -1
    while True:
        seen = (await tools.ledger.head()).position
        status = await tools.applications.status(generation)
        if status is None or (status.gone and not gone_too):
            raise Conflict(f"generation {generation} was dropped or released meanwhile")
        if status.applied >= through:
            return
        if status.halted_at is not None:
            raise Conflict(
                f"collection {status.physical!r} halts at change {status.halted_at}, which the "
                "store refuses; see `dead-letter list`"
            )
        await tools.ledger.working()
        quiet = 0.0 if status.applied > applied else quiet
        applied = status.applied
        if silence is not None and quiet > patience:
            await silence()
            quiet = 0.0
        before = asyncio.get_running_loop().time()
        await tools.ledger.wait(seen, LOOK_SECONDS)
        quiet += asyncio.get_running_loop().time() - before
