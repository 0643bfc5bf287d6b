"""Holding the writes of applications to a generation, in the name of a migration."""

from collections.abc import Callable
from functools import partial
from uuid import UUID, uuid4

from domain.model.aggregate import Context
from domain.model.generation import Generation
from domain.use_cases.tools import Tools, update


async def hold_writes(
    tools: Tools, generation: UUID, migration: UUID, context: Context, *, alone: bool = False
) -> None:
    """Refuse live writes to a generation; again changes nothing.

    Raises:
        WritesHeld: others hold them already, and this migration is to be `alone`.
    """
    hold = partial(Generation.hold_writes, alone=alone)
    await _decide(tools, generation, migration, context, hold)


async def resume_writes(tools: Tools, generation: UUID, migration: UUID, context: Context) -> None:
    """Let live writes to a generation go on, as far as this migration goes."""
    await _decide(tools, generation, migration, context, Generation.resume_writes)


async def _decide(
    tools: Tools,
    generation: UUID,
    migration: UUID,
    context: Context,
    decide: Callable[[Generation, str], None],
) -> None:
    key = f"migration/{migration}/holds/{generation}/{uuid4()}"  # it may be held more than once
    await update(
        tools.ledger, Generation, generation, key, context, lambda g: decide(g, str(migration))
    )
