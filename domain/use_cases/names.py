"""What a name stands for in a store, also while the store does not answer or is gone."""

from collections.abc import Mapping

from domain.model.errors import NotFound, Unavailable
from domain.model.generation import Generation
from domain.use_cases.tools import Tools, topic_events


async def physical_name(tools: Tools, store: str, name: str) -> str:
    """What a name stands for: itself, or what it is an alias of.

    Raises:
        NotFound: no such store is configured, nor does the ledger know the name in it.
        Unavailable: the store does not answer, and the ledger does not know the name.
    """
    return (await aliases_of(tools, store, name)).get(name, name)


async def aliases_of(tools: Tools, store: str, name: str) -> Mapping[str, str]:
    """The aliases of a store; without it those that the ledger recorded, if it knows a name.

    Raises:
        NotFound: no such store is configured, nor does the ledger know the name in it.
        Unavailable: the store does not answer, and the ledger does not know the name.
    """
    try:
        return await tools.stores.store(store).aliases()
    except (NotFound, Unavailable):
        recorded = await recorded_aliases(tools)
        aliases = {alias: to for (of, alias), to in recorded.items() if of == store and to}
        known = await tools.applications.generations(store=store)
        names = {name for status in known for name in (status.collection, status.physical)}
        if name not in names | aliases.keys():
            raise
        return aliases


async def recorded_aliases(tools: Tools) -> dict[tuple[str, str], str | None]:
    """The collection of each store and alias by the ledger; None if it has none of ours."""
    known = {status.generation: status for status in await tools.applications.generations()}
    decided: dict[tuple[str, str], str | None] = {}
    async for recorded in topic_events(tools.ledger, "generation.alias-"):
        status, event = known[recorded.stream], recorded.event
        if isinstance(event, Generation.AliasPointed):
            decided[status.store, event.alias] = None if status.gone else status.physical
        elif isinstance(event, Generation.AliasRemoved):
            place = status.store, event.alias
            if decided.get(place) in {None, status.physical}:
                decided[place] = event.restore
    return decided
