"""Changes that appliers find recorded and published, and may all begin at one moment."""

import asyncio
import re
from collections.abc import Sequence
from itertools import chain
from uuid import UUID

from adapters.kafka.topics import CHANGES
from bench.migrating import WHO
from bench.servers import Running
from domain.model.generation import Generation
from domain.model.schema import CollectionSchema
from domain.use_cases.relay import CURSOR
from domain.use_cases.tools import save

HOLDER = "bench"
LEASE_SECONDS = 600.0
POLL_SECONDS = 0.05
_ASSIGNED = re.compile(r" assigned .*partitions=\[([^\]]*)\]")


async def held_generation(stack: Running, name: str, schema: CollectionSchema) -> UUID:
    """A new generation that no applier may begin; none may be running.

    Raises:
        RuntimeError: an applier was first.
    """
    generation = Generation(
        collection=name,
        store="default",
        physical=name,
        number=1,
        schema=schema.to_json(),
        origin="created",
    )
    await save(stack.service.ledger, generation, f"create/{name}", WHO)
    applications = stack.service.applications
    if await applications.acquire(generation.id, HOLDER, LEASE_SECONDS, 0.0) is None:
        raise RuntimeError(f"an applier has begun {name}")
    return generation.id


async def start_appliers(stack: Running, numbers: Sequence[int]) -> list[str]:
    """Start appliers and let them begin when all is published and each has its partitions."""
    names = [await stack.start_worker("applier", number) for number in numbers]
    head = (await stack.service.ledger.head()).position
    while (await stack.service.cursors.get(CURSOR)).position < head or not _joined(stack, names):
        await asyncio.sleep(POLL_SECONDS)
    await stack.service.applications.release(HOLDER)
    return names


def _joined(stack: Running, names: Sequence[str]) -> bool:
    """Whether every partition is with one of these appliers, and each has some."""
    given = [_last_assigned(stack.supervisor.log_path(name).read_text()) for name in names]
    return all(given) and sorted(chain(*given)) == list(range(CHANGES.partitions))


def _last_assigned(log: str) -> list[int]:
    found = _ASSIGNED.findall(log)
    return [int(number) for number in found[-1].split(",") if number] if found else []
