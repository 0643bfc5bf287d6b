"""Decide how long one can go back to the versions of a collection."""

from collections.abc import Callable
from functools import partial
from uuid import uuid4

from domain.model.aggregate import Context
from domain.model.retention import Retention
from domain.ports import Leaders
from domain.use_cases.tools import Tools, save_first, update
from domain.use_cases.versions import generations_of

HOLDING = "holding"
"""Who has this role alone knows which holds there are: none is placed meanwhile."""


async def place_hold(
    tools: Tools, leaders: Leaders, store: str, name: str, hold: str, context: Context
) -> Retention:
    """Let nothing of a collection be archived or erased from now on; again changes nothing.

    An erasure that is just being recorded is waited for.

    Raises:
        NotFound: there is no such collection.
    """
    place = partial(Retention.place_hold, hold=hold)
    async with leaders.lead(HOLDING, f"hold-{uuid4()}"):
        return await decide_retention(tools, store, name, context, place)


async def decide_retention(
    tools: Tools, store: str, name: str, context: Context, decide: Callable[[Retention], None]
) -> Retention:
    """Let somebody decide about the versions of a collection, and record that.

    Args:
        tools: the ports.
        store: name of the store connection.
        name: of the collection: logical, physical, or an alias.
        context: who decides, and why.
        decide: what.

    Raises:
        NotFound: there is no such collection.
        Rejected: the decision is impossible.
    """
    collection = (await generations_of(tools, store, name))[-1].collection
    stream = Retention.create_id(store, collection)
    if await tools.ledger.load(Retention, stream) is None:
        first = Retention(store, collection)
        decide(first)
        if await save_first(tools.ledger, first, f"retention/{uuid4()}", context):
            return first
    key = f"retention/{uuid4()}"
    return await update(tools.ledger, Retention, stream, key, context, decide)
